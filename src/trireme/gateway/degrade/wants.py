"""What a request's headers say of its time and its urgency."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from trireme.access.priorities import PRIORITIES, Priority, lowest
from trireme.errors import InvalidInputError

TIMEOUT = "x-trireme-timeout"
PRIORITY = "x-trireme-priority"
# Of OpenAI's and Anthropic's SDKs, in Python and in JavaScript: how long they wait for the next byte.
READ_TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout")
# Of an Envoy in front, in milliseconds.
OF_ENVOY = "x-envoy-expected-rq-timeout-ms"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Moments of the monotonic clock; infinite: none. whole: for all of the answer. first: for its first byte,
    after which a client that reads a stream waits on."""

    whole: float = math.inf
    first: float = math.inf

    def begin(self) -> float | None:
        """Until when an answer must begin; None: nobody says."""
        return _moment(min(self.whole, self.first))

    def end(self, *, is_stream: bool) -> float | None:
        """Until when it must have ended: of one that is not streamed the first byte is the last, too."""
        return _moment(self.whole if is_stream else min(self.whole, self.first))


def read_deadlines(headers: Mapping[str, str], now: float) -> Deadlines:
    """Of headers, lower case. Those of SDKs and proxies are hints, passed over where they are no number.

    Raises InvalidInputError for a timeout of ours that is none.
    """
    whole = _seconds(headers.get(OF_ENVOY, "")) / 1000
    if (said := headers.get(TIMEOUT)) is not None:
        seconds = _seconds(said)
        if seconds == math.inf:
            raise InvalidInputError(
                f"{TIMEOUT} must be seconds above 0, such as 2.5, got {said[:40]!r}", TIMEOUT
            )
        whole = min(whole, seconds)
    first = min(_seconds(headers.get(name, "")) for name in READ_TIMEOUTS)
    return Deadlines(now + whole, now + first)


def read_priority(headers: Mapping[str, str], *allowed: Priority) -> Priority:
    """What the request asks for, or is allowed where that is less: the least of `allowed`.

    Raises InvalidInputError for an unknown one.
    """
    said = headers.get(PRIORITY)
    if said is None:
        return lowest(allowed)
    wanted = next((one for one in PRIORITIES if one == said.strip().lower()), None)
    if wanted is None:
        raise InvalidInputError(
            f"{PRIORITY} must be one of {', '.join(PRIORITIES)}, got {said[:40]!r}", PRIORITY
        )
    return lowest((wanted, *allowed))


def _seconds(text: str) -> float:
    """Infinite for what is no number above 0."""
    try:
        seconds = float(text)
    except ValueError:
        return math.inf
    return seconds if 0 < seconds < math.inf else math.inf


def _moment(moment: float) -> float | None:
    return None if moment == math.inf else moment
