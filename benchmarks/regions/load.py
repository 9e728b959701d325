"""Calls at a steady rate, whether or not answers come, and how each of them ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trireme.errors import UnavailableError

# A call of gRPC that runs: result(), add_done_callback().
Running = Any
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call. began_s: of the load. took_s: until it ended. region: who answered. error: why nobody did."""

    began_s: float
    took_s: float
    region: str
    error: str = ""


class Load:
    """Starts `calls` calls, `per_second` of them, in a thread of its own. Times are seconds since it began.

    start: begins one call. name: the region that gave an answer.
    """

    def __init__(
        self, start: Callable[[], Running], name: Callable[[Any], str], *, per_second: float, calls: int
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._start, self._name = start, name
        self._per_second, self._calls = per_second, calls
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def now(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def stop(self) -> None:
        """No further calls are begun; those that run end. Blocks until it is so."""
        self._stopped.set()
        self._thread.join()

    def wait(self, is_enough: Callable[[Sequence[Outcome]], bool] | None = None) -> list[Outcome]:
        """The outcomes once all calls have ended, or so far once `is_enough` of them. Blocks.

        Raises UnavailableError where nothing ends for a minute.
        """
        with self._changed:
            while len(self.outcomes) < self._calls:
                if is_enough is not None and is_enough(self.outcomes):
                    break
                if not self._changed.wait(_PATIENCE_S):
                    raise UnavailableError(f"no call has ended for {_PATIENCE_S:.0f} s")
            return list(self.outcomes)

    def _run(self) -> None:
        for number in range(self._calls):
            pause = number / self._per_second - self.now
            if self._stopped.wait(max(0.0, pause)):
                with self._changed:
                    self._calls = number
                    self._changed.notify_all()
                return
            began = self.now
            self._start().add_done_callback(lambda call, began=began: self._end(call, began))

    def _end(self, call: Running, began: float) -> None:
        took = self.now - began
        if call.code().value[0]:
            outcome = Outcome(began, took, "", f"{call.code().name}: {call.details()}")
        else:
            outcome = Outcome(began, took, self._name(call.result()))
        with self._changed:
            self.outcomes.append(outcome)
            self._changed.notify_all()
