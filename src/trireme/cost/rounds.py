"""What a process does again and again beside its work, such as saying that its machine is up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from trireme.cost.machines import BEAT_SECONDS
from trireme.errors import TriremeError

_log = logging.getLogger(__name__)
# For a round that runs when the process ends.
CLOSE_SECONDS = 6.0


class Rounds:
    """Runs `steps` in turn each `seconds`, in a thread of its own. A step that fails is tried again next time.

    A last round runs at `close`, so that the time since the one before is not lost.
    """

    def __init__(self, steps: Sequence[Callable[[], None]], seconds: float = BEAT_SECONDS) -> None:
        self._steps = steps
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rounds", daemon=True)

    def start(self) -> None:
        """Begin, with a round at once. Does not block."""
        self._thread.start()

    def close(self) -> None:
        """Run the last round, and wait for it, CLOSE_SECONDS at most. Idempotent."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            is_last = self._ended.is_set()
            for step in self._steps:
                self._try(step)
            if is_last:
                return
            self._ended.wait(self._seconds)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except TriremeError as error:
            # Such as a database that is away: it is asked again.
            _log.info("%s", error)
        except Exception as error:
            _log.error("a round failed: %s", type(error).__name__)
