"""Chunks between an engine's thread and the one consumer of its stream."""

from __future__ import annotations

import threading

from trireme.generate.engine import Chunk


class ChunkQueue:
    """Chunks on their way to the one consumer; what a slow consumer missed is joined, request by request."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._chunks: dict[str, Chunk] = {}
        self._closed = False

    def put(self, chunks: list[Chunk]) -> None:
        """Hand over one step's chunks. Does not block."""
        with self._changed:
            for chunk in chunks:
                earlier = self._chunks.get(chunk.request_id)
                self._chunks[chunk.request_id] = chunk if earlier is None else _join(earlier, chunk)
            self._changed.notify()

    def close(self) -> None:
        """Nothing comes any more: `take` gives what is left, then nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self) -> list[Chunk]:
        """All that is there; blocks for the next chunk. Empty once closed."""
        with self._changed:
            while not self._chunks and not self._closed:
                self._changed.wait()
            taken, self._chunks = self._chunks, {}
        return list(taken.values())


def _join(earlier: Chunk, later: Chunk) -> Chunk:
    tokens = earlier.tokens + later.tokens
    cached = earlier.cached_tokens if later.cached_tokens is None else later.cached_tokens
    logprobs = earlier.logprobs + later.logprobs
    top_logprobs = earlier.top_logprobs + later.top_logprobs
    return Chunk(later.request_id, tokens, later.finish_reason, later.error, cached, logprobs, top_logprobs)
