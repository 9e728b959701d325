"""One request on its way through the gateway: what its log line and its metrics will say."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from trireme.access.keys import Key
from trireme.access.priorities import NORMAL, Priority
from trireme.gateway.degrade.wants import Deadlines
from trireme.observe.trace import HEADER, Trace, begin_trace, sample
from trireme.providers.chat import Usage
from trireme.providers.targets import Attempt

# A client may name its request, in these signs; anything else gets an id of ours.
_ID_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_ID_LENGTH = 128
# Of a US dollar.
NANOS = 1_000_000_000
# Headers that may come in several lines, which are one list (RFC 9110, 5.3): a no-store in the first one counts.
_LISTS = frozenset({"cache-control", "if-none-match"})


@dataclass(slots=True)
class Exchange:
    """What is known so far. Changed by the steps; read once, at the end.

    scope: ASGI's. headers: lower case, the last of each name, of lists all. outcome: ok, error, refused, cut,
    client_gone. began: nanoseconds of Unix time; started, first_at: of time.monotonic, the latter when the first
    content was sent. cache_tier: whose hit the answer is, "" for none.
    costs: nano-dollars of each attempt that has ended, None where no price is known. is_cascade: whether the model
    has steps. deadlines, priority: what the request may have of time and of urgency. degraded: steps of the policy
    that were taken for the answer. trace: what calls of others are told of the request. waited: seconds in the
    lines of routes, None where there was none. tiers_asked, tiers_hit: of caches, in order; of several prompts all.
    is_endless: its answer lasts as long as somebody watches.
    """

    scope: Mapping[str, Any]
    endpoint: str
    headers: Mapping[str, str]
    request_id: str
    started: float = field(default_factory=time.monotonic)
    began: int = field(default_factory=time.time_ns)
    key: Key | None = None
    model: str = ""
    stream: bool = False
    attempts: tuple[Attempt, ...] = ()
    served_by: str = ""
    notes: list[tuple[str, str]] = field(default_factory=list)
    status: int = 0
    outcome: str = ""
    error: str = ""
    usage: Usage | None = None
    first_at: float | None = None
    tag: str = ""
    cache_tier: str = ""
    costs: list[int | None] = field(default_factory=list)
    is_cascade: bool = False
    deadlines: Deadlines = field(default_factory=Deadlines)
    priority: Priority = NORMAL
    degraded: tuple[str, ...] = ()
    trace: Trace | None = None
    waited: float | None = None
    tiers_asked: list[str] = field(default_factory=list)
    tiers_hit: list[str] = field(default_factory=list)
    is_endless: bool = False

    @property
    def caller(self) -> Key:
        """The key, which `steps.identify` has set before any handler runs."""
        if self.key is None:
            raise RuntimeError("the request was not identified")
        return self.key

    @property
    def path_params(self) -> Mapping[str, str]:
        """What stands in the path for its {names}."""
        params: Mapping[str, str] = self.scope.get("path_params", {})
        return params

    @property
    def calls(self) -> int:
        """Attempts that reached a provider."""
        return sum(one.outcome not in ("skipped", "unpaid") for one in self.attempts)

    def reply_headers(self) -> list[tuple[str, str]]:
        """What every answer says of how it came about."""
        headers = [("x-request-id", self.request_id)]
        if self.served_by:
            # A client may name the model, in whatever signs.
            headers.append(("x-trireme-served-by", header_text([self.served_by])))
        if self.attempts:
            headers.append(("x-trireme-attempts", str(self.calls)))
        known = [cost for cost in self.costs if cost is not None]
        if self.is_cascade and known and len(known) == len(self.costs):
            headers.append(("x-trireme-cost", f"{Decimal(sum(known)) / NANOS:f}"))
        if self.degraded:
            headers.append(("x-trireme-degraded", header_text(self.degraded)))
        return headers + self._joined_notes()

    def note_degraded(self, steps: Iterable[str]) -> None:
        """Steps of the policy that were taken; of several prompts in one request those of all."""
        self.degraded = tuple(dict.fromkeys((*self.degraded, *steps)))

    def seconds_left(self) -> float | None:
        """Until the whole answer is late, at least a millisecond; None: nobody says."""
        ends = self.deadlines.end(is_stream=self.stream)
        return None if ends is None else max(0.001, ends - time.monotonic())

    def _joined_notes(self) -> list[tuple[str, str]]:
        """The notes, one of each name: a request may have 128 prompts, and clients take 100 headers."""
        found: dict[str, list[str]] = {}
        for name, value in self.notes:
            found.setdefault(name, []).append(value)
        # What holds for every prompt is said once, else in the order in which they were asked.
        return [
            (name, ", ".join(values if len(set(values)) > 1 else values[:1]))
            for name, values in found.items()
        ]


def open_exchange(scope: Mapping[str, Any], endpoint: str, percent: int = 0) -> Exchange:
    """An exchange for a request of ASGI. percent: of traces that begin here, those that are recorded."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers and name in _LISTS else value
    request_id = _request_id(headers.get("x-request-id", ""))
    trace = sample(begin_trace(request_id, headers.get(HEADER, "")), percent)
    return Exchange(scope, endpoint, headers, request_id, trace=trace)


def secret_of(headers: Mapping[str, str]) -> str:
    """The key that a request came with; x-api-key before authorization, as Anthropic's API has it. "" for none."""
    if key := headers.get("x-api-key"):
        return key.strip()
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def header_text(words: Iterable[str]) -> str:
    """Words as the value of a header: ASCII, no control characters, bounded."""
    text = ", ".join(words)[:1000]
    return "".join(sign if " " <= sign <= "~" else "?" for sign in text)


def _request_id(asked: str) -> str:
    if asked and len(asked) <= _ID_LENGTH and _ID_SIGNS.issuperset(asked):
        return asked
    return f"req_{secrets.token_hex(12)}"
