"""Clients that go away, and processes that are killed: nothing is left running, nothing hangs, all comes back."""

import asyncio
import contextlib
import http.client
import json
import os
import random
import re
import signal
import threading
import time
from contextlib import closing

import psutil
import pytest
from gateways import gateway_over
from hostile import ask, chat, connect, new_key
from stacks import ROOT, free_ports, settings_on_free_ports, wait_until

from fakes.upstreams import serving
from trireme.stack import Stack

STREAMS = 1000
AT_ONCE = 50
# The goal is 0.5 s on a quiet machine; the test says what it was.
SOON = 45.0
# 300 frames: ends by itself after 90 s of the pace, long after SOON.
LONG = " ".join(f"word{n}" for n in range(900))
PACE = 0.3
# All that a search needs.
MODELS = ("embedding", "reranker", "search", "search__retrieve", "search__sort")


@pytest.fixture(scope="module")
def upstream():
    with serving() as running:
        running.pace = PACE
        yield running


@pytest.fixture(scope="module")
def gateway(stack, upstream, tmp_path_factory):
    with gateway_over(stack, upstream, tmp_path_factory.mktemp("leaving")) as running:
        yield running


@pytest.fixture(scope="module")
def secret(gateway):
    return new_key(gateway, "acme")


def running_of(gateway):
    """Requests that the gateway counts as running, without the one that asks."""
    _, _, text = ask(gateway, "GET", "/metrics")
    rows = re.findall(
        r'^trireme_gateway_requests_running\{endpoint="(\w+)"\} (\S+)', text.decode(), re.MULTILINE
    )
    assert rows
    return sum(float(count) for endpoint, count in rows if endpoint != "metrics")


def state_of(gateway):
    """Open descriptors, threads and resident bytes of the gateway's process."""
    process = psutil.Process(gateway.process.pid)
    return process.num_fds(), process.num_threads(), process.memory_info().rss


def settle(gateway, upstream):
    """Seconds until nothing runs, at the gateway and behind it."""
    started = time.monotonic()
    while running_of(gateway) or upstream.answering:
        assert time.monotonic() - started < SOON, (running_of(gateway), upstream.answering)
        time.sleep(0.02)
    return time.monotonic() - started


async def drop_all(gateway, secret, make, *, count, seed, pause, waits=False):
    """Send `count` requests, AT_ONCE at the same time, each dropped at a random moment of `pause` seconds.

    waits: every other one waits for the beginning of its answer, however long that takes, and is dropped after it.
    Returns how many answers had begun.
    """
    dice, places = random.Random(seed), asyncio.Semaphore(AT_ONCE)
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    moments = [dice.uniform(0, pause) for _ in range(count)]
    ways = [dice.random() for _ in range(count)]
    begun = 0

    async def one(number, moment, way):
        nonlocal begun
        async with places:
            reader, writer = await asyncio.open_connection(host, int(port))
            path, body, sent = make(way)
            head = f"host: x\r\nauthorization: Bearer {secret}\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(f"POST {path} HTTP/1.1\r\n{head}".encode() + body[: int(len(body) * sent)])
            with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
                # What comes is read meanwhile, as by a client that shows it.
                data = await asyncio.wait_for(reader.read(1 << 20), SOON if number % 2 and waits else moment)
                begun += data.startswith(b"HTTP/1.1 200")
                await asyncio.sleep(moment / 2)
            if way < 0.5:
                writer.transport.abort()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    await asyncio.gather(*map(one, range(count), moments, ways))
    return begun


def streamed(way):
    if way < 0.5:
        return "/v1/chat/completions", json.dumps(chat("assistant", LONG, stream=True)).encode(), 1.0
    return "/v1/messages", json.dumps(chat("claude", LONG, stream=True, max_tokens=2000)).encode(), 1.0


def whole(way):
    return "/v1/chat/completions", json.dumps(chat("assistant", LONG)).encode(), 1.0


def half_sent(way):
    return "/v1/chat/completions", json.dumps(chat("assistant", LONG)).encode(), way


def test_a_thousand_dropped_streams_leave_nothing_behind(gateway, upstream, secret):
    # What is made once, is made now.
    asyncio.run(drop_all(gateway, secret, streamed, count=100, seed=1, pause=0.4, waits=True))
    settle(gateway, upstream)
    before = state_of(gateway)
    begun = asyncio.run(drop_all(gateway, secret, streamed, count=STREAMS, seed=2, pause=0.8, waits=True))
    seconds = settle(gateway, upstream)
    assert begun >= STREAMS / 2
    upstream.wait_until(lambda seen: seen.connections == 0)
    wait_until(lambda: state_of(gateway)[0] <= before[0] + 5)
    after = state_of(gateway)
    print(
        f"{begun} begun; nothing ran {seconds:.2f} s after the last; fds, threads, bytes {before} -> {after}"
    )
    assert after[1] <= before[1] + 8
    assert after[2] - before[2] < 64 << 20


def test_whole_requests_and_half_bodies_that_are_dropped_leave_nothing_behind(gateway, upstream, secret):
    upstream.hold()
    try:
        asyncio.run(drop_all(gateway, secret, whole, count=150, seed=3, pause=0.3))
        settle(gateway, upstream)
        asyncio.run(drop_all(gateway, secret, half_sent, count=150, seed=4, pause=0.1))
        settle(gateway, upstream)
    finally:
        upstream.let_go()
    wait_until(lambda: upstream.connections == 0)


def generations_of(stack):
    """What the server's own model generates now, by its metrics."""
    with closing(
        http.client.HTTPConnection("127.0.0.1", stack.settings.metrics_port, timeout=30)
    ) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    rows = re.findall(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} (\S+)", text, re.MULTILINE)
    assert rows
    return sum(map(float, rows))


def test_dropped_generations_of_our_own_model_are_cancelled(gateway, upstream, stack, secret):
    def generated(way):
        body = chat("llm", "Tell a long story of rowers.", stream=way < 0.7, max_tokens=200)
        return "/v1/chat/completions", json.dumps(body).encode(), 1.0

    assert ask(gateway, "POST", "/v1/chat/completions", chat("llm", max_tokens=2), secret=secret)[0] == 200
    asyncio.run(drop_all(gateway, secret, generated, count=50, seed=5, pause=1.0))
    seconds = settle(gateway, upstream)
    wait_until(lambda: generations_of(stack) == 0)
    print(f"nothing ran {seconds:.2f} s after the last")
    assert ask(gateway, "POST", "/v1/chat/completions", chat("llm", max_tokens=2), secret=secret)[0] == 200


class Streams:
    """Streams in threads, each read to its end, whatever that is."""

    def __init__(self, gateway, secret, count, text):
        self.ends = []
        body = json.dumps(chat("assistant", text, stream=True)).encode()
        self._threads = [
            threading.Thread(target=self._run, args=(gateway, secret, body)) for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, gateway, secret, body):
        head = (
            f"host: x\r\nauthorization: Bearer {secret}\r\ncontent-length: {len(body)}\r\nconnection: close"
        )
        data = b""
        try:
            with connect(gateway) as client:
                client.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n\r\n".encode() + body)
                while piece := client.recv(65536):
                    data += piece
        except OSError as error:
            data += repr(error).encode()
        self.ends.append(data)

    def join(self):
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a client hangs"
        return self.ends


def test_a_gateway_that_is_killed_ends_its_streams_as_broken_and_serves_again(gateway, upstream, secret):
    calls = len(upstream.calls)
    streams = Streams(gateway, secret, 10, LONG)
    upstream.wait_until(lambda seen: len(seen.calls) >= calls + 10)
    gateway.process.kill()
    for end in streams.join():
        assert b"[DONE]" not in end
    upstream.wait_until(lambda seen: seen.answering == 0)
    notices = []
    wait_until(lambda: gateway.process.look_after(notices.append) or gateway.process.answers(1.0))
    assert notices
    # A key is in force from the first answer on.
    assert ask(gateway, "POST", "/v1/chat/completions", chat(), secret=secret)[0] == 200


def test_a_gateway_that_is_told_to_stop_lets_streams_end_and_takes_no_new_connection(
    gateway, upstream, secret
):
    calls = len(upstream.calls)
    upstream.hold()
    streams = Streams(gateway, secret, 5, "one two three")
    upstream.wait_until(lambda seen: len(seen.calls) >= calls + 5)
    os.kill(gateway.process.pid, signal.SIGTERM)

    def refused():
        with contextlib.suppress(ConnectionError, http.client.HTTPException):
            ask(gateway, "GET", "/healthz")
            return False
        return True

    wait_until(refused)
    upstream.let_go()
    for end in streams.join():
        assert b"[DONE]" in end, end[-300:]
    wait_until(lambda: not gateway.process.is_running())
    assert b"Traceback" not in gateway.log.read_bytes()
    wait_until(lambda: gateway.process.look_after(lambda _: None) or gateway.process.answers(1.0))


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory):
    """One whose parts may be killed, with the models of a search."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "models").mkdir()
    for model in MODELS:
        (folder / "models" / model).symlink_to(ROOT / "model_repository" / model)
    settings = settings_on_free_ports(
        folder / "data", model_repository=folder / "models", gateway_port=free_ports(1)[0]
    )
    with Stack(settings) as running:
        yield running


@pytest.fixture(scope="module")
def own_gateway(own_stack, upstream, tmp_path_factory):
    with gateway_over(own_stack, upstream, tmp_path_factory.mktemp("over-killed")) as running:
        yield running


def reasons_of(gateway):
    status, _, body = ask(gateway, "GET", "/readyz")
    value = json.loads(body)
    assert (status == 200) is value["ready"]
    return value["reasons"]


def test_a_server_that_is_killed_is_told_of_and_used_again(own_gateway, own_stack):
    secret = new_key(own_gateway, "acme")
    embed = {"model": "embedding", "input": "oars"}
    assert ask(own_gateway, "POST", "/v1/embeddings", embed, secret=secret)[0] == 200
    os.kill(own_stack.server.pid, signal.SIGKILL)
    wait_until(lambda: reasons_of(own_gateway))
    print("readyz:", reasons_of(own_gateway))
    status, _, body = ask(own_gateway, "POST", "/v1/embeddings", embed, secret=secret)
    print("embeddings:", status, body)
    assert status == 503
    assert str(own_stack.settings.grpc_port).encode() not in body
    assert ask(own_gateway, "GET", "/healthz")[0] == 200
    assert ask(own_gateway, "POST", "/v1/chat/completions", chat(), secret=secret)[0] == 200
    wait_until(lambda: own_stack.look_after(lambda _: None) or not reasons_of(own_gateway), 120)
    # gRPC pauses between two tries of a connection.
    started = time.monotonic()
    wait_until(lambda: ask(own_gateway, "POST", "/v1/embeddings", embed, secret=secret)[0] == 200)
    print(f"embeddings {time.monotonic() - started:.2f} s after readyz")


def test_a_database_that_is_killed_is_told_of_and_used_again(own_gateway, own_stack):
    secret = new_key(own_gateway, "acme")
    limited = new_key(own_gateway, "acme", requests_per_minute=1000)
    pid = (own_stack.settings.data_dir / "postgres" / "cluster" / "postmaster.pid").read_text().split()[0]
    postgres = psutil.Process(int(pid))
    for process in [*postgres.children(recursive=True), postgres]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_until(lambda: reasons_of(own_gateway))
    print("readyz:", reasons_of(own_gateway))
    # Keys that are known stay in force, also those that are counted.
    for key in (secret, limited):
        assert ask(own_gateway, "POST", "/v1/chat/completions", chat(), secret=key)[0] == 200
    for method, path, body in (
        ("POST", "/v1/search", {"query": "oars"}),
        ("POST", "/v1/documents", {"document_id": "a", "text": "b"}),
        ("GET", "/v1/jobs/1", None),
        ("GET", "/v1/vector_stores", None),
    ):
        status, _, raw = ask(own_gateway, method, path, body, secret=secret)
        print(path, status, raw)
        assert status in (503, 504), (path, raw)
        assert b"postgres" not in raw.lower().replace(b"postgresql", b"") and b"5432" not in raw
    wait_until(lambda: own_stack.look_after(lambda _: None) or not reasons_of(own_gateway), 120)
    status, _, raw = ask(
        own_gateway, "POST", "/v1/documents", {"document_id": "a", "text": "b"}, secret=secret
    )
    assert status == 202, raw
