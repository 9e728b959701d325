"""The gateway's log: a line of JSON for each request and for each fault inside. No bodies, no headers."""

from __future__ import annotations

import sys
import time
import traceback
from typing import IO, Any

import msgspec

from trireme.gateway.exchange import Exchange


class Log:
    """Writes to `stream`, the process's standard error by default. A line that cannot be written is dropped."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream

    def request(self, exchange: Exchange, seconds: float) -> None:
        """What came of a request: who, what, by whom it was served, how it ended."""
        key, usage = exchange.key, exchange.usage
        line: dict[str, Any] = {
            "time": round(time.time(), 3),
            "request": exchange.request_id,
            "endpoint": exchange.endpoint,
            "status": exchange.status,
            "outcome": exchange.outcome,
            "seconds": round(seconds, 4),
        }
        if exchange.trace is not None:
            line["trace"] = exchange.trace.trace
        if key is not None:
            line |= {"tenant": key.tenant, "user": key.user, "key": key.id}
        if exchange.model:
            line["model"] = exchange.model[:200]
        if exchange.attempts:
            line["attempts"] = [f"{one.target} {one.outcome}" for one in exchange.attempts]
        if usage is not None:
            line |= {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
        if exchange.cache_tier:
            line["cache"] = exchange.cache_tier
        if exchange.error:
            line["error"] = exchange.error
        self._write(line)

    def fault(self, request_id: str, error: BaseException) -> None:
        """Where an unexpected error came from, without its text, which may hold parts of a request."""
        frames = traceback.extract_tb(error.__traceback__)
        where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
        self._write(
            {"time": round(time.time(), 3), "request": request_id, "fault": type(error).__name__, "at": where}
        )

    def say(self, text: str) -> None:
        """A line of plain text."""
        self._write({"time": round(time.time(), 3), "message": text})

    def _write(self, line: dict[str, Any]) -> None:
        stream = self._stream or sys.stderr
        try:
            stream.write(msgspec.json.encode(line).decode() + "\n")
            stream.flush()
        except (OSError, ValueError):
            # A full disk must not end requests.
            return
