"""Connections that cost others nothing, on a real socket."""

import asyncio
import json
import socket
import threading
import time

import pytest
import uvloop

from fakes.gateways import SECRET, Echo, FakeGateway
from trireme.gateway.connections import HEAD_BYTES, Corked
from trireme.providers.chat import Finished, Started, TextDelta

BODY = json.dumps({"model": "llm", "messages": [{"role": "user", "content": "hello"}]}).encode()

MESSAGES = json.dumps({"max_tokens": 9, **json.loads(BODY)}).encode()


def echo(call, model):
    yield Started(model)
    yield TextDelta("hello")
    yield Finished("stop")


@pytest.fixture(scope="module")
def gateway():
    with FakeGateway(Echo(echo), file="[limits]\nidle_seconds = 3\nbody_seconds = 3") as running:
        yield running


def connect(gateway):
    client = socket.create_connection(("127.0.0.1", gateway.port))
    client.settimeout(20)
    return client


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read_to_end(client):
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


def test_a_connection_that_sends_nothing_is_closed(gateway):
    with connect(gateway) as client:
        assert read_to_end(client) == b""


def test_a_head_that_trickles_is_closed(gateway):
    with connect(gateway) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
        assert read_to_end(client) == b""


def test_a_second_head_that_trickles_is_closed_too(gateway):
    with connect(gateway) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nho")
        data = read_to_end(client)
    assert data.count(b"HTTP/1.1 200") == 1


def test_a_head_that_is_too_long_is_refused(gateway):
    with connect(gateway) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: ")
        try:
            for _ in range(HEAD_BYTES // 1024 + 2):
                client.sendall(b"x" * 1024)
            data = read_to_end(client)
        except ConnectionError:
            # Closed while we were still sending: the answer may be lost with it.
            data = b"HTTP/1.1 431"
    assert data.startswith(b"HTTP/1.1 431")


def test_a_body_that_trickles_is_refused_after_its_seconds(gateway):
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {SECRET}\r\ncontent-length: 900\r\n\r\n"
    with connect(gateway) as client:
        client.sendall(head.encode() + b"{")
        data = read_to_end(client)
    assert data.startswith(b"HTTP/1.1 504")
    assert b"body did not arrive" in data


def test_what_is_no_http_is_refused(gateway):
    with connect(gateway) as client:
        client.sendall(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03")
        assert read_to_end(client).startswith(b"HTTP/1.1 400")


def test_a_thousand_idle_connections_do_not_keep_others_out(gateway):
    clients = [connect(gateway) for _ in range(1000)]
    try:
        assert gateway.ask("POST", "/v1/chat/completions", BODY)[0] == 200
    finally:
        for client in clients:
            client.close()


def test_a_head_that_is_sent_behind_a_running_request_is_bounded_too():
    release = threading.Event()

    async def hold():
        while not release.is_set():
            await asyncio.sleep(0.01)

    def held(call, model):
        yield Started(model)
        yield hold()
        yield Finished("stop")

    size = len(MESSAGES)
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {SECRET}\r\ncontent-length: {size}\r\n\r\n"
    with FakeGateway(Echo(held)) as running, connect(running) as client:
        client.sendall(head.encode() + MESSAGES)
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
        with pytest.raises(ConnectionError):
            for n in range(40_000):
                client.sendall(b"x-%d: %s\r\n" % (n, b"x" * 1000))
        release.set()


def test_requests_sent_one_behind_the_other_are_answered_in_order(gateway):
    one = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\ncontent-length: %d\r\n\r\n"
    request = one % (SECRET.encode(), len(BODY)) + BODY
    with connect(gateway) as client:
        client.sendall(request * 3)
        data = read_to_end(client)
    assert data.count(b"HTTP/1.1 200") == 3


def test_what_nobody_reads_of_a_closed_connection_is_let_go(monkeypatch):
    monkeypatch.setattr("trireme.gateway.connections.LINGER_SECONDS", 0.2)

    def endless(call, model):
        yield Started(model)
        while True:
            yield TextDelta("x" * 100_000)
            yield asyncio.sleep(0)

    with FakeGateway(Echo(endless), file="[limits]\nreading_seconds = 1") as running:
        body = json.dumps({**json.loads(BODY), "stream": True}).encode()
        headers = f"host: x\r\nx-api-key: {SECRET}\r\ncontent-length: {len(body)}\r\n\r\n"
        with connect(running) as client:
            client.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{headers}".encode() + body)
            wait_until(lambda: not running.connections())


def test_what_is_written_as_the_connection_ends_is_dropped_without_a_word():
    loop = uvloop.new_event_loop()
    said, written = [], asyncio.Event()
    loop.set_exception_handler(lambda _, context: said.append(context))

    class Ending(asyncio.Protocol):
        def connection_made(self, transport):
            self.corked = Corked(transport, loop)
            transport.abort()

        def connection_lost(self, error):
            # The transport is closed for good in a later turn.
            loop.call_later(0.05, self.corked.write, b"half an answer")
            loop.call_later(0.1, written.set)

    async def connect_once():
        server = await loop.create_server(Ending, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        assert await reader.read() == b""
        await written.wait()
        writer.close()
        server.close()
        await server.wait_closed()

    try:
        loop.run_until_complete(connect_once())
    finally:
        loop.close()
    assert said == []
