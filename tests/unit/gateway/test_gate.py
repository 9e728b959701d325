import asyncio
import json
import socket
import threading
import time

import pytest

from fakes.gateways import SECRET, Echo, FakeGateway
from trireme.access.keys import Key
from trireme.errors import TriremeError
from trireme.providers.chat import Finished, Started, TextDelta, Usage
from trireme.providers.models import ServedModel
from trireme.providers.port import ProviderError

CHAT = "/v1/chat/completions"
CANARY = "canary-7f3a"


def echo(call, model):
    yield Started(model)
    yield TextDelta(call.messages[-1].text)
    yield Usage(3, 1)
    yield Finished("stop")


def asked(text="hello", **more):
    return {"model": "llm", "messages": [{"role": "user", "content": text}], **more}


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def gateway():
    with FakeGateway(Echo(echo)) as running:
        yield running


def test_a_whole_answer_says_who_served_it_and_after_how_many_attempts(gateway):
    status, headers, body = gateway.ask("POST", CHAT, asked())
    assert status == 200
    assert json.loads(body)["choices"][0]["message"]["content"] == "hello"
    assert headers["x-trireme-served-by"] == "local:llm"
    assert headers["x-trireme-attempts"] == "1"
    assert headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (CHAT, "POST"),
        ("/v1/documents", "POST, GET, HEAD"),
        ("/v1/documents/a/b", "GET, HEAD, DELETE"),
        ("/v1/search", "POST, QUERY"),
        ("/console/", "GET, HEAD"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(gateway, path, allowed):
    status, headers, body = gateway.ask("PATCH", path)
    assert (status, headers["allow"]) == (405, allowed)
    said = json.loads(body)["error"]["message"]
    assert said == f"this path takes {allowed}, and not PATCH"


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/v1/models", "no-store"),
        ("/v1/budgets", "no-store"),
        ("/v1/me", "no-store"),
        ("/v1/models/absent", "no-store"),
        ("/v1/usage?tenant=other", "no-store"),
        ("/console/", "no-cache"),
        ("/healthz", None),
    ],
)
def test_what_is_a_keys_alone_lies_in_no_cache_of_others(gateway, path, kept):
    for method in ("GET", "HEAD"):
        _, headers, _ = gateway.ask(method, path)
        assert headers.get("cache-control") == kept


def test_a_streamed_answer_is_events_and_an_end(gateway):
    status, headers, body = gateway.ask("POST", CHAT, asked(stream=True))
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert body.endswith(b"data: [DONE]\n\n")
    assert b"hello" in body


def test_a_request_id_of_the_client_is_kept_if_it_is_harmless(gateway):
    _, headers, _ = gateway.ask("POST", CHAT, asked(), {"x-request-id": "job-17.a"})
    assert headers["x-request-id"] == "job-17.a"
    _, headers, _ = gateway.ask("POST", CHAT, asked(), {"x-request-id": "a b<script>"})
    assert headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("secret", ["", "wrong", SECRET.upper()])
def test_without_a_key_in_force_nothing_is_asked(gateway, secret):
    before = len(gateway.provider.calls)
    status, _, body = gateway.ask("POST", CHAT, asked(), secret=secret)
    assert status == 401
    assert json.loads(body)["error"]["message"]
    assert len(gateway.provider.calls) == before


def test_both_headers_of_keys_are_taken(gateway):
    status, _, _ = gateway.ask("POST", CHAT, asked(), {"x-api-key": SECRET}, secret="")
    assert status == 200


def test_the_call_is_the_keys_whatever_the_body_says(gateway):
    gateway.ask("POST", CHAT, asked(tenant="other", user="bob", salt="mine"))
    call = gateway.provider.calls[-1]
    assert (call.tenant, call.user, call.key_id) == ("acme", "ann", "key_ann")
    assert len(call.salt) == 64


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("GET", CHAT, 405),
        ("DELETE", CHAT, 405),
        ("POST", "/healthz", 405),
    ],
)
def test_a_path_or_method_that_is_not_served_is_an_error_in_json(gateway, method, path, status):
    answered, headers, body = gateway.ask(method, path)
    assert answered == status
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["error"]["message"]


def test_a_model_that_nobody_has_is_not_found(gateway):
    status, _, body = gateway.ask("POST", CHAT, asked() | {"model": "gpt"})
    assert status == 404
    assert "/v1/models" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"", b"\xff\xfe"])
def test_a_body_that_cannot_be_read_is_a_400(gateway, body):
    status, _, raw = gateway.ask("POST", CHAT, body)
    assert status == 400
    assert json.loads(raw)["error"]["type"] == "invalid_request_error"


def test_a_body_over_the_limit_is_refused():
    with FakeGateway(Echo(echo), file="[limits]\nbody_bytes = 1000") as small:
        status, _, body = small.ask("POST", CHAT, asked("x" * 2000))
    assert status == 413
    assert "1000 bytes" in json.loads(body)["error"]["message"]


def test_the_rest_of_a_body_that_nobody_reads_ends_with_the_connection():
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-api-key: {SECRET}\r\ncontent-length: 9000\r\n\r\n"
    with FakeGateway(Echo(echo), file="[limits]\nbody_bytes = 1000") as small:
        for raw in (head.encode() + b"x" * 2000, head.replace(SECRET, "wrong").encode() + b"x"):
            with socket.create_connection(("127.0.0.1", small.port), 20) as client:
                client.sendall(raw)
                answer = client.recv(65536)
                assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 401"))
                assert b"connection: close" in answer
                while client.recv(65536):
                    pass


def test_a_fault_inside_is_a_500_without_any_of_its_text():
    def broken(call, model):
        raise ValueError(CANARY)
        yield

    with FakeGateway(Echo(broken)) as running:
        status, headers, body = running.ask("POST", CHAT, asked())
        log = running.log.getvalue()
    assert status >= 500
    assert CANARY not in body.decode() + log
    assert "Traceback" not in body.decode() + log
    assert headers["x-request-id"]


def test_a_fault_in_the_middle_of_a_stream_is_an_error_frame_and_no_end():
    def cut(call, model):
        yield Started(model)
        yield TextDelta("half ")
        yield ProviderError("the provider closed the connection", "again", "cut")

    with FakeGateway(Echo(cut)) as running:
        status, _, body = running.ask("POST", CHAT, asked(stream=True))
        wait_for(running.lines)
        line = running.lines()[-1]
    assert status == 200
    assert b"half" in body
    assert b'"error"' in body
    assert b"[DONE]" not in body
    assert (line["outcome"], line["error"]) == ("cut", "cut")
    assert line["attempts"] == ["local:llm cut"]


def test_the_log_holds_who_and_what_and_nothing_of_the_text(gateway):
    gateway.ask("POST", CHAT, asked(CANARY), {"x-canary": CANARY})
    gateway.ask("POST", CHAT, asked(), secret=CANARY)
    wait_for(lambda: gateway.lines()[-1]["status"] == 401)
    line = gateway.lines()[-2]
    assert (line["tenant"], line["user"], line["key"], line["model"]) == ("acme", "ann", "key_ann", "llm")
    assert (line["outcome"], line["input_tokens"], line["output_tokens"]) == ("ok", 3, 1)
    assert CANARY not in gateway.log.getvalue()
    assert SECRET not in gateway.log.getvalue()


def test_metrics_count_requests_and_tokens_and_know_no_name_that_a_client_made_up(gateway):
    gateway.ask("POST", CHAT, asked())
    gateway.ask("POST", CHAT, asked() | {"model": CANARY})
    text = gateway.ask("GET", "/metrics", secret="")[2].decode()
    assert (
        'trireme_gateway_requests_total{endpoint="chat",model="llm",outcome="ok",status="200",tenant="acme"}'
        in text
    )
    assert 'trireme_gateway_tokens_total{kind="input",model="llm",tenant="acme"}' in text
    assert 'trireme_gateway_attempts_total{outcome="ok",target="local:llm"}' in text
    assert CANARY not in text


def test_a_client_that_goes_away_ends_the_call_of_the_provider():
    started = threading.Event()

    async def forever():
        started.set()
        await asyncio.Event().wait()

    def stalled(call, model):
        yield Started(model)
        if call.stream:
            yield TextDelta("one")
        yield forever()

    with FakeGateway(Echo(stalled)) as running:
        for stream in (True, False):
            started.clear()
            body = json.dumps(asked(stream=stream)).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-api-key: {SECRET}\r\ncontent-length: {len(body)}\r\n\r\n"
            with socket.create_connection(("127.0.0.1", running.port)) as client:
                client.sendall(head.encode() + body)
                assert started.wait(60)
                assert running.provider.open == 1
            wait_for(lambda: running.provider.open == 0)
        wait_for(lambda: len(running.lines()) == 2)
        assert [line["outcome"] for line in running.lines()] == ["client_gone", "client_gone"]
        assert running.ports.metrics.running == 0


def test_a_request_that_its_provider_forgets_ends_all_the_same(monkeypatch):
    monkeypatch.setattr("trireme.gateway.gate.SPARE_SECONDS", 0.1)

    async def forever():
        await asyncio.Event().wait()

    def stalled(call, model):
        yield Started(model)
        yield forever()

    with FakeGateway(Echo(stalled), file="[attempts]\nseconds = 0.2") as running:
        status, _, body = running.ask("POST", CHAT, asked())
    assert status == 504
    assert json.loads(body)["error"]["message"]


def test_a_key_of_other_endpoints_is_refused_by_name():
    keys = {SECRET: Key("k", "acme", endpoints=("search",))}
    with FakeGateway(Echo(echo), keys=keys) as running:
        status, _, body = running.ask("POST", CHAT, asked())
    assert status == 403
    assert "search" in json.loads(body)["error"]["message"]


def test_a_key_over_its_rate_is_told_until_when():
    keys = {SECRET: Key("k", "acme", requests_per_minute=5)}
    with FakeGateway(Echo(echo), keys=keys) as running:
        running.keys.waits = [12.3]
        status, headers, body = running.ask("POST", CHAT, asked())
    assert status == 429
    assert headers["retry-after"] == "13"
    assert "5 requests" in json.loads(body)["error"]["message"]


def test_more_requests_than_run_at_once_are_refused_and_may_come_again():
    began = threading.Semaphore(0)
    release = threading.Event()

    async def hold():
        began.release()
        while not release.is_set():
            await asyncio.sleep(0.01)

    def held(call, model):
        yield Started(model)
        yield hold()
        yield Finished("stop")

    with FakeGateway(Echo(held), file="[limits]\nrequests = 2") as running:
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(running.ask("POST", CHAT, asked())[0]))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        assert began.acquire(timeout=60)
        assert began.acquire(timeout=60)
        status, _, body = running.ask("POST", CHAT, asked())
        release.set()
        for thread in threads:
            thread.join(60)
        assert running.ask("POST", CHAT, asked())[0] == 200
    assert status == 503
    assert "2 requests" in json.loads(body)["error"]["message"]
    assert answers == [200, 200]


def test_after_all_attempts_failed_the_client_is_told_not_to_try_again():
    def down(call, model):
        yield ProviderError("the provider is overloaded", "next", "overloaded", status=529)

    with FakeGateway(Echo(down)) as running:
        status, headers, body = running.ask("POST", CHAT, asked())
    assert status == 503
    assert headers["x-should-retry"] == "false"
    assert headers["x-trireme-attempts"] == "1"
    assert "overloaded" in json.loads(body)["error"]["message"]


def test_readyz_says_why_it_is_not(gateway):
    assert gateway.ask("GET", "/healthz", secret="")[0] == 200
    assert gateway.ask("GET", "/readyz", secret="")[0] == 200

    class Away:
        async def models(self):
            raise TriremeError("no server answers")

    with FakeGateway(Echo(echo), server=Away()) as running:
        status, _, body = running.ask("GET", "/readyz", secret="")
        assert running.ask("GET", "/healthz", secret="")[0] == 200
    assert status == 503
    assert json.loads(body)["reasons"] == ["no server answers"]


def test_a_gateway_whose_models_another_region_serves_is_ready_and_says_so():
    models = [ServedModel("embedding", "embed", True, is_far=True), ServedModel("llm", "chat", True)]
    regions = "[local]\nregion = 'eu-west'\nother_regions = ['us-east', 'ap-south']"
    with FakeGateway(Echo(echo), models=models, file=regions) as running:
        status, _, body = running.ask("GET", "/readyz", secret="")
        listed = json.loads(running.ask("GET", "/v1/models")[2])["data"]
    assert status == 200
    assert json.loads(body) == {
        "ready": True,
        "reasons": [],
        "degraded": True,
        "details": ["no server of this region has embedding: us-east or ap-south answers"],
    }
    assert {"embedding", "llm"} <= {one["id"] for one in listed}


@pytest.mark.parametrize("name", ["a\r\nx-evil: 1", "a\x00b", "m\u00fc", "\U0001f6a3", "a\x7f"])
def test_a_models_name_of_any_signs_makes_no_header_and_no_line_of_the_log(name):
    providers = '[providers.openai]\nkind = "openai"\n'
    with FakeGateway(Echo(echo), file=providers) as running:
        for stream in (False, True):
            body = asked(model=f"openai:{name}", stream=stream)
            status, headers, _ = running.ask("POST", CHAT, body)
            assert status == 200
            assert headers["x-trireme-served-by"].startswith("openai:")
            assert headers["x-trireme-served-by"].isprintable()
            assert "x-evil" not in headers
        status, headers, _ = running.ask("POST", "/v1/embeddings", {"model": name, "input": "x"})
        assert "x-evil" not in headers
        wait_for(lambda: len(running.lines()) == 4)
        models = [line["model"] for line in running.lines() if "endpoint" in line]
        assert models == [f"openai:{name}"] * 2 + [name]


def test_a_models_name_that_is_too_long_is_nobodys():
    providers = '[providers.openai]\nkind = "openai"\n'
    with FakeGateway(Echo(echo), file=providers) as running:
        for path, body in ((CHAT, asked()), ("/v1/embeddings", {"input": "x"})):
            status, headers, raw = running.ask("POST", path, {**body, "model": "openai:" + "m" * 10_000})
            assert status == 404
            assert len(raw) < 1000
            assert sum(map(len, headers.values())) < 1000
        assert b"mmmm" not in running.ask("GET", "/metrics")[2]


def test_a_client_that_does_not_read_its_answer_is_cut_off():
    def endless(call, model):
        yield Started(model)
        while True:
            yield TextDelta("x" * 100_000)
            yield asyncio.sleep(0)

    with FakeGateway(Echo(endless), file="[limits]\nreading_seconds = 1") as running:
        body = json.dumps(asked(stream=True)).encode()
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-api-key: {SECRET}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", running.port)) as client:
            client.sendall(head.encode() + body)
            wait_for(running.lines)
            assert running.provider.open == 0
        assert running.lines()[0]["outcome"] == "cut"
        assert running.ports.metrics.running == 0


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "via", "x-real-ip"])
def test_metrics_through_a_proxy_need_a_key(gateway, header):
    assert gateway.ask("GET", "/metrics", secret="")[0] == 200
    assert gateway.ask("GET", "/metrics", headers={header: "1.2.3.4"}, secret="")[0] == 401
    assert gateway.ask("GET", "/metrics", headers={header: "1.2.3.4"})[0] == 200
