"""Prometheus metrics of the generator backend, written by a thread so that no request waits for them.

Stems are those of vLLM's own metrics; docs/generation.md has the mapping.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

from trireme.generate.service import Generator, Observation
from trireme.observe import metrics as names

if TYPE_CHECKING:
    from trireme.triton.backends.metrics import ModelMetrics

PERIOD_SECONDS = 0.2
OUTCOMES = ("stop", "length", "cancelled", "error")


class GeneratorMetrics:
    """Gauges, counters and histograms of one generator, at most PERIOD_SECONDS old."""

    def __init__(self, metrics: ModelMetrics, generator: Generator) -> None:
        self._generator = generator
        self._running = metrics.make(names.DECODING)
        self._waiting = metrics.make(names.LLM_WAITING)
        self._kv_usage = metrics.make(names.KV_USAGE)
        self._counters = {
            "input_tokens": metrics.make(names.PROMPT_TOKENS),
            "output_tokens": metrics.make(names.GENERATION_TOKENS),
            "prefix_cache_queries": metrics.make(names.PREFIX_QUERIES),
            "prefix_cache_hits": metrics.make(names.PREFIX_HITS),
            "restarts": metrics.make(names.ENGINE_RESTARTS),
        }
        self._counted = dict.fromkeys(self._counters, 0)
        self._outcomes = {
            outcome: metrics.make(names.ANSWERS, finished_reason=outcome) for outcome in OUTCOMES
        }
        self._histograms = {
            "time_to_first_token": metrics.make(names.FIRST_TOKEN),
            "seconds_per_token": metrics.make(names.PER_TOKEN),
            "seconds": metrics.make(names.ANSWER_TIME),
        }
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="generator-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left and end the thread. Blocks until then."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        shown: dict[str, float] = {}
        while True:
            is_last = self._closed.wait(PERIOD_SECONDS)
            self._write(shown)
            if is_last:
                return

    def _write(self, shown: dict[str, float]) -> None:
        stats, totals = self._generator.stats(), self._generator.totals()
        gauges: dict[str, tuple[Any, float]] = {
            "running": (self._running, stats.running),
            "waiting": (self._waiting, stats.waiting),
            "kv_usage": (self._kv_usage, stats.kv_cache_usage),
        }
        for name, (gauge, value) in gauges.items():
            # Every write crosses into the server's process.
            if shown.get(name) != value:
                gauge.set(float(value))
                shown[name] = value
        for name, counter in self._counters.items():
            value = getattr(totals if name.endswith("_tokens") else stats, name)
            if value > self._counted[name]:
                counter.increment(value - self._counted[name])
                self._counted[name] = value
        while True:
            try:
                self._observe(self._generator.observations.get_nowait())
            except queue.Empty:
                return

    def _observe(self, seen: Observation) -> None:
        self._outcomes[seen.outcome].increment(1)
        for name, histogram in self._histograms.items():
            value = getattr(seen, name)
            if value is not None:
                histogram.observe(value)
