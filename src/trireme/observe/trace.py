"""Who a request is, from its first process to its last: an id, and W3C's trace context (traceparent, version 00).

https://www.w3.org/TR/trace-context/. Within a process it is that of the running task; no call has to hand it on.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass

HEADER = "traceparent"
# Parameters of a request to a model: its trace, and its id where Triton's own is another.
TRACE_PARAMETER = "trireme_traceparent"
REQUEST_PARAMETER = "trireme_request"
# A later version may have more behind these four.
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_LENGTH = 512
_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class Trace:
    """request: its id, letters, digits and `_.-`. trace: 32 hexadecimal digits. span: 16, of this process's part.

    is_sampled: whether the caller asks for it to be recorded.
    """

    request: str
    trace: str
    span: str
    is_sampled: bool = False

    def child(self) -> str:
        """The traceparent of a call that this process makes, a new one for each."""
        return f"00-{self.trace}-{secrets.token_hex(8)}-{int(self.is_sampled):02x}"


CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)


def begin_trace(request: str, parent: str = "") -> Trace:
    """The trace of a request that arrives. parent: its traceparent; one that is wrong, or none, begins a trace."""
    found = read_parent(parent)
    if found is None:
        return Trace(request, secrets.token_hex(16), secrets.token_hex(8))
    trace, is_sampled = found
    return Trace(request, trace, secrets.token_hex(8), is_sampled)


def read_parent(text: str) -> tuple[str, bool] | None:
    """Trace id and whether it is sampled; None for what is no traceparent. Pure."""
    text = text.strip()
    found = _PARENT.fullmatch(text) if len(text) <= _LENGTH else None
    if found is None:
        return None
    version, trace, span, flags = found.groups()
    is_whole = version != "00" or len(text) == 55
    if version == "ff" or not is_whole or not trace.strip("0") or not span.strip("0"):
        return None
    return trace, bool(int(flags, 16) & _SAMPLED)


def is_id(text: str) -> bool:
    """Whether a text may stand in a log as a request's id."""
    return _ID.fullmatch(text) is not None


def call_headers() -> dict[str, str]:
    """Headers of a call over HTTP that the running task makes; none outside of a request."""
    trace = CURRENT.get()
    return {} if trace is None else {"x-request-id": trace.request, HEADER: trace.child()}
