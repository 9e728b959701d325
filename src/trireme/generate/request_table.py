"""Which requests of an engine wait, run and end: the bounded queue and the chunks on their way out."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from trireme.errors import InvalidInputError, TriremeError, UnavailableError
from trireme.generate.engine import Chunk, EngineRequest

CLOSED = "the LLM engine is closed; load the model again"


class RequestTable:
    """Shared by engines that schedule on their own threads. Thread-safe; only `stream` blocks.

    Every request gets exactly one last chunk; what the engine sends afterwards is dropped.
    """

    def __init__(
        self, max_num_seqs: int, max_waiting: int, kv_blocks: int = 0, block_tokens: int = 1
    ) -> None:
        """kv_blocks: places of the KV cache, of block_tokens tokens each; 0 means that they are not counted.

        A request starts only when all that it may come to need is free, so that none runs out of cache later.
        """
        self._max_num_seqs = max_num_seqs
        self._max_waiting = max_waiting
        self._free_blocks = kv_blocks or None
        self._block_tokens = block_tokens
        self._lock = threading.Lock()
        self._waiting: dict[str, EngineRequest] = {}
        self._arrived: dict[str, float] = {}
        self._waits, self._wait_seconds = 0, 0.0
        # Of those that started and of which no chunk was delivered yet.
        self._waited: dict[str, float] = {}
        self._running: dict[str, EngineRequest] = {}
        # Cancelled for their sender, but the engine has not let go of them yet.
        self._ending: dict[str, EngineRequest] = {}
        self._outbox: queue.SimpleQueue[list[Chunk] | None] = queue.SimpleQueue()
        self._down: TriremeError | None = None

    def submit(self, request: EngineRequest) -> None:
        """Queue a request. Raises UnavailableError when full or down, InvalidInputError for an id in use."""
        with self._lock:
            if self._down is not None:
                raise self._down
            if request.request_id in self._waiting | self._running or request.request_id in self._ending:
                raise InvalidInputError(f"request id {request.request_id!r} is in use")
            places = self._max_num_seqs + self._max_waiting
            if len(self._waiting) + len(self._running) + len(self._ending) >= places:
                raise UnavailableError(
                    f"{len(self._waiting)} requests wait already and {len(self._running)} run;"
                    " try again later or raise max_waiting"
                )
            self._waiting[request.request_id] = request
            self._arrived[request.request_id] = time.monotonic()

    def admit(self) -> list[EngineRequest]:
        """Requests that may start now, oldest first; they count as running."""
        started = []
        with self._lock:
            while self._waiting and len(self._running) + len(self._ending) < self._max_num_seqs:
                request = next(iter(self._waiting.values()))
                if self._free_blocks is not None:
                    if self._blocks(request) > self._free_blocks:
                        break
                    self._free_blocks -= self._blocks(request)
                self._running[request.request_id] = self._waiting.pop(request.request_id)
                self._waits += 1
                waited = time.monotonic() - self._arrived.pop(request.request_id)
                self._wait_seconds += waited
                self._waited[request.request_id] = waited
                started.append(request)
        return started

    def deliver(self, chunks: Sequence[Chunk]) -> None:
        """Pass on what a step made. What was cancelled meanwhile is dropped."""
        with self._lock:
            kept = [self._with_wait(chunk) for chunk in chunks if chunk.request_id in self._running]
            for chunk in chunks:
                if chunk.is_last:
                    self._release(chunk.request_id)
            if kept:
                self._outbox.put(kept)

    def cancel(self, request_id: str) -> bool:
        """End a request for its sender. True when the engine runs it and must be told."""
        with self._lock:
            running = self._running.pop(request_id, None)
            self._arrived.pop(request_id, None)
            if running is None and self._waiting.pop(request_id, None) is None:
                return False
            if running is not None:
                self._ending[request_id] = running
            waited = self._waited.pop(request_id, None)
            self._outbox.put([Chunk(request_id, finish_reason="cancelled", waited=waited)])
            return running is not None

    def ended(self) -> list[str]:
        """Cancelled requests that the engine must let go of; forgets them."""
        with self._lock:
            ended = list(self._ending)
            for request_id in ended:
                self._release(request_id)
        return ended

    def go_down(self, error: TriremeError) -> None:
        """Fail everything open, and refuse what comes until `come_up`, with `error`."""
        with self._lock:
            self._down = error
            self._end_all([Chunk(id_, error=error) for id_ in (*self._running, *self._waiting)])

    def come_up(self) -> None:
        """Accept requests again."""
        with self._lock:
            self._down = None

    def is_up(self) -> bool:
        """Whether requests are accepted."""
        with self._lock:
            return self._down is None

    def counts(self) -> tuple[int, int]:
        """Requests waiting and running; cancelled ones run until the engine has let go of them."""
        with self._lock:
            return len(self._waiting), len(self._running) + len(self._ending)

    def waits(self) -> tuple[int, float]:
        """Requests that have started so far, and the seconds that they waited together."""
        with self._lock:
            return self._waits, self._wait_seconds

    def close(self) -> None:
        """Cancel everything open, refuse what comes, and end `stream`."""
        with self._lock:
            self._down = UnavailableError(CLOSED)
            self._end_all([Chunk(id_, finish_reason="cancelled") for id_ in (*self._running, *self._waiting)])
            self._outbox.put(None)

    def stream(self) -> Iterator[list[Chunk]]:
        """What was delivered, list by list; blocks; ends after `close`. One consumer."""
        while (chunks := self._outbox.get()) is not None:
            yield chunks

    def _with_wait(self, chunk: Chunk) -> Chunk:
        waited = self._waited.pop(chunk.request_id, None)
        return chunk if waited is None else replace(chunk, waited=waited)

    def _blocks(self, request: EngineRequest) -> int:
        return -(-(len(request.prompt) + request.sampling.max_tokens) // self._block_tokens)

    def _release(self, request_id: str) -> None:
        request = self._running.pop(request_id, None) or self._ending.pop(request_id, None)
        if request is not None and self._free_blocks is not None:
            self._free_blocks += self._blocks(request)

    def _end_all(self, last: list[Chunk]) -> None:
        for request_id in (*self._running, *self._ending):
            self._release(request_id)
        self._waiting.clear()
        self._arrived.clear()
        self._waited.clear()
        if last:
            self._outbox.put(last)
