"""Calls of a provider's HTTP API, against a server of this machine that answers what each test says."""

import asyncio
import gzip
import json
import time
from contextlib import asynccontextmanager
from email.utils import formatdate

import pytest

from trireme.errors import SettingError
from trireme.providers.http import HttpApi, classify, read_retry_after
from trireme.providers.port import AttemptLimits, ProviderError

KEY = "sk-canary-4711"
# Where no limit is meant to be met, however busy the machine is.
PATIENT = AttemptLimits(first=60.0, between=60.0, total=60.0)
QUICK = AttemptLimits(first=0.3, between=0.3, total=60.0)


@asynccontextmanager
async def served(handle):
    """A raw server; `handle(head, body, writer)` writes the answer. Gives the API's URL and what was asked."""
    asked = []
    open_connections = set()

    async def answer(reader, writer):
        open_connections.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(
                    next(
                        (
                            line[15:]
                            for line in head.split(b"\r\n")
                            if line.lower().startswith(b"content-length")
                        ),
                        b"0",
                    )
                )
                body = await reader.readexactly(length)
                asked.append((head.decode(), body))
                if await handle(writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            open_connections.discard(writer)
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", asked, open_connections
    finally:
        server.close()


def response(status=200, body=b"{}", headers="", length=None):
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status} X\r\ncontent-length: {size}\r\n{headers}\r\n"
    return head.encode() + body


def saying(raw, *, close=False):
    async def handle(writer):
        writer.write(raw)
        await writer.drain()
        return close

    return handle


async def hang(writer):
    await asyncio.sleep(60)


def post(handle, limits=PATIENT, key=KEY):
    async def run():
        async with served(handle) as (url, asked, _):
            api = HttpApi("openai", url, {"authorization": f"Bearer {key}"}, key)
            try:
                return json.loads(await api.post("/chat/completions", {"a": "ü"}, limits)), asked
            finally:
                await api.close()

    return asyncio.run(run())


def fault_of(handle, limits=PATIENT):
    with pytest.raises(ProviderError) as caught:
        post(handle, limits)
    assert KEY not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)
    return caught.value


def test_a_call_has_our_headers_and_no_others():
    value, [(head, body)] = post(saying(response(body=b'{"x": 1}')))
    assert value == {"x": 1}
    assert json.loads(body) == {"a": "ü"}
    names = {line.partition(":")[0].lower() for line in head.split("\r\n")[1:] if line}
    assert names == {
        "host",
        "authorization",
        "content-type",
        "content-length",
        "user-agent",
        "accept",
        "accept-encoding",
    }
    assert head.startswith("POST /v1/chat/completions ")


def test_the_environment_sets_no_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert post(saying(response()))[0] == {}


@pytest.mark.parametrize(
    ("status", "remedy", "kind"),
    [
        (400, "give_up", "invalid"),
        (401, "rotate", "auth"),
        (402, "rotate", "auth"),
        (403, "rotate", "auth"),
        (404, "next", "not_found"),
        (408, "again", "timeout"),
        (409, "again", "server"),
        (413, "give_up", "too_large"),
        (418, "give_up", "invalid"),
        (422, "give_up", "invalid"),
        (425, "again", "server"),
        (429, "again", "rate_limit"),
        (500, "again", "server"),
        (503, "again", "overloaded"),
        (529, "again", "overloaded"),
        (301, "next", "server"),
        (599, "next", "server"),
    ],
)
def test_every_status_has_its_remedy(status, remedy, kind):
    error = fault_of(
        saying(response(status, b'{"error": {"message": "why"}}', "location: http://127.0.0.1:1/\r\n"))
    )
    assert (error.status, error.remedy, error.kind) == (status, remedy, kind)
    assert ("why" in str(error)) == (status not in (401, 402, 403))


@pytest.mark.parametrize(
    ("status", "said", "wait", "remedy", "kind"),
    [
        (429, "your credit balance is too low", 0, "rotate", "quota"),
        (429, "you exceeded your quota: see billing", 0, "again", "rate_limit"),
        (429, "slow down", 60, "next", "rate_limit"),
        (400, "maximum context length is 8192 tokens", 0, "larger", "too_long"),
        (413, "prompt is too long", 0, "larger", "too_long"),
    ],
)
def test_a_few_words_change_the_remedy(status, said, wait, remedy, kind):
    assert classify(status, "", said, wait) == (remedy, kind)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    ],
)
def test_a_wait_is_read_from_either_header(headers, seconds):
    assert read_retry_after(headers) == seconds


def test_a_wait_until_a_date_is_the_time_until_then():
    assert 50 < read_retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)}) <= 60


def test_what_a_provider_says_of_our_key_is_not_passed_on():
    said = json.dumps({"error": {"message": f"wrong: {KEY}"}}).encode()
    for status in (400, 401, 500):
        assert KEY not in str(fault_of(saying(response(status, said))))


@pytest.mark.parametrize("before", ["", "x" * (300 - len("the key ") - 8), "x" * 280])
def test_our_key_is_hidden_in_what_is_told_within_an_answer(before):
    api = HttpApi("openai", "http://127.0.0.1:1/v1", {}, KEY)
    with pytest.raises(ProviderError) as caught, api.key_hidden():
        raise ProviderError(f"{before} the key {KEY} is wrong"[:300], "next", "server")
    assert KEY[:6] not in str(caught.value)
    assert "[key]" in str(caught.value)


def test_our_key_is_hidden_however_json_writes_it():
    body = ('{"error": {"message": "key ' + "".join(f"\\u{ord(sign):04x}" for sign in KEY) + '"}}').encode()
    assert "[key]" in str(fault_of(saying(response(status=500, body=body))))


def test_a_long_error_is_shortened_and_in_one_line():
    said = json.dumps({"error": {"message": "a\n" * 5000}}).encode()
    text = str(fault_of(saying(response(500, said))))
    assert len(text) < 500
    assert "\n" not in text


@pytest.mark.parametrize("body", [b"<html>", b"", b"[", b"\xff"])
def test_an_error_that_is_no_json_is_told_by_its_status(body):
    assert str(fault_of(saying(response(502, body)))) == "openai answered 502"


def test_a_packed_answer_is_unpacked():
    raw = gzip.compress(b'{"x": 1}')
    assert post(saying(response(body=raw, headers="content-encoding: gzip\r\n")))[0] == {"x": 1}


def test_a_provider_that_says_nothing_is_late():
    error = fault_of(hang, QUICK)
    assert (error.kind, error.remedy) == ("timeout", "again")


def test_a_connection_that_is_closed_before_an_answer_is_no_connection():
    assert fault_of(saying(b"", close=True)).kind == "connect"


def test_an_answer_that_is_cut_is_cut():
    assert fault_of(saying(response(body=b'{"x"', length=100), close=True)).kind == "cut"


def test_nobody_there_is_no_connection():
    async def run():
        api = HttpApi("openai", "http://127.0.0.1:1/v1", {})
        try:
            await api.post("/x", {}, PATIENT)
        finally:
            await api.close()

    with pytest.raises(ProviderError) as caught:
        asyncio.run(run())
    assert caught.value.kind == "connect"


@pytest.mark.parametrize("url", ["", "api.openai.com", "ftp://x", "file:///etc/passwd"])
def test_what_is_no_url_stops_the_start(url):
    with pytest.raises(SettingError, match=r"providers\.openai\.url"):
        HttpApi("openai", url, {})


HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def piece(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_a_stream_comes_as_it_is_sent_and_its_connection_is_used_again():
    async def handle(writer):
        writer.write(HEAD + piece(b"one"))
        await writer.drain()
        await told.wait()
        writer.write(piece(b"two") + b"0\r\n\r\n")
        await writer.drain()

    async def run():
        nonlocal told
        told = asyncio.Event()
        async with served(handle) as (url, asked, connections):
            api = HttpApi("openai", url, {})
            for _ in range(3):
                told.clear()
                got = []
                async for data in api.stream("/x", {}, AttemptLimits()):
                    got.append(data)
                    told.set()
                assert got == [b"one", b"two"]
            assert len(connections) == 1
            assert len(asked) == 3
            await api.close()

    told = None
    asyncio.run(run())


def test_a_stream_that_stalls_is_late_after_the_time_between_parts():
    async def handle(writer):
        writer.write(HEAD + piece(b"one"))
        await writer.drain()
        await asyncio.sleep(60)

    async def run():
        async with served(handle) as (url, _, _):
            api = HttpApi("openai", url, {})
            got = []
            try:
                async for data in api.stream("/x", {}, AttemptLimits(first=60.0, between=0.3, total=60.0)):
                    got.append(data)
            except ProviderError as error:
                return got, error.kind
            finally:
                await api.close()

    assert asyncio.run(run()) == ([b"one"], "timeout")


def test_a_stream_that_never_ends_ends_with_its_time():
    async def handle(writer):
        writer.write(HEAD)
        while True:
            writer.write(piece(b"x"))
            await writer.drain()
            await asyncio.sleep(0.02)

    async def run():
        async with served(handle) as (url, _, _):
            api = HttpApi("openai", url, {})
            try:
                async for _ in api.stream("/x", {}, AttemptLimits(first=60.0, between=60.0, total=0.4)):
                    pass
            except ProviderError as error:
                return error.kind
            finally:
                await api.close()

    assert asyncio.run(run()) == "timeout"


@pytest.mark.parametrize("way", ["close", "cancel"])
def test_a_stream_that_nobody_reads_on_ends_its_connection(way):
    async def handle(writer):
        writer.write(HEAD + piece(b"one"))
        await writer.drain()
        await asyncio.sleep(60)

    async def run():
        async with served(handle) as (url, _, connections):
            api = HttpApi("openai", url, {})
            stream = api.stream("/x", {}, AttemptLimits())
            assert await anext(stream) == b"one"
            if way == "cancel":
                task = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                await stream.aclose()
            writer = next(iter(connections))
            with pytest.raises(ConnectionError):
                while True:
                    writer.write(piece(b"more"))
                    await writer.drain()
                    await asyncio.sleep(0.01)
            await api.close()

    asyncio.run(run())


def test_words_of_the_client_in_a_message_bench_no_key():
    said = {
        "error": {
            "message": "Invalid value: 'insufficient_quota billing_error your credit balance'",
            "type": "x",
        }
    }
    said["error"]["message"] = (
        "Supported values of service_tier are auto and default, but we got: " + said["error"]["message"]
    )
    error = fault_of(saying(response(400, json.dumps(said).encode())))
    assert (error.remedy, error.kind) == ("give_up", "invalid")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, {"message": "no more", "type": "insufficient_quota"}),
        (429, {"message": "no more", "code": "insufficient_quota"}),
        (
            400,
            {"message": "Your credit balance is too low to access the API.", "type": "invalid_request_error"},
        ),
    ],
)
def test_an_account_that_is_used_up_lets_another_key_try(status, error):
    fault = fault_of(saying(response(status, json.dumps({"error": error}).encode())))
    assert (fault.remedy, fault.kind) == ("rotate", "quota")


def test_an_error_that_comes_in_pieces_is_read_to_its_end():
    body = b'{"error": {"message": "why"}}'

    async def handle(writer):
        writer.write(response(500, body[:9], length=len(body)))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(body[9:])
        await writer.drain()

    assert "why" in str(fault_of(handle))
