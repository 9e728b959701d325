"""Whose answers may be kept and served again: what the client's Cache-Control, the file and the answer say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trireme.providers.chat import ChatCall, Event, Finished, Image, Native, RefusalDelta, Started, Usage

Policy = Literal["deterministic", "all", "off"]
# An answer that a budget made shorter says so in this header.
SHORTENED = "x-trireme-max-tokens"
# Fields by which providers of OpenAI's format search the web.
_OF_THE_WEB = ("web_search_options", "plugins")
_WHOLE = frozenset({"stop", "stop_sequence", "length", "tool_use"})


@dataclass(frozen=True, slots=True)
class Wish:
    """A request's Cache-Control. max_age: seconds of an answer's age at most; None: any."""

    may_read: bool = True
    may_keep: bool = True
    max_age: float | None = None
    only_kept: bool = False


def read_wish(headers: Mapping[str, str]) -> Wish:
    """Of headers, lower case: no-cache, no-store, max-age, only-if-cached; others are passed over. Of several
    max-age the least holds."""
    given: set[str] = set()
    ages: list[float] = []
    for directive in headers.get("cache-control", "").lower().split(","):
        name, _, value = directive.strip().partition("=")
        given.add(name.strip())
        if name.strip() == "max-age":
            ages.append(_read_seconds(value.strip().strip('"')))
    is_refused = "no-store" in given
    return Wish(
        may_read=not is_refused and "no-cache" not in given,
        may_keep=not is_refused,
        max_age=min(ages, default=None),
        only_kept="only-if-cached" in given,
    )


def _read_seconds(text: str) -> float:
    """0 for what is no number of seconds: who asks for less than any age wants none (RFC 9111, 4.2.1)."""
    return float(text[:20]) if text.isascii() and text.isdecimal() else 0.0


def is_eligible(call: ChatCall, policy: Policy, *, is_greedy: bool) -> bool:
    """Whether an equal call may get the same answer. is_greedy: the target is, where no temperature is named.

    Not one that what lies behind an address, or the web, has a part in: that is of its time.
    """
    if _reads_elsewhere(call):
        return False
    if policy == "deterministic":
        temperature = 0.0 if call.temperature is None and is_greedy else call.temperature
        return temperature == 0 and call.choices == 1
    return policy == "all"


def _reads_elsewhere(call: ChatCall) -> bool:
    if any(name in call.body for name in _OF_THE_WEB):
        return True
    images = [part for message in call.messages for part in message.parts if isinstance(part, Image)]
    return any(not image.url.startswith("data:") for image in images)


def is_complete(events: Sequence[Event], call: ChatCall) -> bool:
    """Whether these are all events of an answer that another client may get.

    Not one that was filtered or refused, nor one that a tool of the provider's had a hand in, nor one that ended
    at a length that the call does not name: a budget or a window may have set that.
    """
    ends: dict[int, Finished] = {}
    usage = Usage()
    for event in events:
        if isinstance(event, RefusalDelta) or (isinstance(event, Native) and _is_of_tool(event)):
            return False
        if isinstance(event, Usage):
            usage = event
        elif isinstance(event, Finished):
            ends[event.choice] = event
    if not isinstance(events[0] if events else None, Started) or set(ends) != set(range(call.choices)):
        return False
    reasons = [end.reason for end in ends.values()]
    if not _WHOLE.issuperset(reasons):
        return False
    # Tokens are counted of all choices together.
    cut = reasons.count("length")
    return not cut or (call.max_tokens is not None and (usage.output_tokens or 0) >= cut * call.max_tokens)


def _is_of_tool(event: Native) -> bool:
    """What a tool of the provider's found, such as a search of the web, is of its time."""
    block = event.piece.get("content_block", event.piece)
    kind = str(block.get("type", "")) if isinstance(block, Mapping) else ""
    return kind == "server_tool_use" or kind.endswith("_tool_result")
