"""Open-loop load on a chat endpoint, in a process of its own: requests go out when due, whatever comes back.

It reads a job a line on stdin and answers with a line on stdout, both JSON. Times are counted from the moment at
which a request was due, so that a server that falls behind cannot slow its own measurement down.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import re
import secrets
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gateway.arrivals import make_arrivals
from benchmarks.gateway.clock import Call, Clock
from benchmarks.rivals.common import serve

HOST = "127.0.0.1"
CHAT = "/v1/chat/completions"
_CONTENT = re.compile(rb'"content": ?"[^"]')
_DONE = b"data: [DONE]"
# In a body: a number takes its place that no other request has.
NUMBER = "################"
# Sent later than this after it was due: the machine or this process was busy.
LATE_S = 0.005


@dataclass(frozen=True, slots=True)
class LoadJob:
    """What is sent, and when. expected: what every right answer holds. Requests due before `warmup_s` do not count.
    Where the body holds NUMBER, no two requests are equal.

    connections: at most; a request that finds none waits for one. Who has no answer `timeout_s` after it was due
    counts as a timeout.
    """

    port: int
    rate: float
    seconds: float
    seed: int
    body: dict[str, Any]
    expected: str
    headers: dict[str, str] = field(default_factory=dict)
    warmup_s: float = 2.0
    timeout_s: float = 10.0
    connections: int = 1000


@dataclass(slots=True)
class Sent:
    """One request. Moments of `time.monotonic`; 0: not yet. error: "" for a right answer."""

    due: float
    counts: bool
    at: float = 0.0
    first: float = 0.0
    done: float = 0.0
    error: str = ""


def encode_request(job: LoadJob) -> bytes:
    """Head and body, the same for every request of a job but for NUMBER."""
    body = json.dumps(job.body).encode()
    given = {"host": f"{HOST}:{job.port}", "content-type": "application/json", **job.headers}
    head = [f"POST {CHAT} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*head, f"content-length: {len(body)}", "", ""]).encode() + body


class Requests:
    """What is sent, one after the other."""

    def __init__(self, job: LoadJob) -> None:
        self._parts = encode_request(job).split(NUMBER.encode())
        # Also of other jobs, which the same cache may have seen.
        self._series, self._count = secrets.token_hex(4), 0

    def __next__(self) -> bytes:
        self._count += 1
        return f"{self._series}{self._count:08d}".encode().join(self._parts)


class Connection(asyncio.Protocol):
    """Kept alive; one request at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._parser = pool, None
        self._transport: Any = None
        self._sent: Sent | None = None
        self._body = bytearray()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._pool.forget(self)
        self._end(f"connection closed{f': {error}' if error else ''}")

    def send(self, request: bytes, sent: Sent) -> None:
        import httptools

        self._parser = httptools.HttpResponseParser(self)
        self._sent, self._body = sent, bytearray()
        sent.at = time.monotonic()
        self._transport.write(request)
        self._pool.sending(self, sent)

    def drop(self) -> None:
        """Closes it in the middle of whatever it does."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body += data
        if self._sent is not None and not self._sent.first and _CONTENT.search(self._body):
            self._sent.first = time.monotonic()

    def on_message_complete(self) -> None:
        assert self._parser is not None
        status, body = self._parser.get_status_code(), bytes(self._body)
        error = self._pool.judge(status, body)
        keeps = self._parser.should_keep_alive()
        self._end(error)
        if keeps:
            self._pool.give_back(self)
        else:
            self.drop()

    def _end(self, error: str) -> None:
        sent, self._sent = self._sent, None
        if sent is not None:
            sent.done, sent.error = time.monotonic(), error
            self._pool.ended(sent)


class Pool:
    """Connections of one job, and requests that wait for one."""

    def __init__(self, job: LoadJob) -> None:
        self._job, self._requests = job, Requests(job)
        self._is_streamed = bool(job.body.get("stream"))
        self._free, self._all = list[Connection](), set[Connection]()
        self._opening, self._waiting = 0, deque[Sent]()
        self._tasks = set[asyncio.Task[None]]()
        self.running = 0
        self.idle = asyncio.Event()
        self.most = 0

    def judge(self, status: int, body: bytes) -> str:
        """What is wrong with an answer, "" for nothing."""
        if status != 200:
            return f"HTTP {status}: {body[:160].decode(errors='replace')}"
        if self._is_streamed and _DONE not in body:
            return "the stream has no end"
        return "" if self._job.expected.encode() in body else "the answer lacks what it should hold"

    def send(self, sent: Sent) -> None:
        """Now, or with the next connection that is free."""
        self.running += 1
        self.idle.clear()
        if self._free:
            self._free.pop().send(next(self._requests), sent)
            return
        self._waiting.append(sent)
        if len(self._all) + self._opening < self._job.connections:
            self._opening += 1
            task = asyncio.get_running_loop().create_task(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, made = await loop.create_connection(lambda: Connection(self), HOST, self._job.port)
        except OSError as error:
            if self._waiting:
                sent = self._waiting.popleft()
                sent.done, sent.error = time.monotonic(), f"cannot connect: {error.strerror}"
                self.ended(sent)
            return
        finally:
            self._opening -= 1
        self._all.add(made)
        self.most = max(self.most, len(self._all))
        self.give_back(made)

    def give_back(self, connection: Connection) -> None:
        if self._waiting:
            connection.send(next(self._requests), self._waiting.popleft())
        else:
            self._free.append(connection)

    def forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._free:
            self._free.remove(connection)

    def sending(self, connection: Connection, sent: Sent) -> None:
        """It was written to the connection."""

    def ended(self, sent: Sent) -> None:
        """It has an answer, or a fault."""
        self.running -= 1
        if not self.running:
            self.idle.set()

    async def close(self) -> None:
        """Drops what is still running."""
        for task in self._tasks:
            task.cancel()
        for connection in list(self._all):
            connection.drop()
        await asyncio.sleep(0)


class Sender:
    """Sends each request when it is due."""

    def __init__(self, job: LoadJob, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock
        start = time.monotonic() + 0.05
        arrivals = make_arrivals(job.rate, job.warmup_s + job.seconds, job.seed)
        self.all = [Sent(start + at, at >= job.warmup_s) for at in arrivals]
        self._next, self.finished = 0, asyncio.Event()
        self._call: Call | None = None
        self._wait()

    def _wait(self) -> None:
        if self._next < len(self.all):
            self._call = self._clock.call_at(self.all[self._next].due, self._send)
        else:
            self.finished.set()

    def _send(self) -> None:
        sent = self.all[self._next]
        self._next += 1
        self._pool.send(sent)
        self._wait()


async def run_load(job: LoadJob) -> dict[str, Any]:
    """What came of a job: see `report`."""
    clock = Clock(asyncio.get_running_loop())
    pool = Pool(job)
    gc.collect()
    gc.disable()
    try:
        sender = Sender(job, pool, clock)
        await sender.finished.wait()
        # What is still running then has no answer: `report` counts it.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(pool.idle.wait(), job.timeout_s)
        await pool.close()
    finally:
        gc.enable()
        clock.close()
    return {**report(sender.all, job.timeout_s, bool(job.body.get("stream"))), "connections": pool.most}


def report(requests: list[Sent], timeout_s: float, is_streamed: bool) -> dict[str, Any]:
    """Milliseconds from when each counted request was due: first content (streams alone), and all of it.

    Whoever failed counts as slow as a timeout: errors make no percentile better. late: of `LATE_S` or more.
    """
    counted = [one for one in requests if one.counts]
    errors = Counter(_name_fault(one, timeout_s) for one in counted)
    del errors[""]
    ends = [one.done - one.due if not _name_fault(one, timeout_s) else timeout_s for one in counted]
    firsts = [one.first - one.due if not _name_fault(one, timeout_s) else timeout_s for one in counted]
    return {
        "requests": len(counted),
        "sent": sum(bool(one.at) for one in requests),
        "errors": dict(errors.most_common(5)),
        "failed": sum(errors.values()),
        "timeouts": errors["timeout"],
        "late": sum(not one.at or one.at - one.due >= LATE_S for one in counted),
        "total_ms": [round(1000 * seconds, 3) for seconds in ends],
        "first_ms": [round(1000 * seconds, 3) for seconds in firsts] if is_streamed else [],
    }


def _name_fault(one: Sent, timeout_s: float) -> str:
    """ "" for a right answer in time."""
    if not one.done or one.done - one.due > timeout_s:
        return "timeout"
    return one.error


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """One job: the fields of a LoadJob. Blocks until it is over."""
    import uvloop

    before = os.times()
    done = uvloop.run(run_load(LoadJob(**job)))
    spent = os.times()
    return {**done, "cpu_s": spent.user + spent.system - before.user - before.system}


def main() -> int:
    serve(lambda: answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
