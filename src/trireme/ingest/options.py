"""How long a worker waits, and how much it holds at once."""

from __future__ import annotations

from dataclasses import dataclass

from trireme.retry import Pauses

RETRY = Pauses(0.2, 2.0)


@dataclass(frozen=True, slots=True)
class WorkerTiming:
    """Seconds that a worker waits.

    idle: for the next job or passage, where there is none, and for a model to be ready again. write: how long
    the first of the passages of one transaction waits for others. build: between two looks for a collection
    that lacks its index. retry: while the queue or the database is away.
    """

    idle: float = 0.5
    write: float = 0.3
    build: float = 2.0
    retry: Pauses = RETRY


@dataclass(frozen=True, slots=True)
class Sizes:
    """Jobs and passages that a worker holds at once.

    taken_jobs: taken in one call. held_jobs: in hand at most, where writing is slower than embedding.
    unit_passages: of one document, written together; a longer document is staged in pieces of this size.
    unwritten_passages: of one document, cut and not written yet. written_passages: of one transaction.
    cut_ahead: cut and not embedded yet, so that the server is never idle.
    """

    taken_jobs: int = 128
    held_jobs: int = 2048
    unit_passages: int = 512
    unwritten_passages: int = 8192
    written_passages: int = 512
    cut_ahead: int = 256


DEFAULT_TIMING = WorkerTiming()
DEFAULT_SIZES = Sizes()
