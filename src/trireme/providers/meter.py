"""What pays for attempts: the port between the attempt loop and the budgets, and one that lets all through."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from trireme.providers.chat import ChatCall, Event
from trireme.providers.targets import Target


class AttemptMeter(Protocol):
    """One attempt that is paid for. Every one is ended, exactly once, however the attempt ended."""

    # The call as it is sent: max_tokens may be lower than asked, and stream on where it must be stopped early.
    call: ChatCall

    def watch(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """The same events, counted; fewer where enough was said or paid for: then `events` is closed, which
        cancels the call, and a Finished for each choice follows. Closing it closes `events`."""
        ...

    def end(self, outcome: str) -> None:
        """What became of it: ok, cancelled, or the kind of the fault. Does not block: settling goes on behind."""
        ...


class Meter(Protocol):
    """Admits the attempts of one request. step: of a cascade, that the next attempts are for; "" of none."""

    step: str

    async def begin(self, call: ChatCall, target: Target) -> AttemptMeter:
        """Hold what an attempt at `target` may cost at most. Raises ResourceExhaustedError where a budget does not
        allow it (a cheaper target may be), UnavailableError where nobody can tell."""
        ...


class _FreeAttempt:
    def __init__(self, call: ChatCall) -> None:
        self.call = call

    def watch(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        return events

    def end(self, outcome: str) -> None:
        pass


class FreeMeter:
    """Lets every attempt through and counts nothing."""

    step = ""

    async def begin(self, call: ChatCall, target: Target) -> AttemptMeter:
        """See Meter."""
        return _FreeAttempt(call)
