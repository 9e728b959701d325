"""Who a request is, from its first process to its last: an id, and W3C's trace context (traceparent, version 00).

https://www.w3.org/TR/trace-context/. Within a process it is that of the running task; no call has to hand it on.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass, replace

HEADER = "traceparent"
# Parameters of a request to a model: its trace, and its id where Triton's own is another.
TRACE_PARAMETER = "trireme_traceparent"
REQUEST_PARAMETER = "trireme_request"
# Present where the caller asks for a line of the log for each step.
LINES_PARAMETER = "trireme_lines"
# A later version may have more behind these four.
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_LENGTH = 512
_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class Trace:
    """request: its id, letters, digits and `_.-`. trace: 32 hexadecimal digits. span: 16, of this process's part.

    is_sampled: whether it is recorded. wants_lines: whether the caller asks for each step in the log. parent: the
    caller's span, "" where the trace begins here. call: the span of the call that is being made, "" where none is
    recorded.
    """

    request: str
    trace: str
    span: str
    is_sampled: bool = False
    wants_lines: bool = False
    parent: str = ""
    call: str = ""

    def own(self) -> str:
        """The traceparent of what goes on when this process's part has ended."""
        return write_parent(self.trace, self.span, is_sampled=self.is_sampled)

    def child(self) -> str:
        """The traceparent of a call that this process makes, a new one for each that is not recorded."""
        return write_parent(self.trace, self.call or new_span(), is_sampled=self.is_sampled)

    def calling(self) -> Trace:
        """The trace within a call that is recorded: what is made for it is its child."""
        return replace(self, call=new_span())


CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)


def begin_trace(request: str, parent: str = "") -> Trace:
    """The trace of a request that arrives. parent: its traceparent; one that is wrong, or none, begins a trace."""
    found = read_span(parent)
    if found is None:
        return Trace(request, secrets.token_hex(16), new_span())
    trace, span, is_sampled = found
    return Trace(request, trace, new_span(), is_sampled, is_sampled, span)


def sample(trace: Trace, percent: int) -> Trace:
    """Whether a trace that begins here is recorded: of `percent` of a hundred it is. Whoever began it elsewhere has
    decided already. Pure."""
    if trace.parent or percent <= 0:
        return trace
    # The last 56 bits are random, as W3C and OpenTelemetry have it: all processes decide alike.
    return replace(trace, is_sampled=int(trace.trace[-14:], 16) * 100 < percent << 56)


def new_span() -> str:
    """The id of a span."""
    return secrets.token_hex(8)


def write_parent(trace: str, span: str, *, is_sampled: bool) -> str:
    """A traceparent. Pure."""
    return f"00-{trace}-{span}-{int(is_sampled):02x}"


def read_parent(text: str) -> tuple[str, bool] | None:
    """Trace id and whether it is sampled; None for what is no traceparent. Pure."""
    found = read_span(text)
    return None if found is None else (found[0], found[2])


def read_span(text: str) -> tuple[str, str, bool] | None:
    """As read_parent, with the span between them. Pure."""
    text = text.strip()
    found = _PARENT.fullmatch(text) if len(text) <= _LENGTH else None
    if found is None:
        return None
    version, trace, span, flags = found.groups()
    is_whole = version != "00" or len(text) == 55
    if version == "ff" or not is_whole or not trace.strip("0") or not span.strip("0"):
        return None
    return trace, span, bool(int(flags, 16) & _SAMPLED)


def is_id(text: str) -> bool:
    """Whether a text may stand in a log as a request's id."""
    return _ID.fullmatch(text) is not None


def call_headers() -> dict[str, str]:
    """Headers of a call over HTTP that the running task makes; none outside of a request."""
    trace = CURRENT.get()
    return {} if trace is None else {"x-request-id": trace.request, HEADER: trace.child()}
