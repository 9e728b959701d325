"""Prometheus metrics of the generator backend, written by a thread so that no request waits for them.

Stems are those of vLLM's own metrics; docs/generation.md has the mapping.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

from trireme.generate.service import Generator, Observation

if TYPE_CHECKING:
    from trireme.triton.backends.metrics import ModelMetrics

PERIOD_SECONDS = 0.2
PREFIX = "vllm:"
FIRST_TOKEN_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0)
REQUEST_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
OUTCOMES = ("stop", "length", "cancelled", "error")


class GeneratorMetrics:
    """Gauges, counters and histograms of one generator, at most PERIOD_SECONDS old."""

    def __init__(self, metrics: ModelMetrics, generator: Generator) -> None:
        self._generator = generator
        self._running = metrics.gauge(f"{PREFIX}num_requests_running", "Requests being decoded")
        self._waiting = metrics.gauge(f"{PREFIX}num_requests_waiting", "Requests that wait for a place")
        self._kv_usage = metrics.gauge(f"{PREFIX}kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1")
        self._counters = {
            "input_tokens": metrics.counter(f"{PREFIX}prompt_tokens_total", "Prompt tokens read"),
            "output_tokens": metrics.counter(f"{PREFIX}generation_tokens_total", "Tokens generated"),
            "prefix_cache_queries": metrics.counter(
                f"{PREFIX}prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache"
            ),
            "prefix_cache_hits": metrics.counter(
                f"{PREFIX}prefix_cache_hits_total", "Prompt tokens found in the prefix cache"
            ),
            "restarts": metrics.counter(
                "trireme_engine_restarts_total", "Starts of the engine after a failure"
            ),
        }
        self._counted = dict.fromkeys(self._counters, 0)
        self._outcomes = {
            outcome: metrics.counter(
                f"{PREFIX}request_success_total", "Requests ended, by how they ended", finished_reason=outcome
            )
            for outcome in OUTCOMES
        }
        self._histograms = {
            "time_to_first_token": metrics.histogram(
                f"{PREFIX}time_to_first_token_seconds", "From request to first token", FIRST_TOKEN_SECONDS
            ),
            "seconds_per_token": metrics.histogram(
                f"{PREFIX}request_time_per_output_token_seconds",
                "Mean time between the tokens of one request",
                TOKEN_SECONDS,
            ),
            "seconds": metrics.histogram(
                f"{PREFIX}e2e_request_latency_seconds", "From request to last token", REQUEST_SECONDS
            ),
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
