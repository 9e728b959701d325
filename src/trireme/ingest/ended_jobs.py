"""What a worker says of jobs that end: a line and a span for each that a request has published."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence

from trireme.ingest.queue import Job
from trireme.observe.spans import Span, SpanSink, bounded
from trireme.observe.trace import is_id, new_span, read_span

# Outcomes that are no failure.
FINE = frozenset({"stored", "released", "gone"})
NAME = "index document"


class EndedJobs:
    """Tells each once. Thread-safe. Says nothing of documents that no request has published: they may be many."""

    def __init__(self, notice: Callable[[str], None], spans: SpanSink) -> None:
        """notice: is told a line. spans: of requests that are sampled."""
        self._notice = notice
        self._spans = spans
        self._lock = threading.Lock()
        self._taken: dict[str, int] = {}

    def take(self, jobs: Sequence[Job]) -> None:
        """They are worked on from now on."""
        now = time.time_ns()
        with self._lock:
            self._taken.update((job.id, now) for job in jobs if job.origin.request)

    def tell(self, jobs: Sequence[Job], outcome: str) -> None:
        """They have ended: stored, failed, dead, released or gone."""
        for job in jobs:
            with self._lock:
                began = self._taken.pop(job.id, None)
            # An id that could forge a line is none.
            if began is not None and is_id(job.origin.request):
                self._tell(job, outcome, began)

    def _tell(self, job: Job, outcome: str, began: int) -> None:
        ended, found = time.time_ns(), read_span(job.origin.parent)
        trace = f" trace {found[0]}" if found else ""
        # In quotes: an id may hold any signs.
        document = json.dumps(bounded(job.document.id))
        seconds = (ended - began) / 1e9
        request = f"request {job.origin.request}{trace}"
        self._notice(f"{request} job {job.id} document {document}: {outcome}, {seconds:.4f} s")
        if found and found[2] and self._spans.is_on:
            said = {"trireme.request": job.origin.request, "trireme.job": job.id, "trireme.outcome": outcome}
            error = "" if outcome in FINE else outcome
            span = Span(NAME, "consumer", found[0], new_span(), found[1], began, ended, error, said)
            self._spans.put(span)
