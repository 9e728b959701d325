"""Which request a backend answers, and the line of the server's log that says so."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from trireme.observe.trace import REQUEST_PARAMETER, TRACE_PARAMETER, is_id, read_parent
from trireme.triton.wire import BULK_ID


@dataclass(frozen=True, slots=True)
class Asked:
    """request: the gateway's id; parent: its traceparent. Both "" of a request that names none."""

    request: str = ""
    parent: str = ""

    @property
    def is_sampled(self) -> bool:
        """Whether whoever asks wants to see each step."""
        found = read_parent(self.parent)
        return found is not None and found[1]

    @property
    def parameters(self) -> dict[str, str]:
        """Of a request that a backend makes for this one."""
        said = {REQUEST_PARAMETER: self.request, TRACE_PARAMETER: self.parent}
        return {key: value for key, value in said.items() if value}

    def line(self, model: str, outcome: str, seconds: float) -> str:
        """What the log says of it."""
        found = read_parent(self.parent)
        trace = f" trace {found[0]}" if found else ""
        return f"request {self.request}{trace} model {model}: {outcome}, {seconds:.4f} s"


NOBODY = Asked()


def read_asked(request: Any) -> Asked:
    """Of a request of the stub. What is no id, such as a worker's, is none. Never raises; takes microseconds."""
    try:
        name = request.request_id()
        text = request.parameters()
    except (AttributeError, UnicodeDecodeError):
        # Only requests of Triton's stub have both; over HTTP they may be any bytes.
        return NOBODY
    parent = ""
    if TRACE_PARAMETER in text or REQUEST_PARAMETER in text:
        try:
            parameters = json.loads(text)
        except ValueError:
            parameters = {}
        parent = str(parameters.get(TRACE_PARAMETER, ""))
        name = str(parameters.get(REQUEST_PARAMETER, name))
    if name == BULK_ID or not is_id(name):
        return NOBODY
    return Asked(name, parent if read_parent(parent) else "")
