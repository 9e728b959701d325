"""Two real Envoys, each of which reaches the other's near replicas through its region listener, and no further."""

import contextlib
import http.client
import shutil
import socket
import ssl
from contextlib import closing

import grpc
import pytest
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from fakes.authorities import Authority
from fakes.balancers import Balancer, code_of
from fakes.ports import free_ports
from fakes.replicas import NOT_SERVING, Hold, calls_of
from trireme.scale.endpoints import Endpoint, write_far
from trireme.scale.near_routes import PING
from trireme.scale.routes import MODEL_HEADER

MODELS = {
    "llm": {"serves": ["llm"]},
    "retrieval": {
        "serves": ["embedding", "rag"],
        "idempotent": ["embedding"],
        "maxRequests": 2,
        "default": True,
    },
}
IDEMPOTENT, OTHER = "embedding", "rag"


class Pair:
    """Envoys of the regions `here` and `there`, with settings of both."""

    def __init__(self, folder, here=(), there=(), **settings):
        ports = free_ports(2)
        names = ("here", "there")
        own = (dict(here), dict(there))
        made = []
        with contextlib.ExitStack() as unfinished:
            for at in (0, 1):
                (folder / names[at]).mkdir()
                other = {"name": names[1 - at], "balancer": f"127.0.0.1:{ports[1 - at]}"}
                listen = {"address": "127.0.0.1", "port": ports[at]}
                made.append(
                    Balancer(
                        folder / names[at],
                        MODELS,
                        ({"name": names[at]}, other),
                        regionListen=listen,
                        **settings,
                        **own[at],
                    )
                )
                unfinished.callback(made[-1].close)
            unfinished.pop_all()
        self.here, self.there = made

    def close(self):
        self.here.close()
        self.there.close()

    def place(self, here=(), there=(), entry="retrieval"):
        """Replicas of each, and the other's listener behind them; returns at once."""
        from fakes.balancers import place_in

        for balancer, near, other in ((self.here, here, self.there), (self.there, there, self.here)):
            far = Endpoint("127.0.0.1", other.region_port, region="other", priority=1)
            place_in(balancer.folder, entry, [*(one.endpoint() for one in near), far])

    def settle(self, here=(), there=(), entry="retrieval"):
        """As `place`; waits until each Envoy has them, and knows whether the other has any."""
        self.place(here, there, entry)
        for balancer, near, far in ((self.here, here, there), (self.there, there, here)):
            gauge = f"cluster.{entry}_%s.membership_%s"
            wanted = {
                gauge % ("near", "total"): len(near),
                gauge % ("near", "healthy"): len(near),
                gauge % ("far", "total"): 1,
                gauge % ("far", "healthy"): bool(far),
            }
            balancer.wait_until(
                lambda balancer=balancer, wanted=wanted: all(
                    balancer.stat(name) == count for name, count in wanted.items()
                )
            )


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    running = Pair(tmp_path_factory.mktemp("pair"))
    yield running
    running.close()


def served(balancer, model=OTHER):
    """Waits until a call is answered. Envoy says what is so before its threads act by it."""

    def is_served():
        with contextlib.suppress(grpc.RpcError):
            balancer.infer(model)
            return True

    balancer.wait_until(is_served)


def region_stub(channel):
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def ask_region(channel, model):
    request = messages.ModelInferRequest(model_name=model)
    return region_stub(channel).ModelInfer(request, metadata=[(MODEL_HEADER, model)], timeout=30.0)


def test_a_call_that_fails_over_reaches_a_near_replica_of_the_other_region(pair, replicas):
    (there,) = replicas(1)
    pair.settle(there=[there])
    served(pair.here)
    before = there.calls
    assert pair.here.infer(IDEMPOTENT, metadata=[("trireme-priority", "high")]).id == ""
    assert pair.here.stream(OTHER) == ["one", "two"]
    assert there.calls == before + 2
    assert there.metadata[-2]["trireme-priority"] == "high"


def test_what_comes_from_another_region_is_not_sent_on(pair, replicas):
    (there,) = replicas(1)
    pair.settle(there=[there])
    served(pair.here)
    before = there.calls
    with grpc.insecure_channel(f"127.0.0.1:{pair.here.region_port}") as channel:
        for model in (IDEMPOTENT, OTHER, "unheard-of"):
            assert code_of(lambda model=model: ask_region(channel, model)) == "UNAVAILABLE"
    assert there.calls == before


def test_calls_end_at_once_where_both_regions_have_lost_their_replicas(pair, replicas):
    here, there = replicas(2)
    pair.settle([here], [there])
    pair.settle()
    sent = [balancer.stat("cluster.retrieval_far.upstream_rq_total") for balancer in (pair.here, pair.there)]
    for balancer in (pair.here, pair.there):
        for model in (IDEMPOTENT, OTHER):
            assert code_of(lambda balancer=balancer, model=model: balancer.infer(model)) == "UNAVAILABLE"
    after = [balancer.stat("cluster.retrieval_far.upstream_rq_total") for balancer in (pair.here, pair.there)]
    # Each call at most once to the other region, and none of them back.
    assert all(second - first <= 2 for first, second in zip(sent, after, strict=True))
    assert calls_of([here, there]) == [0, 0]
    pair.settle([here], [there])
    served(pair.here)
    assert here.calls >= 1


def test_a_region_is_asked_for_its_health_by_the_entry(pair, replicas):
    llm, retrieval = replicas(2)
    pair.settle(there=[llm], entry="llm")
    pair.settle(there=[retrieval])
    llm.health = NOT_SERVING
    pair.here.wait_until(lambda: pair.here.stat("cluster.llm_far.membership_healthy") == 0)
    assert pair.here.stat("cluster.retrieval_far.membership_healthy") == 1
    served(pair.here)
    # Who serves what is the other region's own business: of a model that it names in another entry it says that.
    pair.settle(entry="llm")


def test_a_full_region_refuses_calls_and_is_not_taken_for_one_that_is_gone(pair, replicas):
    (there,), hold = replicas(1), Hold()
    there.infer = hold.infer
    pair.settle(there=[there])
    held = [pair.there.start(OTHER) for _ in range(2)]
    hold.wait_for(2)
    # maxRequests holds for the clients' calls and the other region's together.
    with grpc.insecure_channel(f"127.0.0.1:{pair.there.region_port}") as channel:
        assert code_of(lambda: ask_region(channel, OTHER)) == "UNAVAILABLE"
    assert there.calls == 2
    checks = "cluster.retrieval_far.health_check.success"
    before, failed = pair.here.stat(checks), pair.here.stat("cluster.retrieval_far.health_check.failure")
    pair.here.wait_until(lambda: pair.here.stat(checks) >= before + 3)
    assert pair.here.stat("cluster.retrieval_far.health_check.failure") == failed
    hold.end.set()
    assert [call.result().id for call in held] == ["late", "late"]


def test_the_round_trip_is_answered_by_envoy_itself_on_a_kept_connection(pair, replicas):
    (there,) = replicas(1)
    pair.settle(there=[there])
    before = there.calls
    with closing(http.client.HTTPConnection("127.0.0.1", pair.there.region_port, timeout=30)) as connection:
        ports = set()
        for _ in range(3):
            connection.request("GET", PING)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"")
            ports.add(connection.sock.getsockname()[1])
    assert len(ports) == 1
    assert there.calls == before


def test_near_replicas_may_come_from_dns_and_far_ones_from_a_folder(tmp_path, pair, replicas):
    near, there = replicas(2)
    pair.settle(there=[there])
    models = {"retrieval": MODELS["retrieval"]}
    ports = {"serverPort": near.port, "agentPort": near.own_port}
    regions = ("dns", {"name": "there", "balancer": f"127.0.0.1:{pair.there.region_port}"})
    balancer = Balancer(tmp_path, models, regions, has_files=False, service="localhost", **ports)
    with closing(balancer):
        far = Endpoint("127.0.0.1", pair.there.region_port, region="there", priority=1)
        write_far(tmp_path, "retrieval", [far])
        gauges = [f"cluster.retrieval_{place}.membership_healthy" for place in ("near", "far")]
        # Where localhost has an address of IPv6 too, nobody answers there.
        balancer.wait_until(lambda: [balancer.stat(gauge) for gauge in gauges] == [1, 1])
        served(balancer)
        before = there.calls
        balancer.infer(OTHER)
        assert there.calls == before
        near.health = NOT_SERVING
        balancer.wait_until(lambda: balancer.stat(gauges[0]) == 0 and balancer.leaves(near))
        assert there.calls > before


def channel_of(folder, port):
    """As another region with the files in `folder`; None: without a certificate."""
    certificate = (folder / "tls.crt").read_bytes(), (folder / "tls.key").read_bytes()
    credentials = grpc.ssl_channel_credentials(
        (folder / "ca.crt").read_bytes(), certificate[1], certificate[0]
    )
    return grpc.secure_channel(f"127.0.0.1:{port}", credentials)


def serial_of(folder, port):
    """Of the certificate that a region listener shows."""
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            return secure.getpeercert()["serialNumber"]


def test_regions_prove_who_they_are_and_new_certificates_are_taken_while_they_run(tmp_path, replicas):
    authority, stranger = Authority(tmp_path / "authority"), Authority(tmp_path / "stranger")
    folders = {name: tmp_path / f"{name}-tls" for name in ("here", "there")}
    files = {name: authority.issue(folder, "IP:127.0.0.1") for name, folder in folders.items()}
    stranger.issue(tmp_path / "strange", "IP:127.0.0.1")
    authority.issue(tmp_path / "unnamed", "DNS:elsewhere.example.org")
    (there,) = replicas(1)
    pair = Pair(tmp_path, here={"regionTls": files["here"]}, there={"regionTls": files["there"]})
    with closing(pair):
        pair.settle(there=[there])
        served(pair.here)
        port = pair.there.region_port
        # What a region may do that has a certificate, others may not.
        with channel_of(folders["here"], port) as channel:
            ask_region(channel, OTHER)
        before = there.calls
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert code_of(lambda: ask_region(channel, OTHER)) == "UNAVAILABLE"
        for folder in (tmp_path / "strange", tmp_path / "unnamed"):
            # It trusts the listener: it is the listener that refuses.
            shutil.copy(folders["here"] / "ca.crt", folder / "ca.crt")
            with channel_of(folder, port) as channel:
                assert code_of(lambda channel=channel: ask_region(channel, OTHER)) == "UNAVAILABLE"
        assert there.calls == before

        old = serial_of(folders["here"], port)
        authority.issue(folders["there"], "IP:127.0.0.1")
        pair.there.wait_until(lambda: serial_of(folders["here"], port) != old)
        served(pair.here)


def test_a_region_whose_certificate_another_authority_has_signed_gets_no_call_until_it_has_a_right_one(
    tmp_path, replicas
):
    authority, stranger = Authority(tmp_path / "authority"), Authority(tmp_path / "stranger")
    files = {name: authority.issue(tmp_path / f"{name}-tls", "IP:127.0.0.1") for name in ("here", "there")}
    stranger.issue(tmp_path / "there-tls", "IP:127.0.0.1")
    (there,) = replicas(1)
    pair = Pair(tmp_path, here={"regionTls": files["here"]}, there={"regionTls": files["there"]})
    with closing(pair):
        pair.place(there=[there])
        refused = "cluster.retrieval_far.ssl.fail_verify_error"
        pair.here.wait_until(lambda: pair.here.stat(refused) >= 3)
        assert code_of(lambda: pair.here.infer(OTHER)) == "UNAVAILABLE"
        assert there.calls == 0
        authority.issue(tmp_path / "there-tls", "IP:127.0.0.1")
        served(pair.here)
