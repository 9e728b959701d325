"""The real Envoy with our configuration, over replicas whose faults are made: who is asked, and how often."""

import json
import threading
import urllib.error
import urllib.request

import grpc
import pytest
from tritonclient.grpc import service_pb2 as messages

from fakes.balancers import Balancer, code_of
from fakes.ports import free_ports
from fakes.replicas import NOT_SERVING, PATIENCE, SERVING, Hold, Replica, calls_of, cut, fail, fail_first
from trireme.scale import endpoints
from trireme.scale.routes import REFUSAL

MODELS = {
    "llm": {"serves": ["llm"], "maxRequests": 2},
    "retrieval": {"serves": ["embedding", "rag"], "idempotent": ["embedding"], "default": True},
}
IDEMPOTENT, OTHER, STREAMED = "embedding", "rag", "rag"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture(scope="module")
def balancer(tmp_path_factory):
    running = Balancer(tmp_path_factory.mktemp("envoy"), MODELS, keepaliveIntervalSeconds=0.1)
    yield running
    running.close()


@pytest.fixture
def balancers(tmp_path):
    """Makes Envoys with settings of their own."""
    made = []

    def make(models=MODELS, **settings):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Balancer(folder, models, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


# Who is asked


def test_a_replica_that_is_busy_is_not_asked_while_another_is_idle(balancer, replicas):
    some, hold = replicas(3), Hold()
    balancer.place(*some)
    for one in some:
        one.infer = hold.infer
    held = []
    for _ in range(2):
        held.append(balancer.start(OTHER))
        hold.wait_for(1)
    (idle,) = (one for one in some if not one.calls)
    idle.infer = lambda request, context: messages.ModelInferResponse(id="now")
    assert [balancer.infer(OTHER).id for _ in range(20)] == ["now"] * 20
    assert sorted(calls_of(some)) == [1, 1, 20]
    hold.end.set()
    assert [one.result().id for one in held] == ["late", "late"]


def test_a_call_goes_to_the_servers_of_the_model_that_it_names_and_else_to_the_default(balancer, replicas):
    llm, retrieval = replicas(2)
    balancer.place(llm, entry="llm")
    balancer.place(retrieval)
    balancer.infer("llm")
    balancer.stream("llm")
    assert calls_of([llm, retrieval]) == [2, 0]
    for name in ("", OTHER, "unheard-of"):
        balancer.infer(name)
    assert calls_of([llm, retrieval]) == [2, 3]


def test_a_call_that_changes_one_replica_alone_is_refused(balancer, replicas):
    (one,) = replicas(1)
    balancer.place(one)
    with pytest.raises(grpc.RpcError) as raised:
        balancer.stub.RepositoryModelUnload(messages.RepositoryModelUnloadRequest(model_name=OTHER))
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, REFUSAL)
    assert one.other_calls == 0
    assert balancer.stub.ServerReady(messages.ServerReadyRequest()).ready


def test_a_draining_replica_gets_no_call_and_its_open_stream_ends_whole(balancer, replicas):
    (old, new), hold = replicas(2), Hold()
    old.stream = hold.stream
    balancer.place(old)
    stream = balancer.open_stream(STREAMED)
    assert next(stream).infer_response.id == "one"
    balancer.place(old.endpoint(state="draining"), new)
    for _ in range(10):
        balancer.infer(IDEMPOTENT)
    assert calls_of([old, new]) == [1, 10]
    # Even when it is no longer named.
    balancer.place(new)
    balancer.wait_until(lambda: old.port not in balancer.hosts())
    hold.end.set()
    assert [part.infer_response.id for part in stream] == ["two"]


def test_replicas_that_all_drain_get_no_call(balancer, replicas):
    some = replicas(2)
    balancer.place(*(one.endpoint(state="draining") for one in some))
    assert code_of(lambda: balancer.infer(IDEMPOTENT)) == "UNAVAILABLE"
    assert calls_of(some) == [0, 0]


def test_a_replica_whose_agent_says_that_it_does_not_serve_is_left_and_comes_back(balancer, replicas):
    some = first, second = replicas(2)
    balancer.place(*some)
    first.health = NOT_SERVING
    balancer.wait_until(lambda: balancer.is_out(first) and balancer.leaves(first))
    before = calls_of(some)
    for _ in range(10):
        balancer.infer(OTHER)
    assert calls_of(some) == [before[0], before[1] + 10]
    first.health = SERVING
    balancer.wait_until(lambda: not balancer.is_out(first))
    second.health = NOT_SERVING
    balancer.wait_until(lambda: balancer.is_out(second) and balancer.leaves(second))
    before = calls_of(some)
    balancer.infer(OTHER)
    assert calls_of(some) == [before[0] + 1, before[1]]


def test_replicas_are_weighed_by_the_load_that_their_agents_report(balancers, replicas):
    balancer = balancers(balancing="orca", orcaSeconds=0.1, agentPort=free_ports(1)[0])
    port = balancer.values.envoy.agent_port
    idle, busy = (Replica(host, port) for host in ("127.0.0.2", "127.0.0.3"))
    try:
        idle.utilization, busy.utilization = 0.1, 0.9
        balancer.place(idle, busy)

        def share_of(replica):
            before = replica.calls
            for _ in range(20):
                balancer.infer(OTHER)
            return replica.calls - before

        # The weights say 18.
        balancer.wait_until(lambda: 17 <= share_of(idle) <= 19)
        idle.utilization, busy.utilization = 0.9, 0.1
        balancer.wait_until(lambda: 17 <= share_of(busy) <= 19)
    finally:
        idle.close()
        busy.close()


def test_without_a_folder_of_endpoints_envoy_asks_dns(balancers, replicas):
    (one,) = replicas(1)
    # One entry: several would be replicas of one behind a name without {model}.
    models = {name: MODELS[name] for name in ("retrieval",)}
    ports = {"serverPort": one.port, "agentPort": one.own_port}
    balancer = balancers(models, has_files=False, service="localhost", **ports)
    # Where localhost has an address of IPv6 too, nobody answers there.
    balancer.wait_until(lambda: balancer.stat("cluster.retrieval.membership_healthy") == 1)
    balancer.infer()
    assert one.calls == 1


def test_without_an_agent_the_server_itself_is_asked_for_its_health(balancer, replicas):
    (one,) = replicas(1)
    balancer.place(endpoints.Endpoint("127.0.0.1", one.own_port))
    balancer.infer()
    assert one.calls == 1


# What is asked again


def test_unavailable_is_asked_again_elsewhere_and_who_says_it_too_often_is_left(balancer, replicas):
    bad, good = replicas(2)
    bad.infer = fail(grpc.StatusCode.UNAVAILABLE)
    balancer.place(bad, good)
    for _ in range(200):
        balancer.infer(IDEMPOTENT)
    assert good.calls == 200
    # By chance 100; Envoy counts them beside the calls, so that a few may come after the twentieth.
    assert 20 <= bad.calls < 60


def test_a_replica_that_is_alone_is_asked_however_often_it_is_unavailable(balancer, replicas):
    (one,) = replicas(1)
    one.infer = fail(grpc.StatusCode.UNAVAILABLE)
    balancer.place(one)
    for _ in range(30):
        assert code_of(lambda: balancer.infer(OTHER)) == "UNAVAILABLE"
    assert one.calls == 30


def test_a_call_that_may_not_be_sent_twice_is_sent_once(balancer, replicas):
    for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL):
        some = replicas(2)
        for one in some:
            one.infer = fail(code)
        balancer.place(*some)
        assert code_of(lambda: balancer.infer(OTHER)) == code.name
        assert sum(calls_of(some)) == 1


def test_internal_errors_are_not_asked_again_and_nobody_is_left_for_them(balancer, replicas):
    some = bad, _ = replicas(2)
    bad.infer = fail(grpc.StatusCode.INTERNAL)
    balancer.place(bad)
    for _ in range(10):
        assert code_of(lambda: balancer.infer(IDEMPOTENT)) == "INTERNAL"
    assert calls_of(some) == [10, 0]


def test_an_idempotent_call_whose_connection_breaks_is_sent_to_another_replica(balancer, replicas):
    some = replicas(2)
    fail_first(some, cut)
    balancer.place(*some)
    assert balancer.infer(IDEMPOTENT).id == "answered"
    assert calls_of(some) == [1, 1]


@pytest.mark.parametrize("metadata", [(), (("x-envoy-retry-on", "reset"), ("x-envoy-max-retries", "3"))])
def test_another_call_whose_connection_breaks_fails_whatever_its_client_says(balancer, replicas, metadata):
    some = replicas(2)
    fail_first(some, cut)
    balancer.place(*some)
    assert code_of(lambda: balancer.infer(OTHER, metadata)) == "UNAVAILABLE"
    assert sum(calls_of(some)) == 1


def test_a_replica_that_is_not_there_costs_no_call(balancer, replicas):
    gone, good = replicas(2)
    balancer.place(gone, good)
    # Its agent still says that it serves.
    gone.vanish()
    ejected = "cluster.retrieval.outlier_detection.ejections_enforced_consecutive_local_origin_failure"
    before = balancer.stat(ejected)
    for _ in range(100):
        balancer.infer(OTHER)
    assert calls_of([gone, good]) == [0, 100]
    assert balancer.stat(ejected) == before + 1


def test_without_a_retry_budget_nothing_is_asked_again(balancers, replicas):
    balancer = balancers(retryBudgetPercent=0, minRetryConcurrency=0)
    some = replicas(2)
    for one in some:
        one.infer = fail(grpc.StatusCode.UNAVAILABLE)
    balancer.place(*some)
    assert code_of(lambda: balancer.infer(IDEMPOTENT)) == "UNAVAILABLE"
    assert sum(calls_of(some)) == 1
    assert balancer.stat("cluster.retrieval.upstream_rq_retry_overflow") == 1


def test_more_calls_than_an_entry_takes_are_refused_at_once(balancer, replicas):
    (one,), hold = replicas(1), Hold()
    one.infer = hold.infer
    balancer.place(one, entry="llm")
    held = [balancer.start("llm") for _ in range(2)]
    hold.wait_for(2)
    assert balancer.stat("cluster.llm.circuit_breakers.default.remaining_rq") == 0
    assert code_of(lambda: balancer.infer("llm")) == "UNAVAILABLE"
    assert one.calls == 2
    hold.end.set()
    assert [call.result().id for call in held] == ["late", "late"]


@pytest.mark.parametrize("hedging", [False, True])
def test_an_idempotent_call_that_takes_too_long_is_made_anew(balancers, replicas, hedging):
    balancer = balancers(perTryTimeoutSeconds=1, hedging=hedging)
    some, hold = replicas(2), Hold()
    contexts = []

    def wait(replica, context):
        contexts.append(context)
        hold.begun.release()
        assert hold.end.wait(PATIENCE)

    fail_first(some, wait)
    balancer.place(*some)
    assert balancer.infer(IDEMPOTENT).id == "answered"
    assert min(calls_of(some)) > 0
    # What came too late is cancelled, with hedging when the other one has answered.
    balancer.wait_until(lambda: not contexts[0].is_active())
    hold.end.set()


def test_an_entry_may_have_a_time_of_its_own_for_a_try(balancers, replicas):
    patient = {"serves": ["embedding"], "idempotent": ["embedding"], "perTryTimeoutSeconds": 0}
    balancer = balancers({"one": patient}, perTryTimeoutSeconds=0.01)
    (one,) = replicas(1)
    one.infer = lambda request, context: threading.Event().wait(0.5) or messages.ModelInferResponse(id="slow")
    balancer.place(one)
    assert balancer.infer("embedding").id == "slow"
    assert one.calls == 1


def test_impatient_clients_cost_no_replica_its_calls(balancer, replicas):
    some, hold = replicas(2), Hold()
    for one in some:
        one.infer = hold.infer
    balancer.place(*some)
    ejected = "cluster.retrieval.outlier_detection.ejections_enforced_total"
    before = balancer.stat(ejected)
    for _ in range(60):
        assert code_of(lambda: balancer.infer(OTHER, timeout=0.02)) == "DEADLINE_EXCEEDED"
    hold.end.set()
    assert balancer.stat(ejected) == before


# Streams


@pytest.mark.parametrize("how", ["unavailable", "reset"])
@pytest.mark.parametrize("is_open", [False, True], ids=["sent", "open"])
def test_a_stream_that_fails_before_its_first_message_begins_elsewhere(balancer, replicas, how, is_open):
    some = replicas(2)
    fail_first(
        some, cut if how == "reset" else lambda replica, context: context.abort(UNAVAILABLE, "as told")
    )
    balancer.place(*some)
    over = threading.Event()

    def requests():
        yield messages.ModelInferRequest(model_name=STREAMED)
        # As tritonclient's streams do: more requests may come.
        if is_open:
            assert over.wait(PATIENCE)

    stream = balancer.open_stream(STREAMED, requests())
    assert [next(stream).infer_response.id for _ in range(2)] == ["one", "two"]
    over.set()
    assert calls_of(some) == [1, 1]


@pytest.mark.parametrize("how", ["unavailable", "reset"])
def test_a_stream_that_fails_after_its_first_message_is_not_made_again(balancer, replicas, how):
    some, received = replicas(2), threading.Event()
    for one in some:

        def stream(request, context, one=one):
            yield "one"
            assert received.wait(PATIENCE)
            if how == "reset":
                one.cut()
            context.abort(UNAVAILABLE, "as told")

        one.stream = stream
    balancer.place(*some)
    stream = balancer.open_stream(STREAMED)
    assert next(stream).infer_response.id == "one"
    received.set()
    # gRPC has no status of its own for a stream that ends amid its messages.
    assert code_of(lambda: next(stream)) == ("INTERNAL" if how == "reset" else "UNAVAILABLE")
    assert sum(calls_of(some)) == 1


def test_streams_that_may_not_be_run_twice_are_not(balancers, replicas):
    balancer = balancers(retryStreamResets=False)
    some = replicas(2)
    fail_first(some, cut)
    balancer.place(*some)
    assert code_of(lambda: balancer.stream(STREAMED)) == "UNAVAILABLE"
    assert sum(calls_of(some)) == 1


def test_a_stream_has_a_limit_until_its_first_message_alone(balancers, replicas):
    balancer = balancers(firstMessageSeconds=0.2)
    (one,) = replicas(1)

    def pause_after_the_first(request, context):
        yield "one"
        # Five times the limit.
        threading.Event().wait(1.0)
        yield "two"

    one.stream = pause_after_the_first
    balancer.place(one)
    assert balancer.stream(STREAMED) == ["one", "two"]
    hold = Hold()
    timeouts = "cluster.retrieval.upstream_rq_per_try_timeout"
    before = balancer.stat(timeouts)
    one.stream = hold.stream_late
    assert code_of(lambda: balancer.stream(STREAMED)) == "UNAVAILABLE"
    hold.end.set()
    # The first try, and the retries.
    assert balancer.stat(timeouts) == before + 4


def test_a_quiet_stream_outlives_many_pings(balancer, replicas):
    (one,), hold = replicas(1), Hold()
    one.stream = hold.stream
    balancer.place(one)
    stream = balancer.open_stream(STREAMED)
    assert next(stream).infer_response.id == "one"
    # Ten pings.
    threading.Event().wait(1.0)
    hold.end.set()
    assert [part.infer_response.id for part in stream] == ["two"]


# What passes, and what is seen of it


def test_a_message_of_64_mebibytes_passes_both_ways(balancer, replicas):
    (one,) = replicas(1)
    size = 64 << 20

    def echo(request, context):
        return messages.ModelInferResponse(raw_output_contents=request.raw_input_contents)

    one.infer = echo
    balancer.place(one)
    answer = balancer.infer(IDEMPOTENT, raw_input_contents=[b"x" * size], timeout=120.0)
    assert [len(part) for part in answer.raw_output_contents] == [size]


def test_what_a_client_says_of_its_deadline_reaches_the_replica(balancer, replicas):
    (one,) = replicas(1)
    left = []

    def answer(request, context):
        left.append(context.time_remaining())
        return messages.ModelInferResponse()

    one.infer = answer
    balancer.place(one)
    balancer.infer(OTHER, timeout=300.0)
    # Envoy's own limit of a call is 15 s.
    assert left[0] > 200


def test_the_metrics_address_shows_metrics_and_whether_envoy_is_ready_and_nothing_else(balancer, replicas):
    (one,) = replicas(1)
    balancer.place(one)
    balancer.infer(IDEMPOTENT)

    def get(path, method="GET"):
        url = f"http://127.0.0.1:{balancer.metrics_port}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    assert get("/ready") == (200, "LIVE\n")
    status, page = get("/stats/prometheus?usedonly")
    assert status == 200
    assert 'envoy_cluster_circuit_breakers_default_remaining_rq{envoy_cluster_name="retrieval"}' in page
    assert 'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="retrieval",le="15"}' in page
    for path in ("/quitquitquit", "/config_dump", "/stats/prometheus/../../quitquitquit", "/"):
        assert get(path)[0] == 404
    assert get("/stats/prometheus", "POST")[0] == 404
    assert balancer.process.poll() is None


def test_the_access_log_has_a_line_of_json_for_each_call(balancers, replicas, tmp_path):
    log = tmp_path / "access.log"
    balancer = balancers(accessLog=str(log))
    some = replicas(2)
    fail_first(some, cut)
    balancer.place(*some)
    balancer.infer(IDEMPOTENT)
    balancer.stream(STREAMED)
    balancer.close()
    first, second = map(json.loads, log.read_text().splitlines())
    assert (first["model"], first["route"], first["tries"], first["grpc_status"]) == (
        IDEMPOTENT,
        "retrieval-idempotent",
        2,
        0,
    )
    assert (second["route"], second["tries"]) == ("retrieval-stream", 1)


def test_envoy_drains_its_own_clients_and_loses_no_call(balancers, replicas):
    balancer = balancers(drainSeconds=1)
    (one,) = replicas(1)
    balancer.place(one)
    balancer.infer(OTHER)
    url = f"http://127.0.0.1:{balancer.admin_port}/drain_listeners?graceful&skip_exit"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as answer:
        assert answer.status == 200
    for _ in range(50):
        balancer.infer(OTHER)
    assert one.calls == 51
