"""The running task's trace in a request to a model: Triton's request id, a parameter, and gRPC metadata."""

from __future__ import annotations

from typing import Any

from trireme.observe.trace import CURRENT, HEADER, LINES_PARAMETER, TRACE_PARAMETER
from trireme.triton.wire import BULK_ID

# Ids that mean something to backends. A client may choose its own.
CANCEL_ID = "cancel"
_RESERVED = frozenset({BULK_ID, CANCEL_ID})


def note_trace(request: Any) -> tuple[tuple[str, str], ...]:
    """Writes the trace into a ModelInferRequest; the metadata of its call, which Triton's own tracing reads.

    Outside of a request it changes nothing and gives none. An id that the request has stays.
    """
    trace = CURRENT.get()
    if trace is None:
        return ()
    if not request.id and trace.request not in _RESERVED:
        request.id = trace.request
    parent = trace.child()
    request.parameters[TRACE_PARAMETER].string_param = parent
    if trace.wants_lines:
        request.parameters[LINES_PARAMETER].string_param = "on"
    return ((HEADER, parent),)
