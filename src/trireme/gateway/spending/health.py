"""Whether the budget store answers, as everybody who asks it notes."""

from __future__ import annotations

import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)


class StoreHealth:
    """For one event loop. `on_lost` is called whenever the store did not answer: it may come back empty."""

    def __init__(self, on_lost: Callable[[], None] = lambda: None) -> None:
        self._on_lost = on_lost
        self.is_away = False

    def note_away(self) -> None:
        """A verb raised UnavailableError."""
        if not self.is_away:
            _log.warning("the budget store does not answer")
        self.is_away = True
        self._on_lost()

    def note_answer(self) -> None:
        """A verb answered."""
        if self.is_away:
            _log.warning("the budget store answers again")
        self.is_away = False
