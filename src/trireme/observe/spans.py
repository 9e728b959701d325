"""Spans of OpenTelemetry as this project makes them, and the port of what sends them somewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

SpanKind = Literal["internal", "server", "client", "producer", "consumer"]
SpanValue = str | bool | int | float | tuple[str, ...]
# Of a text that comes from outside.
LONGEST_TEXT = 200
SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """One part of a request, once it has ended. trace, span, parent: see Trace; parent is "" for the first one.

    began, ended: nanoseconds of Unix time. error: what failed, in one word, as OpenTelemetry's error.type; "" where
    nothing did. attributes: names of OpenTelemetry where it has one. No secret, no prompt, no text of an answer.
    """

    name: str
    kind: SpanKind
    trace: str
    span: str
    parent: str
    began: int
    ended: int
    error: str = ""
    attributes: Mapping[str, SpanValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpanCounts:
    """What became of spans so far. sent: a collector took them. dropped: more waited than may. failed: it did not
    take them."""

    sent: int = 0
    dropped: int = 0
    failed: int = 0


class SpanSink(Protocol):
    """Where ended spans go. Thread-safe."""

    # Whether they are sent anywhere.
    is_on: bool
    # Of traces that begin here, how many of a hundred are recorded; 0: none, and nothing is sent.
    percent: int

    def put(self, span: Span) -> None:
        """Take a span. Does not block and never raises; where there is no room, the span is lost and counted."""
        ...

    def counts(self) -> SpanCounts:
        """What became of them so far."""
        ...

    def close(self) -> None:
        """Send what waits, for seconds at most; then the rest is lost. Idempotent."""
        ...


class NoSpans:
    """Takes none: where no collector is set."""

    is_on = False
    percent = 0

    def put(self, span: Span) -> None:
        """See SpanSink."""

    def counts(self) -> SpanCounts:
        """See SpanSink."""
        return SpanCounts()

    def close(self) -> None:
        """See SpanSink."""


def began_before(seconds: float) -> tuple[int, int]:
    """When something began that took so long and ends now, and now: nanoseconds of Unix time."""
    now = time.time_ns()
    return now - int(seconds * SECOND), now


def bounded(text: str) -> str:
    """A text of a client's, as long as one may be in a span."""
    return text[:LONGEST_TEXT]
