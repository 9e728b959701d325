"""A queue whose next item can be looked at and taken in one act."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class PeekQueue(queue.Queue[T]):
    """As queue.Queue, for several takers that choose what they take next. Thread-safe."""

    def take_if(self, is_wanted: Callable[[T], bool]) -> T | None:
        """The next item, off the queue, if there is one that `is_wanted`; else None. Does not block."""
        with self.mutex:
            if not self.queue or not is_wanted(self.queue[0]):
                return None
            item: T = self._get()
            self.not_full.notify()
            return item
