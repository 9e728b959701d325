"""Calls at a moment, exact to some 0.1 ms: the event loops' own timers know whole milliseconds only. Linux."""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
import time
from collections.abc import Callable
from itertools import count

_MONOTONIC, _ABSOLUTE = 1, 1


class _Timespec(ctypes.Structure):
    _fields_ = (("s", ctypes.c_long), ("ns", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Call:
    """What is to be called; `cancel` leaves it out."""

    __slots__ = ("do",)

    def __init__(self, do: Callable[[], None]) -> None:
        self.do: Callable[[], None] | None = do

    def cancel(self) -> None:
        self.do = None


class Clock:
    """Moments are those of `time.monotonic`. For one event loop; raises OSError where the system has no timerfd."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._loop, self._waiting = loop, list[tuple[float, int, Call]]()
        self._number, self._armed = count(), float("inf")
        loop.add_reader(self._fd, self._ring)

    def call_at(self, when: float, do: Callable[[], None]) -> Call:
        """`do` is called in the loop, soon after `when`; at once where that is past."""
        call = Call(do)
        heapq.heappush(self._waiting, (when, next(self._number), call))
        if when < self._armed:
            self._arm(when)
        return call

    def _arm(self, when: float) -> None:
        self._armed = when
        # All zero would disarm it.
        ns = max(int(when * 1e9), 1)
        spec = _Itimerspec(_Timespec(0, 0), _Timespec(*divmod(ns, 10**9)))
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(spec), None)

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self._armed = float("inf")
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            do = heapq.heappop(self._waiting)[2].do
            if do is not None:
                do()
        if self._waiting and self._waiting[0][0] < self._armed:
            self._arm(self._waiting[0][0])

    def close(self) -> None:
        """What waits is not called any more. Call it once."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._waiting.clear()
