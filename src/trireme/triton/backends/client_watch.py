"""Clients of decoupled models: whom responses are sent to, and what ends when they go away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# How often each open request is asked whether its client is gone: every question crosses into the server.
WATCH_SECONDS = 0.1


class Client:
    """Who waits for the answer of one request. Its last response closes it. Thread-safe."""

    def __init__(self, sender: Any) -> None:
        self._sender = sender
        # With its last response Triton forgets the request: to ask after it then would read freed memory.
        self._lock = threading.Lock()
        self._is_closed = False

    def is_gone(self) -> bool:
        """Whether nobody waits any more: the request was cancelled, or has had its last response."""
        with self._lock:
            return self._is_closed or bool(self._sender.is_cancelled())

    def send(self, response: Any, flags: int, *, is_last: bool) -> None:
        """One response; nothing after the last. A response of None with the final flag only ends the request."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = is_last
            if response is None:
                self._sender.send(flags=flags)
            else:
                self._sender.send(response, flags)


class ClientWatch:
    """Ends what runs for a client soon after it has gone away, also while no answer comes that could tell."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[Callable[[], bool], Callable[[], None]]] = {}
        self._lock = threading.Lock()
        self._has_work = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._watch, name="client-watch", daemon=True)
        self._thread.start()

    def add(self, key: object, is_gone: Callable[[], bool], end: Callable[[], None]) -> None:
        """Until `remove` calls `end` as soon as `is_gone`, and again: what it ends may not have begun yet."""
        with self._lock:
            self._watched[id(key)] = (is_gone, end)
        self._has_work.set()

    def remove(self, key: object) -> None:
        """Watches for `key` no more. Idempotent."""
        with self._lock:
            self._watched.pop(id(key), None)

    @contextmanager
    def watching(self, is_gone: Callable[[], bool], end: Callable[[], None]) -> Iterator[None]:
        """Within it, as between `add` and `remove`."""
        key = object()
        self.add(key, is_gone, end)
        try:
            yield
        finally:
            self.remove(key)

    def close(self) -> None:
        """Ends the thread; blocks until it has."""
        with self._lock:
            self._is_closed = True
            self._has_work.set()
        self._thread.join()

    def _watch(self) -> None:
        pause = threading.Event()
        while True:
            self._has_work.wait()
            if self._is_closed:
                return
            with self._lock:
                watched = list(self._watched.values())
                if not watched and not self._is_closed:
                    self._has_work.clear()
                    continue
            for is_gone, end in watched:
                if is_gone():
                    end()
            pause.wait(WATCH_SECONDS)
