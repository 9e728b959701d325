"""A fake OpenAI server with a fixed delay, in a process of its own: what gateways are measured in front of.

It prints one line of JSON with its port, and serves until it is ended. `GET /stats` tells what it has done.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.gateway.clock import Call, Clock

HOST = "127.0.0.1"
CHAT = b"/v1/chat/completions"
STATS = b"/stats"
MODEL = "fake"
WORDS = ("The", "trireme", "has", "three", "rows", "of", "oars", "and", "a", "ram.")
TEXT = " ".join(WORDS)
_HEAD = {"id": "chatcmpl-fake", "created": 1_700_000_000, "model": MODEL}
USAGE = {"prompt_tokens": 12, "completion_tokens": len(WORDS), "total_tokens": 12 + len(WORDS)}


@dataclass(slots=True)
class Stats:
    """running: streams and whole answers that are not at their end. left: those whose client went before that."""

    connections: int = 0
    requests: int = 0
    running: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds until the answer or its first chunk, chunks of a stream, seconds between two."""

    delay_s: float = 0.06
    chunks: int = 20
    gap_s: float = 0.005


def make_whole(text: str = TEXT, usage: Mapping[str, int] = USAGE) -> bytes:
    """The response to a request that is not streamed: head and body."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {**_HEAD, "object": "chat.completion", "choices": [choice], "usage": usage}
    return make_response(json.dumps(body).encode())


def make_known(question: str, answer: str) -> bytes:
    """The same, of an answer that was given; its tokens are taken to have 4 characters."""
    asked, said = (-(-len(text) // 4) for text in (question, answer))
    usage = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
    return make_whole(answer, usage)


def make_response(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def make_frames(chunks: int, wants_usage: bool) -> tuple[bytes, ...]:
    """What is sent of a stream at each of its `chunks` moments, HTTP chunks and all; the last one holds the end."""
    frames = [_frame({"role": "assistant", "content": ""})]
    frames += [_frame({"content": f"{WORDS[number % len(WORDS)]} "}) for number in range(chunks)]
    last = _frame({}, "stop")
    if wants_usage:
        last += _chunk({**_HEAD, "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
    last += _http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    first, *middle = [head + frames[0] + frames[1], *frames[2:]]
    return (first, *middle[:-1], middle[-1] + last) if middle else (first + last,)


def _frame(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _chunk({**_HEAD, "object": "chat.completion.chunk", "choices": [choice]})


def _chunk(value: dict[str, Any]) -> bytes:
    return _http_chunk(b"data: " + json.dumps(value).encode() + b"\n\n")


def _http_chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Upstream:
    """The answers, made once, and what was asked for."""

    def __init__(self, pace: Pace, clock: Clock, answers: Mapping[str, str] | None = None) -> None:
        """answers: by the last message's text, of whole answers in place of TEXT."""
        self.pace, self.clock, self.stats = pace, clock, Stats()
        self.known = {text: make_known(text, answer) for text, answer in (answers or {}).items()}
        self.whole = make_whole()
        self.streams = {usage: make_frames(pace.chunks, usage) for usage in (False, True)}


class Connection(asyncio.Protocol):
    """One client, one request at a time."""

    def __init__(self, upstream: Upstream) -> None:
        import httptools

        self._upstream, self._stats = upstream, upstream.stats
        self._parser: Any = httptools.HttpRequestParser(self)
        self._url, self._body = b"", list[bytes]()
        self._frames: tuple[bytes, ...] = ()
        self._place, self._next_at = 0, 0.0
        self._waiting: Call | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._stats.connections += 1

    def connection_lost(self, _error: Exception | None) -> None:
        self._stats.connections -= 1
        if self._waiting is not None:
            self._waiting.cancel()
            self._stats.running -= 1
            self._stats.left += 1

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url, self._body = b"", []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._url == CHAT:
            self._start(json.loads(b"".join(self._body)), time.monotonic())
        elif self._url == STATS:
            self._transport.write(make_response(json.dumps(asdict(self._stats)).encode()))
        else:
            self._transport.write(make_response(b'{"error":{"message":"not here"}}', "404 Not Found"))

    def _start(self, asked: dict[str, Any], now: float) -> None:
        self._stats.requests += 1
        self._stats.running += 1
        wants_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        self._frames = self._upstream.streams[wants_usage] if asked.get("stream") else (self._find(asked),)
        self._place, self._next_at = 0, now + self._upstream.pace.delay_s
        self._waiting = self._upstream.clock.call_at(self._next_at, self._send)

    def _find(self, asked: dict[str, Any]) -> bytes:
        if not self._upstream.known:
            return self._upstream.whole
        return self._upstream.known.get(asked["messages"][-1]["content"], self._upstream.whole)

    def _send(self) -> None:
        self._transport.write(self._frames[self._place])
        self._place += 1
        if self._place < len(self._frames):
            self._next_at += self._upstream.pace.gap_s
            self._waiting = self._upstream.clock.call_at(self._next_at, self._send)
        else:
            self._waiting = None
            self._stats.running -= 1


async def serve(pace: Pace, port: int, answers: Mapping[str, str] | None = None) -> None:
    """Serves on HOST until it is cancelled; port 0: any. Prints the port."""
    loop = asyncio.get_running_loop()
    upstream = Upstream(pace, Clock(loop), answers)
    server = await loop.create_server(lambda: Connection(upstream), HOST, port, backlog=2048)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    # What is there now stays, and what comes is freed by count: no pauses.
    gc.freeze()
    await server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> int:
    import uvloop

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    pace = Pace()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-s", type=float, default=pace.delay_s)
    parser.add_argument("--chunks", type=int, default=pace.chunks, help="of a stream")
    parser.add_argument("--gap-s", type=float, default=pace.gap_s, help="between two chunks")
    parser.add_argument("--answers", type=Path, help="JSON of whole answers by the question's text")
    given = parser.parse_args(arguments)
    answers = json.loads(given.answers.read_text(encoding="utf-8")) if given.answers else None
    uvloop.run(serve(Pace(given.delay_s, given.chunks, given.gap_s), given.port, answers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
