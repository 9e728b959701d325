"""The meter of one step: its attempts are settled once it is known whether the answer is kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from trireme.providers.attempts import CANCELLED
from trireme.providers.chat import ChatCall, Event
from trireme.providers.meter import AttemptMeter, Meter
from trireme.providers.targets import Target

# Outcome of an attempt whose answer was not sure enough, or not of the version that the step is calibrated for.
ESCALATED = "escalated"


class StepMeter:
    """See Meter. `decide` exactly once; until then an answer that ended is not settled."""

    def __init__(self, meter: Meter, step: str) -> None:
        """step: its name, in the ledger's rows."""
        self._meter = meter
        self._attempts: list[_StepAttempt] = []
        self.step = step

    async def begin(self, call: ChatCall, target: Target) -> AttemptMeter:
        """See Meter."""
        self._meter.step = self.step
        attempt = _StepAttempt(await self._meter.begin(call, target))
        self._attempts.append(attempt)
        return attempt

    def decide(self, *, is_kept: bool, cancelled: str = CANCELLED) -> None:
        """Whether the answer is the client's. Settles what waits for it; does not block.

        cancelled: the outcome of a call that was cancelled before this: by its client, or for its time.
        """
        for attempt in self._attempts:
            attempt.decide(is_kept=is_kept, cancelled=cancelled)


class _StepAttempt:
    """See AttemptMeter."""

    def __init__(self, attempt: AttemptMeter) -> None:
        self._attempt = attempt
        self.call = attempt.call
        self._is_kept: bool | None = None
        self._outcome = ""

    def watch(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """See AttemptMeter."""
        return self._attempt.watch(events)

    def end(self, outcome: str) -> None:
        """See AttemptMeter."""
        if self._is_kept is None and outcome in ("ok", CANCELLED):
            self._outcome = outcome
        elif self._is_kept is False and outcome in ("ok", CANCELLED):
            self._attempt.end(ESCALATED)
        else:
            self._attempt.end(outcome)

    def decide(self, *, is_kept: bool, cancelled: str) -> None:
        """End what had ended before; what has not ends by itself."""
        if self._is_kept is None:
            self._is_kept = is_kept
            if self._outcome == CANCELLED:
                self._attempt.end(cancelled)
            elif self._outcome:
                self.end(self._outcome)
