"""The metrics of one model, which the server shows on its Prometheus page."""

from __future__ import annotations

import threading
from typing import Any

from trireme.observe import metrics as names
from trireme.observe.metrics import Metric
from trireme.triton.backends.instruments import Instrument


class ModelMetrics:
    """Makes metrics labelled with a model's name, and lets go of all of them. Thread-safe."""

    def __init__(self, pb: Any, model: str) -> None:
        self._pb = pb
        self._model = model
        self._families: dict[str, Any] = {}
        self._instruments: list[Instrument] = []
        self._failures: dict[str, Instrument] = {}
        self._lock = threading.RLock()

    def make(self, metric: Metric, **labels: str) -> Instrument:
        """A metric of the table, with `labels` beside the model's name."""
        options = {"buckets": list(metric.buckets)} if metric.buckets else {}
        kinds = self._pb.MetricFamily
        kind = {"counter": kinds.COUNTER, "gauge": kinds.GAUGE, "histogram": kinds.HISTOGRAM}[metric.kind]
        with self._lock:
            # Triton deletes a family with its last Python reference, and its metrics die with it.
            if metric.name not in self._families:
                self._families[metric.name] = kinds(name=metric.name, description=metric.help, kind=kind)
            made = self._families[metric.name].Metric(labels={"model": self._model, **labels}, **options)
            self._instruments.append(Instrument(made))
            return self._instruments[-1]

    def count_failure(self, code: str) -> None:
        """One more request that ended with an error: Triton counts what is answered later as a success."""
        with self._lock:
            if code not in self._failures:
                self._failures[code] = self.make(names.FAILURES, code=code)
            self._failures[code].increment(1)

    def release(self) -> None:
        """Lets go of every metric.

        The stub deletes them at the server; one that outlives it ends its process with a segmentation fault.
        """
        for instrument in self._instruments:
            instrument.release()
        self._instruments.clear()
        self._families.clear()
