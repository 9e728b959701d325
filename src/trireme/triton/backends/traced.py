"""Which request a backend answers: the line of the server's log that says so, and the span of its trace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trireme.observe.spans import Span, SpanKind, SpanValue
from trireme.observe.trace import (
    LINES_PARAMETER,
    REQUEST_PARAMETER,
    TRACE_PARAMETER,
    is_id,
    new_span,
    read_parent,
    read_span,
    write_parent,
)
from trireme.triton.wire import BULK_ID

ON = "on"
NO_ATTRIBUTES: Mapping[str, SpanValue] = {}


@dataclass(frozen=True, slots=True)
class Asked:
    """request: the gateway's id; parent: its traceparent. Both "" of a request that names none.

    wants_lines: whether whoever asks wants each step in the log. span: of what is done here, "" where it is not
    recorded.
    """

    request: str = ""
    parent: str = ""
    wants_lines: bool = False
    span: str = field(default="", compare=False)

    @property
    def parameters(self) -> dict[str, str]:
        """Of a request that a backend makes for this one."""
        lines = ON if self.wants_lines else ""
        said = {REQUEST_PARAMETER: self.request, TRACE_PARAMETER: self._own(), LINES_PARAMETER: lines}
        return {key: value for key, value in said.items() if value}

    def child(self) -> Asked:
        """A part of what is done here, which is recorded where this is."""
        return replace(self, parent=self._own(), span=new_span()) if self.span else self

    def ended(
        self,
        name: str,
        kind: SpanKind,
        times: tuple[int, int],
        error: str = "",
        attributes: Mapping[str, SpanValue] = NO_ATTRIBUTES,
    ) -> Span:
        """The span of what was done, which must be recorded. times: its begin and end, as a Span has them."""
        found = read_span(self.parent)
        trace, parent = found[:2] if found else ("", "")
        return Span(name, kind, trace, self.span, parent, *times, error, attributes)

    def line(self, model: str, outcome: str, seconds: float) -> str:
        """What the log says of it."""
        found = read_parent(self.parent)
        trace = f" trace {found[0]}" if found else ""
        return f"request {self.request}{trace} model {model}: {outcome}, {seconds:.4f} s"

    def _own(self) -> str:
        found = read_span(self.parent) if self.span else None
        return write_parent(found[0], self.span, is_sampled=True) if found else self.parent


NOBODY = Asked()


def read_asked(request: Any, *, is_recording: bool = False) -> Asked:
    """Of a request of the stub. What is no id, such as a worker's, is none. Never raises; takes microseconds.

    is_recording: whether spans are kept here, for a request that is sampled.
    """
    try:
        name = request.request_id()
        text = request.parameters()
    except (AttributeError, UnicodeDecodeError):
        # Only requests of Triton's stub have both; over HTTP they may be any bytes.
        return NOBODY
    parent, lines = "", ""
    if TRACE_PARAMETER in text or REQUEST_PARAMETER in text:
        try:
            parameters = json.loads(text)
        except ValueError:
            parameters = {}
        parent = str(parameters.get(TRACE_PARAMETER, ""))
        name = str(parameters.get(REQUEST_PARAMETER, name))
        lines = str(parameters.get(LINES_PARAMETER, ""))
    if name == BULK_ID or not is_id(name):
        return NOBODY
    found = read_parent(parent)
    if found is None:
        return Asked(name)
    return Asked(name, parent, bool(lines), new_span() if is_recording and found[1] else "")
