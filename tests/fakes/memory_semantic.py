"""An index of questions in memory, for tests: nothing outlives the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from trireme.cache.index import Candidate, Indexed, Vector, check_indexed, check_vector


class MemorySemanticIndex:
    """A SemanticIndex. Several processes with one database are one object here. `clock` gives Unix seconds."""

    def __init__(
        self,
        dimensions: int,
        most: int = 1000,
        most_of_partition: int = 100,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dimensions = dimensions
        self._most = most
        self._most_of_partition = most_of_partition
        self._clock = clock
        self._lock = threading.Lock()
        # By partition and key, oldest first.
        self._kept: dict[tuple[str, str], tuple[Indexed, float]] = {}

    def find(self, tenant: str, partition: str, vector: Vector, count: int) -> list[Candidate]:
        """See SemanticIndex.find."""
        check_vector(vector, self._dimensions)
        with self._lock:
            near = [
                Candidate(one.key, one.text, float(one.vector @ vector), made_at)
                for one, made_at in self._kept.values()
                if one.tenant == tenant
                and one.partition == partition
                and made_at + one.seconds > self._clock()
            ]
        return sorted(near, key=lambda one: -one.similarity)[:count]

    def keep(self, question: Indexed) -> None:
        """See SemanticIndex.keep."""
        check_indexed(question, self._dimensions)
        place = (question.partition, question.key)
        with self._lock:
            if place in self._kept and self._kept[place][0].tenant != question.tenant:
                return
            self._kept.pop(place, None)
            self._kept[place] = (question, self._clock())
            same = [one for one in self._kept if one[0] == question.partition]
            for one in same[: max(0, len(same) - self._most_of_partition)]:
                del self._kept[one]

    def forget(self, tenant: str, partition: str, keys: Sequence[str]) -> None:
        """See SemanticIndex.forget."""
        with self._lock:
            for key in keys:
                found = self._kept.get((partition, key))
                if found and found[0].tenant == tenant:
                    del self._kept[partition, key]

    def sweep(self) -> int:
        """See SemanticIndex.sweep."""
        with self._lock:
            over = [place for place, (one, at) in self._kept.items() if at + one.seconds <= self._clock()]
            rest = [place for place in self._kept if place not in set(over)]
            over += rest[: max(0, len(rest) - self._most)]
            for place in over:
                del self._kept[place]
            return len(over)

    def close(self) -> None:
        """See SemanticIndex.close."""
