"""What no request, fault or file may bring about: secrets told, tenants mixed, insides shown."""

import base64
import contextlib
import http.client
import json
import random
import re
import threading
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from gateways import gateway_over
from hostile import INSIDE, STATUSES, ask, bodies, chat, new_key, send_raw
from stacks import wait_until

from fakes.forms import FORM_TYPE, form, part
from fakes.upstreams import FAULTS, PLACES, serving
from trireme.access.keys import KeyQuery
from trireme.storage import open_keys

PROVIDER_SECRET = "sk-canary-provider-8c1f0a77"
SALT_SECRET = "canary-salt-5d0e6c3b9a1f48d2b7a4"
CLIENT_SECRET = "tr-canary-client-51e2b9d4c07f"
TEXT = "canarytext93b1"
FILE = """
[providers.fakeopenai]
kind = "openai"
url = "{url}/v1"
keys = ["CANARY_PROVIDER_KEY"]
region = "us"
cache_salt = "vllm"

[providers.fakeanthropic]
kind = "anthropic"
url = "{url}"
keys = ["CANARY_PROVIDER_KEY"]
region = "us"

# For faults that are waited out; a busy machine may be as slow as they are.
[providers.slowopenai]
kind = "openai"
url = "{url}/v1"
keys = ["CANARY_PROVIDER_KEY"]
region = "us"
between_seconds = 1.0
first_seconds = 1.0

[providers.slowanthropic]
kind = "anthropic"
url = "{url}"
keys = ["CANARY_PROVIDER_KEY"]
region = "us"
between_seconds = 1.0
first_seconds = 1.0

[models.assistant]
chain = ["fakeopenai:echo"]

[models.claude]
chain = ["fakeanthropic:echo"]

[tenants.bank]
forbid_regions = ["us"]

[limits]
body_seconds = 10
idle_seconds = 10
reading_seconds = 30
"""
SECRETS = (("CANARY_PROVIDER_KEY", PROVIDER_SECRET), ("TRIREME_GATEWAY_SECRET", SALT_SECRET))


@pytest.fixture(scope="module")
def upstream():
    with serving() as running:
        running.tells_key = True
        yield running


@pytest.fixture(scope="module")
def gateway(stack, upstream, tmp_path_factory):
    with gateway_over(stack, upstream, tmp_path_factory.mktemp("hostile"), FILE, SECRETS) as running:
        yield running


@pytest.fixture(scope="module")
def canary(gateway):
    """A key whose tenant has a document in the collection of all bodies."""
    secret = new_key(gateway, "acme", secret=CLIENT_SECRET)
    publish(gateway, secret, "hostile", "Oars are of fir.")
    return secret


def publish(gateway, secret, collection, text):
    """The job of a text, once a search finds it."""
    body = {"document_id": "one", "text": text, "collection": collection}
    job = json.loads(ask(gateway, "POST", "/v1/documents", body, secret=secret)[2])["data"][0]["job_id"]
    path = f"/v1/jobs/{job}"
    wait_until(lambda: json.loads(ask(gateway, "GET", path, secret=secret)[2])["state"] == "done", 120)
    return job


@pytest.fixture(scope="module")
def other(gateway):
    return new_key(gateway, "globex")


def check_answer(status, headers, body, *, secrets=(PROVIDER_SECRET, SALT_SECRET, CLIENT_SECRET)):
    said = body + repr(headers).encode()
    for secret in secrets:
        assert secret.encode() not in said, said
    for word in INSIDE:
        assert word not in said, said
    assert status in STATUSES, said


def faults():
    for status in (400, 401, 402, 403, 404, 413, 429, 500, 503, 529):
        yield f"fault-status_{status}"
    for name in FAULTS:
        for place in PLACES:
            yield f"fault-{name}-{place}"


def test_no_secret_is_told_whatever_a_provider_does(gateway, upstream, canary, stack):
    upstream.slow, upstream.retry_after = 1.5, {}
    headers = {"openai-organization": TEXT, "x-forwarded-for": TEXT, "cookie": f"session={TEXT}"}
    told = []
    for command in faults():
        # A stall is waited out, and one of each is enough.
        is_slow = "stall" in command or "slow" in command
        for surface, provider in (("/v1/chat/completions", "openai"), ("/v1/messages", "anthropic")):
            for stream in (True,) if is_slow else (False, True):
                body = chat(
                    f"{'slow' if is_slow else 'fake'}{provider}:{command}",
                    f"{TEXT} one two three",
                    max_tokens=99,
                    stream=stream,
                )
                told.append(ask(gateway, "POST", surface, body, headers, secret=canary))
    for path, body in bodies(f"{TEXT} one").items():
        for secret in (canary, CLIENT_SECRET.upper(), ""):
            told.append(ask(gateway, "POST", path, body, headers, secret=secret))
    for answer in told:
        check_answer(*answer)
        assert upstream.url.encode() not in answer[2]
    found = [ask(gateway, "GET", path) for path in ("/metrics", "/readyz", "/healthz")]
    assert len(told) > 60
    for one in found:
        check_answer(*one, secrets=(PROVIDER_SECRET, SALT_SECRET, CLIENT_SECRET, TEXT))
    log = gateway.log.read_bytes()
    assert b"fakeopenai:fault-status_500" in log
    assert b"Traceback" not in log
    logs = [gateway.log, *Path(stack.settings.data_dir).rglob("*.log")]
    for file in logs:
        for secret in (PROVIDER_SECRET, SALT_SECRET, CLIENT_SECRET, TEXT):
            assert secret.encode() not in file.read_bytes(), file


def test_no_list_of_processes_and_no_child_has_a_secret(gateway, stack, canary):
    upload = form(part("file", "Oars are of fir.", "oars.txt"), part("collection", "hostile"))
    assert ask(gateway, "POST", "/v1/documents", upload, {"content-type": FORM_TYPE}, secret=canary)[0] == 202
    family = [psutil.Process(stack.server.pid), psutil.Process(stack.worker.pid)]
    family += [child for one in family for child in one.children(recursive=True)]
    readers = psutil.Process(gateway.process.pid).children(recursive=True)
    assert readers
    for one in psutil.process_iter(["cmdline"]):
        words = " ".join(one.info["cmdline"] or ())
        for secret in (PROVIDER_SECRET, SALT_SECRET, CLIENT_SECRET):
            assert secret not in words
    for one in (*family, *readers):
        with contextlib.suppress(psutil.NoSuchProcess):
            values = Path(f"/proc/{one.pid}/environ").read_bytes()
            assert PROVIDER_SECRET.encode() not in values
            assert SALT_SECRET.encode() not in values
            assert one not in readers or b"TRIREME_DATABASE_URL=" not in values


def test_the_database_has_digests_alone(gateway, canary, stack):
    import psycopg

    with psycopg.connect(stack.database_url) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'trireme'"
        ).fetchall()
        assert ("keys",) in tables
        for (table,) in tables:
            rows = connection.execute(f'SELECT t::text FROM trireme."{table}" t').fetchall()
            text = "\n".join(row for (row,) in rows)
            for secret in (CLIENT_SECRET, PROVIDER_SECRET, SALT_SECRET):
                assert secret not in text, table


def test_a_provider_sees_its_own_key_and_nothing_of_the_clients(gateway, upstream, canary):
    hostile = {
        "x-api-key": canary,
        "cookie": "a=b",
        "x-forwarded-for": "10.0.0.1",
        "x-forwarded-host": "evil",
        "forwarded": "for=10.0.0.1",
        "openai-organization": "org-1",
        "openai-project": "p",
        "anthropic-dangerous-direct-browser-access": "true",
        "proxy-authorization": "Basic eA==",
        "x-trireme-tenant": "globex",
        "referer": "http://inside/",
        "x-stainless-lang": "python",
    }
    chosen = {"cache_salt": TEXT, "prompt_cache_key": TEXT, "tenant": TEXT}
    salts = {}
    for secret, tenant in ((canary, "acme"), (new_key(gateway, "initech"), "initech")):
        before = len(upstream.calls)
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/messages/count_tokens"):
            body = {**bodies("hello")[path], **chosen}
            status, _, raw = ask(gateway, "POST", path, body, {**hostile, "x-api-key": secret}, secret=secret)
            assert status == 200, raw
        for call in upstream.calls[before:]:
            assert set(call.headers) <= {
                "host",
                "content-type",
                "content-length",
                "user-agent",
                "accept",
                "accept-encoding",
                "authorization",
                "x-api-key",
                "anthropic-version",
                # The gateway's own names of the request and of its trace.
                "traceparent",
                "x-request-id",
            }
            assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", call.headers["traceparent"])
            assert re.fullmatch(r"req_[0-9a-f]+", call.headers["x-request-id"])
            assert PROVIDER_SECRET in (
                call.headers.get("x-api-key", "") + call.headers.get("authorization", "")
            )
            assert secret not in repr(call.headers)
            assert TEXT.encode() not in call.raw
            if "cache_salt" in call.body:
                salts.setdefault(tenant, set()).add(call.body["cache_salt"])
    assert all(len(found) == 1 for found in salts.values())
    assert salts["acme"] != salts["initech"]


def listens_on(pid):
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return {
        one.laddr.ip
        for process in family
        for one in process.net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    }


def test_every_port_is_on_loopback_and_what_controls_triton_is_closed(gateway, stack):
    import grpc
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException

    for pid in (gateway.process.pid, stack.server.pid):
        assert listens_on(pid)
        assert listens_on(pid) <= {"127.0.0.1", "::ffff:127.0.0.1"}
    settings = stack.settings
    http_url = type("Triton", (), {"url": f"http://127.0.0.1:{settings.http_port}"})
    for path in (
        "/v2/repository/models/embedding/load",
        "/v2/repository/models/embedding/unload",
        "/v2/logging",
        "/v2/trace/setting",
        "/v2/models/embedding/trace/setting",
        "/v2/systemsharedmemory/region/a/register",
        "/v2/cudasharedmemory/region/a/register",
    ):
        status, _, body = ask(http_url, "POST", path, {})
        assert status in (400, 401, 403, 404, 405, 503), (path, status, body)
    with closing(triton.InferenceServerClient(settings.grpc_url)) as client:
        for call in (
            lambda: client.load_model("embedding"),
            lambda: client.unload_model("embedding"),
            lambda: client.update_log_settings({"log_verbose_level": 9}),
            lambda: client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}),
            lambda: client.register_system_shared_memory("a", "/a", 8),
        ):
            with pytest.raises((InferenceServerException, grpc.RpcError)):
                call()
        assert client.is_model_ready("embedding")


BODY = json.dumps(chat()).encode()


def head(secret, *lines, path="/v1/chat/completions", version="1.1", method="POST"):
    first = f"{method} {path} HTTP/{version}"
    return "\r\n".join([first, "host: x", f"authorization: Bearer {secret}", *lines, "", ""]).encode(
        "latin-1"
    )


def test_what_is_no_clear_http_is_refused_and_reaches_no_provider(gateway, upstream, canary):
    size = f"content-length: {len(BODY)}"
    before = len(upstream.calls)
    shapes = {
        "both lengths": (head(canary, size, "transfer-encoding: chunked"), b"0\r\n\r\n" + BODY),
        "two lengths": (head(canary, size, "content-length: 3"), BODY),
        "signed length": (head(canary, f"content-length: +{len(BODY)}"), BODY),
        "negative length": (head(canary, "content-length: -1"), BODY),
        "no number": (head(canary, "content-length: 0x10"), BODY),
        "obsolete fold": (head(canary, size, "x-a: b", " c: d", "content-length : 4"), BODY),
        "blank before colon": (head(canary, "content-length : 5"), BODY),
        "strange coding": (head(canary, "transfer-encoding: chunked, identity"), BODY),
        "bad chunk": (head(canary, "transfer-encoding: chunked"), b"zz\r\n" + BODY),
        "chunk without end": (head(canary, "transfer-encoding: chunked"), b'5\r\n{"a":'),
        "short body": (head(canary, f"content-length: {len(BODY) + 10}"), BODY),
        "huge head": (head(canary, "x-a: " + "a" * (1 << 20)), b""),
        "many headers": (head(canary, *(f"x-{n}: a" for n in range(20_000))), b""),
        "bare line feeds": (head(canary, size).replace(b"\r\n", b"\n", 2), BODY),
        "nul in a header": (head(canary, size, "x-a: b\0c"), BODY),
        "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n\r\n"),
        "http2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""),
    }
    for name, parts in shapes.items():
        data = send_raw(gateway, *parts)
        assert b" 200 " not in data.split(b"\r\n", 1)[0], (name, data)
        assert data.count(b"HTTP/1.1") <= 1, (name, data)
        for word in (*INSIDE, canary.encode()):
            assert word not in data, (name, data)
    assert len(upstream.calls) == before


def test_a_request_hidden_in_a_body_is_not_answered(gateway, canary):
    hidden = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    end = "connection: close"
    for path in ("/v1/chat/completions", "/v1/nothing", "/healthz"):
        for secret in (canary, "wrong"):
            data = send_raw(gateway, head(secret, f"content-length: {len(hidden)}", end, path=path) + hidden)
            assert data.count(b"HTTP/1.1 ") == 1, data
            assert b" 200 " not in data


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1//chat/completions", 404),
        ("/v1/chat/completions/", 404),
        ("/v1/%2e%2e/v1/chat/completions", 404),
        ("/v1/../v1/chat/completions", 404),
        ("/v1/chat%2fcompletions", 200),
        ("/V1/chat/completions", 404),
        ("/v1/chat/completions%00", 404),
        ("/v1/chat/completions;a=b", 404),
        ("/v1/chat/completions?a=%ff", 200),
        ("/%ff%fe", 404),
        ("//evil.example/v1/models", 404),
    ],
)
def test_a_path_is_taken_as_it_is(gateway, canary, path, status):
    answer = ask(gateway, "POST", path, BODY, secret=canary)
    check_answer(*answer)
    assert answer[0] == status


def test_older_and_other_methods_are_answered(gateway, canary):
    size = f"content-length: {len(BODY)}"
    data = send_raw(gateway, head(canary, size, version="1.0") + BODY)
    assert data.startswith(b"HTTP/1.1 200")
    for method in ("HEAD", "OPTIONS", "TRACE", "PUT", "PATCH"):
        status, headers, body = ask(gateway, method, "/v1/chat/completions", secret=canary)
        assert status in (404, 405), (method, status)
        check_answer(status, headers, body)
    assert ask(gateway, "HEAD", "/v1/models", secret=canary)[::2] == (200, b"")
    # Of two keys one is taken; it is never both or none.
    two = send_raw(
        gateway, head("wrong", size, f"authorization: Bearer {canary}", "connection: close") + BODY
    )
    assert two.split(b" ", 2)[1] in (b"200", b"401")


def test_no_tenant_sees_what_is_anothers_by_any_endpoint(gateway, canary, other):
    secret_text = "The harbour of Zea has ninety ship sheds."
    upload = form(
        part("file", secret_text, "sheds.txt"), part("collection", "plans"), part("purpose", "assistants")
    )
    status, _, raw = ask(gateway, "POST", "/v1/files", upload, {"content-type": FORM_TYPE}, secret=canary)
    assert status == 200, raw
    file_id = json.loads(raw)["id"]
    job = publish(gateway, canary, "plans", secret_text)
    attempts = [
        ("GET", f"/v1/files/{file_id}", None),
        ("DELETE", f"/v1/files/{file_id}", None),
        ("GET", f"/v1/jobs/{job}", None),
        ("GET", "/v1/jobs/%20", None),
        ("DELETE", "/v1/documents/one?collection=plans", None),
        ("GET", "/v1/vector_stores", None),
        ("GET", "/v1/vector_stores/plans", None),
        ("POST", "/v1/vector_stores/plans/search", {"query": "sheds"}),
        ("POST", "/v1/search", {"query": "ship sheds", "collection": "plans"}),
        ("POST", "/v1/search", {"query": "ship sheds", "collection": "plans", "tenant": "acme"}),
        ("POST", "/v1/search", {"query": "ship sheds", "collection": "acme/plans"}),
        ("POST", "/v1/chat/completions", chat("rag", "ship sheds?", trireme={"collection": "plans"})),
        ("POST", "/v1/messages", chat("rag", "ship sheds?", max_tokens=9, trireme={"collection": "plans"})),
        (
            "POST",
            "/v1/chat/completions",
            chat("rag", "sheds?", trireme={"collection": "plans", "tenant": "acme"}),
        ),
        ("POST", "/v1/completions", {"model": "rag", "prompt": "sheds", "trireme": {"collection": "plans"}}),
    ]
    for method, path, body in attempts:
        status, headers, raw = ask(gateway, method, path, body, {"x-trireme-tenant": "acme"}, secret=other)
        check_answer(status, headers, raw)
        assert b"ninety" not in raw, (path, raw)
        assert status >= 400 or path == "/v1/vector_stores" or b'"data":[]' in raw or b"rag" in raw, (
            path,
            raw,
        )
    found = ask(gateway, "POST", "/v1/search", {"query": "ship sheds", "collection": "plans"}, secret=canary)
    assert b"ninety" in found[2]


def test_a_key_of_one_collection_reaches_no_other_by_any_path(gateway):
    secret = new_key(gateway, "acme", collections=("open",))
    upload = form(part("file", "x", "a.txt"), part("collection", "plans"), part("purpose", "assistants"))
    file_id = "file-" + base64.urlsafe_b64encode(b'["plans","one"]').rstrip(b"=").decode()
    attempts = [
        ("POST", "/v1/search", {"query": "sheds", "collection": "plans"}, {}),
        ("POST", "/v1/vector_stores/plans/search", {"query": "sheds"}, {}),
        ("GET", "/v1/vector_stores/plans", None, {}),
        ("GET", f"/v1/files/{file_id}", None, {}),
        ("DELETE", f"/v1/files/{file_id}", None, {}),
        ("DELETE", "/v1/documents/one?collection=plans", None, {}),
        ("POST", "/v1/documents", {"document_id": "a", "text": "x", "collection": "plans"}, {}),
        ("POST", "/v1/files", upload, {"content-type": FORM_TYPE}),
        ("POST", "/v1/files", upload.replace(b"plans", b"other"), {"content-type": FORM_TYPE}),
        ("POST", "/v1/chat/completions", chat("rag", "sheds?", trireme={"collection": "plans"}), {}),
        ("POST", "/v1/messages", chat("rag", "sheds?", max_tokens=9, trireme={"collection": "plans"}), {}),
    ]
    for method, path, body, headers in attempts:
        status, _, raw = ask(gateway, method, path, body, headers, secret=secret)
        assert status in (400, 403), (path, status, raw)
        assert b"ninety" not in raw


def test_a_key_of_one_model_or_endpoint_reaches_no_other(gateway, upstream):
    model = new_key(gateway, "acme", models=("assistant",))
    before = len(upstream.calls)
    for path, body in bodies("hello").items():
        if path in ("/v1/chat/completions", "/v1/completions"):
            names = ("claude", "fakeopenai:echo", "local:llm", "llm", "Assistant", "assistant ")
            for name in names:
                assert ask(gateway, "POST", path, {**body, "model": name}, secret=model)[0] == 403
        elif path not in ("/v1/documents", "/predict"):
            assert ask(gateway, "POST", path, body, secret=model)[0] == 403, path
    assert len(upstream.calls) == before
    endpoint = new_key(gateway, "acme", endpoints=("embeddings",))
    for path, body in bodies("hello").items():
        expected = 200 if path in ("/v1/embeddings", "/embed") else 403
        assert ask(gateway, "POST", path, body, secret=endpoint)[0] == expected, path


def test_what_a_tenant_forbids_is_not_asked_by_any_endpoint(gateway, upstream):
    bank = new_key(gateway, "bank")
    before = len(upstream.calls)
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/messages/count_tokens"):
        for name in ("assistant", "claude", "fakeopenai:echo", "fakeanthropic:echo"):
            status, _, raw = ask(gateway, "POST", path, {**bodies("hello")[path], "model": name}, secret=bank)
            assert status == 403, (path, name, raw)
    assert len(upstream.calls) == before


def test_a_second_gateway_shares_limits_and_revocations(gateway, stack, upstream, tmp_path):
    with gateway_over(stack, upstream, tmp_path, FILE, SECRETS) as second:
        both = (gateway, second)
        limited = new_key(gateway, "acme", requests_per_minute=5)
        wait_until(lambda: ask(second, "GET", "/v1/models", secret=limited)[0] != 401)
        # A minute may end in between, and then five more are let through.
        statuses = [ask(both[n % 2], "GET", "/v1/models", secret=limited)[0] for n in range(12)]
        assert 1 <= statuses.count(200) <= 10
        assert set(statuses) == {200, 429}
        revoked = new_key(gateway, "acme")
        wait_until(lambda: ask(second, "GET", "/v1/models", secret=revoked)[0] == 200)
        with closing(open_keys(stack.database_url)) as keys:
            (id_,) = [key.id for key in keys.find(KeyQuery("acme", is_revoked=False, limit=1))]
            keys.revoke([id_])
        started = time.monotonic()
        for one in both:
            wait_until(lambda one=one: ask(one, "GET", "/v1/models", secret=revoked)[0] == 401, 20)
        print(f"revoked everywhere after {time.monotonic() - started:.2f} s")


ODD = [
    None,
    True,
    -1,
    0,
    10**30,
    -(10**30),
    2**63,
    1e308,
    1.5,
    "",
    "\u0000",
    "a\u0000b",
    "x" * 5000,
    "\r\nx-evil: 1",
    "\U0001f6a3",
    [],
    {},
    [[]],
    [{}],
    {"": ""},
    [None],
    {"type": "text"},
    {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
    ["a", 1, None, {"b": [[[]]]}],
]
NAMES = (
    "n", "stop", "seed", "tools", "tool_choice", "logprobs", "top_logprobs", "max_tokens", "temperature", "top_p",
    "stream", "stream_options", "response_format", "system", "metadata", "thinking", "trireme", "filter", "mode",
    "top_k", "top_n", "dimensions", "encoding_format", "truncate", "normalize", "return_documents", "documents",
    "collection", "title", "user", "echo", "suffix", "best_of", "stop_sequences", "filters", "ranking_options",
    "parameters", "raw_scores", "return_text", "input_type", "logit_bias", "service_tier", "functions",
)  # fmt: skip


def odd(dice):
    """One of ODD, of its own."""
    return json.loads(json.dumps(dice.choice(ODD)))


def places_of(value, path=()):
    """Every place within a JSON value."""
    yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from places_of(child, (*path, key))


def mutate(body, dice):
    """A copy of `body` in which up to three places are odd."""
    body = json.loads(json.dumps(body))
    for _ in range(dice.randint(0, 3)):
        places = [place for place in places_of(body) if place]
        if not places or dice.random() < 0.4:
            if isinstance(body, dict):
                body[dice.choice(NAMES)] = odd(dice)
            continue
        *way, last = dice.choice(places)
        inner = body
        for key in way:
            inner = inner[key]
        if dice.random() < 0.2:
            del inner[last]
        elif dice.random() < 0.1:
            inner[last] = [inner[last]] * dice.randint(2, 50)
        else:
            inner[last] = odd(dice)
    return body


def garble(raw, dice):
    """Bytes of a body with one fault of JSON or UTF-8."""
    spot = dice.randrange(len(raw))
    faults = (
        b"NaN",
        b"\xff",
        b"Infinity",
        b'"\\ud800"',
        b"\\u0000",
        b"[" * 99,
        b"1e999",
        b"",
        b"\0",
        b"'",
        b"-",
    )
    return raw[:spot] + dice.choice(faults) + raw[spot + dice.randint(0, 5) :]


def test_no_body_brings_about_an_error_of_ours(gateway, upstream, canary):
    upstream.tells_key = False
    wanted = list(bodies("hello").items()) + [
        (path, {**body, "model": name})
        for path, body in bodies("hello").items()
        if path in ("/v1/chat/completions", "/v1/messages", "/v1/completions")
        for name in ("rag", "llm")
    ]
    wrong = []

    def run(seed):
        dice = random.Random(seed)
        address = gateway.url.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=60)
        end = time.monotonic() + FUZZ_SECONDS
        for _ in range(FUZZ_REQUESTS):
            # On a slow machine until each path has answered one well.
            if time.monotonic() > end and is_all_tried():
                break
            path, body = dice.choice(wanted)
            small = {"max_tokens": 2} if body.get("model") == "llm" else {}
            raw = json.dumps(mutate({**body, **small}, dice)).encode()
            if dice.random() < 0.15:
                raw = garble(raw, dice)
            try:
                connection.request("POST", path, raw, {"authorization": f"Bearer {canary}"})
                answer = connection.getresponse()
                status, headers, data = answer.status, dict(answer.getheaders()), answer.read()
                done.append((path, status))
                check_answer(status, headers, data)
                if headers["content-type"] == "application/json":
                    json.loads(data)
                else:
                    assert data.startswith((b"data:", b"event:")), data
                    assert b"the gateway failed" not in data, data
            except (AssertionError, OSError, http.client.HTTPException, ValueError) as error:
                wrong.append((path, raw[:2000], repr(error)[:2000]))
                connection.close()
        connection.close()

    done = []

    def is_all_tried():
        return {path for path, status in done if status < 300} >= set(bodies("")) - {"/predict"}

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(FUZZ_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(done), sorted((s, done.count(s)) for s in set(done)))
    # A fuzz whose bodies are all refused at the door tries nothing behind it.
    assert is_all_tried()
    assert not wrong, "\n\n".join(map(str, wrong[:12]))
    assert len(done) > 50


IDS = (
    "%00", "a%00b", "%ed%a0%80", "%ff", "%0d%0ax-evil:%201", "%20", "..", "%2e%2e%2f%2e%2e", "0", "-1", "9" * 30,
    "9" * 5000, "%d9%a1", "1e3", "1.0", "file-", "file-AAAA", "file-WyJhIiwiYiJd", "file-W10", "file-WzEsMl0",
    "file-WyJhXHUwMDAwIiwiYiJd", "file-" + "W1tb" * 2000, "%F0%9F%9A%A3", "'", "%22", "a" * 600, "a" * 4000, "null",
    "{id}", "%25", "*", "_", "%5C", "file-WyJcdWQ4MDAiLCJiIl0",
)  # fmt: skip
ID_PATHS = (
    ("GET", "/v1/jobs/{}"),
    ("GET", "/v1/files/{}"),
    ("DELETE", "/v1/files/{}"),
    ("GET", "/v1/files/{}/content"),
    ("GET", "/v1/models/{}"),
    ("DELETE", "/v1/documents/{}"),
    ("DELETE", "/v1/documents/one?collection={}"),
    ("DELETE", "/v1/documents/one?{}=1"),
    ("GET", "/v1/vector_stores/{}"),
    ("GET", "/v1/vector_stores?limit={}"),
    ("GET", "/v1/vector_stores?after={}"),
    ("POST", "/v1/vector_stores/{}/search"),
)


def test_no_id_brings_about_an_error_of_ours(gateway, canary):
    for method, path in ID_PATHS:
        for id_ in IDS:
            body = {"query": "x"} if method == "POST" else None
            status, headers, raw = ask(gateway, method, path.format(id_), body, secret=canary)
            assert "x-evil" not in headers
            check_answer(status, headers, raw)
            json.loads(raw)


def test_no_form_brings_about_an_error_of_ours(gateway, canary):
    whole = form(
        part("file", "Oars are of fir.", "oars.txt", "text/plain"),
        part("purpose", "assistants"),
        part("collection", "hostile"),
        part("metadata", '{"a": 1}'),
        part("title", "Oars"),
    )
    dice = random.Random(7)
    odd_names = [
        b"../../etc/passwd",
        b"a\0b.txt",
        b"\xff.txt",
        b"x" * 300,
        b"",
        b"a\r\nb",
        b"con.txt;",
        b"a.exe",
    ]
    odd_values = [
        b"\xff",
        b"\0",
        b"[" * 5000,
        b"x" * 300_000,
        b"",
        b'{"a": ' * 500,
        b'"\\ud800"',
        b"NaN",
        b"{}",
    ]
    for n in range(150):
        raw = whole
        for _ in range(dice.randint(1, 2)):
            old = dice.choice(
                [b"oars.txt", b"assistants", b"hostile", b'{"a": 1}', b"Oars", b"fir", b"text/plain"]
            )
            new = dice.choice(odd_names if old == b"oars.txt" else odd_values)
            raw = raw.replace(old, new, 1) if dice.random() < 0.7 else garble(raw, dice)
        path = ("/v1/files", "/v1/documents")[n % 2]
        status, headers, data = ask(gateway, "POST", path, raw, {"content-type": FORM_TYPE}, secret=canary)
        check_answer(status, headers, data)
        json.loads(data)


FUZZ_THREADS = 4
FUZZ_REQUESTS = 750
FUZZ_SECONDS = 45.0
