"""A provider on 127.0.0.1 that speaks OpenAI's and Anthropic's HTTP exactly, and breaks on command.

The command is the request's model, or the next entry of `Upstream.plan`:

    echo                     the last text again, in pieces of three words; so does any name that is no command
    empty, no_usage          an answer without content; one without usage
    fault-NAME-PLACE         a fault of FAULTS at one of PLACES
    fault-status_429         an error with this status, in the words of the wire format; so for MESSAGES' others
    fault-too_long           400, since the prompt is longer than the model's window
    ...-once                 only the first time that it is asked for, then echo

With tools in the request it calls each of them, the arguments in pieces of three letters.
"""

import asyncio
import json
import socket
import struct
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from fakes.upstream_wires import MESSAGES, TOO_LONG, WIRES, answer_to, encode

# slow_first_byte: a pause of `Upstream.slow` seconds. stall: one until the client leaves. cut: the connection is
# closed, by reset with RST. end: the response ends as HTTP, the answer does not. malformed: what should be JSON is
# none; before the headers, what should be HTTP.
FAULTS = ("slow_first_byte", "stall", "cut", "reset", "end", "malformed", "error_in_200")
# Where in the response. Of a whole answer these are places in the bytes of its body.
PLACES = ("before_headers", "before_content", "middle", "after_content")


@dataclass(frozen=True)
class Received:
    """A request as it came. Names of headers are in lower case."""

    path: str
    headers: dict
    body: dict
    raw: bytes
    command: str
    # Set by `Upstream.go_on`, in the loop of the fake.
    may_break: asyncio.Event


class ClientLeft(Exception):
    """The connection is closed: there is nothing more to say."""


class Upstream:
    """What a test sees of the fake, and sets. `with serving() as upstream:` makes one.

    plan: commands for the next calls, whatever their model. secrets: credentials that are taken; empty: all.
    tells_key: its errors quote the credential that they came with, in the body and in a header.
    pace: seconds between two frames. slow: of the fault slow_first_byte. retry_after: header of 429, 503 and 529.
    is_gated: a stream's fault in the middle or after content waits for `go_on`, so that the client has seen all
    before it. hold: calls from now on are answered after `let_go`. calls: every request received, in order.
    connections: open now. answering: calls that have no end yet. left: calls whose client closed before their end.
    """

    def __init__(self):
        self.url = ""
        self.plan = []
        self.secrets = set()
        self.tells_key = False
        self.pace = 0.0
        self.slow = 1.0
        self.retry_after = {429: "1"}
        self.is_gated = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.loop = None
        self.calls = []
        self.connections = 0
        self.opened = 0
        self.answering = 0
        self.left = 0
        self.asked = Counter()
        self.changed = threading.Condition()

    def count(self, **changes):
        """Adds to the counts, and wakes who waits for them."""
        with self.changed:
            for name, by in changes.items():
                setattr(self, name, getattr(self, name) + by)
            self.changed.notify_all()

    def wait_until(self, holds, seconds=60.0):
        """Block until `holds(self)`; raises AssertionError when it does not after `seconds`."""
        with self.changed:
            assert self.changed.wait_for(lambda: holds(self), seconds), vars(self)

    def hold(self):
        """No call that comes from now on is answered."""
        self.may_answer = asyncio.Event()

    def let_go(self):
        """They are answered."""
        self.loop.call_soon_threadsafe(self.may_answer.set)

    def go_on(self, text):
        """The calls whose body holds the text may break now."""
        for received in self.calls:
            if text.encode() in received.raw:
                self.loop.call_soon_threadsafe(received.may_break.set)

    def command_of(self, model):
        """The command that this call follows: of the plan, else its model's name."""
        text = self.plan.pop(0) if self.plan else model
        self.asked[text] += 1
        command, dash, once = text.rpartition("-")
        if dash and once == "once":
            text = command if self.asked[text] == 1 else "echo"
        return text


class Connection(asyncio.StreamReaderProtocol):
    """One client. `gone` is set when it has closed its side, also while it is answered."""

    def __init__(self, upstream, connections):
        self.gone = asyncio.Event()
        self.upstream = upstream
        self.reader = asyncio.StreamReader()
        super().__init__(self.reader)
        self.connections = connections

    def connection_made(self, transport):
        super().connection_made(transport)
        self.transport = transport
        self.upstream.count(connections=1, opened=1)
        self.task = asyncio.ensure_future(self.run())
        self.connections.add(self)

    def eof_received(self):
        self.gone.set()
        return super().eof_received()

    def connection_lost(self, error):
        self.gone.set()
        self.connections.discard(self)
        self.upstream.count(connections=-1)
        super().connection_lost(error)

    async def run(self):
        try:
            with suppress(ClientLeft, asyncio.IncompleteReadError, ConnectionError):
                while True:
                    await Exchange(self, self.upstream).run()
        finally:
            self.transport.close()

    async def write(self, *parts):
        if self.gone.is_set():
            raise ClientLeft
        self.transport.write(b"".join(parts))
        await self._drain_helper()

    async def pause(self, seconds):
        """Wait so long, or for good with None. Raises ClientLeft as soon as the client has left."""
        try:
            await asyncio.wait_for(self.gone.wait(), seconds)
        except TimeoutError:
            return
        raise ClientLeft

    async def wait(self, event):
        """Until the event is set. Raises ClientLeft as soon as the client has left."""
        waits = [asyncio.ensure_future(one.wait()) for one in (event, self.gone)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
        if self.gone.is_set():
            raise ClientLeft

    def reset(self):
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()


class Exchange:
    """One request and its response."""

    def __init__(self, connection, upstream):
        self.connection = connection
        self.upstream = upstream

    async def run(self):
        received = await self.receive()
        self.credential = credential_of(received.headers)
        self.upstream.count(answering=1)
        is_whole = False
        try:
            if not self.upstream.may_answer.is_set():
                await self.connection.wait(self.upstream.may_answer)
            await self.answer(received)
            is_whole = True
        finally:
            self.upstream.count(answering=-1, left=0 if is_whole or not self.connection.gone.is_set() else 1)

    async def receive(self):
        head = await self.connection.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        raw = await self.connection.reader.readexactly(int(headers.get("content-length", 0)))
        path = first.split()[1].partition("?")[0]
        body = json.loads(raw) if raw else {}
        is_answer = path in WIRES
        command = self.upstream.command_of(body.get("model", "")) if is_answer else ""
        received = Received(path, headers, body, raw, command, asyncio.Event())
        with self.upstream.changed:
            self.upstream.calls.append(received)
            self.upstream.changed.notify_all()
        return received

    async def answer(self, received):
        wire = WIRES.get(received.path)
        if not is_readable(received.body):
            await self.json({"error": {"message": "the body cannot be read", "type": "invalid"}}, 400)
        elif received.path == "/v1/messages/count_tokens":
            await self.json({"input_tokens": answer_to(received.body).input_tokens})
        elif received.path == "/v1/models":
            await self.json({"object": "list", "data": [{"id": "echo", "object": "model", "created": 0}]})
        elif wire is None:
            await self.json({"error": {"message": "no such path"}}, 404)
        elif self.upstream.secrets and credential_of(received.headers) not in self.upstream.secrets:
            await self.json(wire.error(401), 401)
        else:
            await self.follow(received, wire)

    async def follow(self, received, wire):
        name, _, place = received.command.removeprefix("fault-").partition("-")
        if name == "too_long":
            await self.json(wire.error(400, TOO_LONG), 400)
        elif name.startswith("status_"):
            status = int(name.removeprefix("status_"))
            after = self.upstream.retry_after.get(status)
            await self.json(wire.error(status), status, {"retry-after": after} if after else {})
        else:
            fault = (name, place or "before_headers") if name in FAULTS else ("", "")
            answer = answer_to(received.body, name)
            if received.body.get("stream"):
                await self.stream(received, wire, answer, fault)
            else:
                await self.whole(wire, answer, fault)

    async def stream(self, received, wire, answer, fault):
        content = wire.content(answer)
        half = (len(content) + 1) // 2
        if fault == ("error_in_200", "before_headers"):
            await self.json(wire.error(503))
            return
        is_over = await self.break_at("before_headers", fault, wire)
        await self.begin(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        parts = {
            "before_content": wire.lifecycle(answer),
            "middle": content[:half],
            "after_content": content[half:],
            "after the end": wire.end(answer),
        }
        for place, frames in parts.items():
            if is_over:
                break
            for frame in frames:
                if self.upstream.pace:
                    await self.connection.pause(self.upstream.pace)
                await self.chunk(frame)
            if self.upstream.is_gated and place == fault[1] and place in {"middle", "after_content"}:
                await self.connection.wait(received.may_break)
            is_over = await self.break_at(place, fault, wire)
        await self.connection.write(b"0\r\n\r\n")

    async def whole(self, wire, answer, fault):
        name, place = fault
        body = self.telling(encode(wire.error(503))) if name == "error_in_200" else encode(wire.whole(answer))
        half = len(body) // 2
        if self.upstream.pace:
            await self.connection.pause(self.upstream.pace)
        if name == "malformed" and place != "before_headers":
            body = {"before_content": b"no JSON", "middle": body[:half], "after_content": body[:-1]}[place]
        if name == "end":
            body = {"middle": body[:half], "after_content": body[:-1]}.get(place, b"")
        # These are in the body already.
        if name in {"malformed", "end", "error_in_200"} and fault != ("malformed", "before_headers"):
            fault = ("", "")
        await self.break_at("before_headers", fault, wire)
        await self.begin(200, {"content-type": "application/json", "content-length": str(len(body))})
        for at, part in (("before_content", b""), ("middle", body[:half]), ("after_content", body[half:-1])):
            await self.connection.write(part)
            await self.break_at(at, fault, wire)
        await self.connection.write(body[max(half, len(body) - 1) :])

    async def break_at(self, place, fault, wire):
        """What the fault does at this place. True: the response ends here, as HTTP, without the rest."""
        name, where = fault
        if where != place:
            return False
        if name == "slow_first_byte":
            await self.connection.pause(self.upstream.slow)
        elif name == "stall":
            await self.connection.pause(None)
        elif name == "reset":
            self.connection.reset()
            raise ClientLeft
        elif name == "cut":
            raise ClientLeft
        elif name == "malformed" and place == "before_headers":
            await self.connection.write(b"HTTP/1.1 what\r\n\r\n")
            raise ClientLeft
        elif name == "malformed":
            await self.chunk(wire.bad_frame)
        elif name == "error_in_200":
            await self.chunk(self.telling(wire.error_frame()))
            return True
        return name == "end"

    async def begin(self, status, headers):
        lines = [
            f"HTTP/1.1 {status} {MESSAGES.get(status, 'OK')}",
            "request-id: req_1",
            "x-request-id: req_1",
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"x-seen-key: {self.credential}"] if self.upstream.tells_key else []
        await self.connection.write("\r\n".join([*lines, "", ""]).encode())

    async def chunk(self, data):
        await self.connection.write(f"{len(data):x}\r\n".encode(), data, b"\r\n")

    def telling(self, error):
        """An error's bytes, with the credential in its message where it is to be told."""
        if not self.upstream.tells_key:
            return error
        return error.replace(b'"message":"', b'"message":"Wrong key ' + self.credential.encode() + b". ", 1)

    async def json(self, value, status=200, headers=None):
        body = self.telling(encode(value))
        lengths = {"content-type": "application/json", "content-length": str(len(body))}
        await self.begin(status, {**lengths, **(headers or {})})
        await self.connection.write(body)


def is_readable(body):
    """Whether there is an answer to the body: strangers send what is none."""
    try:
        return not body or bool(answer_to(body))
    except (TypeError, ValueError, AttributeError, LookupError):
        return False


def credential_of(headers):
    """The secret of a request: Anthropic's header, else the bearer."""
    return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")


@contextmanager
def serving(port=0):
    """A running Upstream, in a thread with a loop of its own; at the end all its connections are closed."""
    upstream, ready = Upstream(), threading.Event()
    loop = upstream.loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve():
        connections = set()
        server = await loop.create_server(lambda: Connection(upstream, connections), "127.0.0.1", port)
        upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await stop.wait()
        server.close()
        while connections:
            for connection in list(connections):
                connection.transport.abort()
                connection.task.cancel()
            await asyncio.gather(*(connection.task for connection in connections), return_exceptions=True)
        await server.wait_closed()

    def run():
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(60), "the fake upstream did not start"
    try:
        yield upstream
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()
