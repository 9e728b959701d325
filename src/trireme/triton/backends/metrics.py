"""The metrics of one model, which the server shows on its Prometheus page."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from trireme.triton.backends.instruments import Instrument


class ModelMetrics:
    """Makes metrics labelled with a model's name, and lets go of all of them. Thread-safe."""

    def __init__(self, pb: Any, model: str) -> None:
        self._pb = pb
        self._model = model
        self._families: dict[str, Any] = {}
        self._instruments: list[Instrument] = []
        self._failures: dict[str, Instrument] = {}
        self._lock = threading.Lock()

    def counter(self, name: str, description: str, **labels: str) -> Instrument:
        """A Prometheus counter, with `labels` beside the model's name."""
        return self._make(name, description, self._pb.MetricFamily.COUNTER, labels)

    def gauge(self, name: str, description: str, **labels: str) -> Instrument:
        """A Prometheus gauge, with `labels` beside the model's name."""
        return self._make(name, description, self._pb.MetricFamily.GAUGE, labels)

    def histogram(self, name: str, description: str, buckets: Sequence[float]) -> Instrument:
        """A Prometheus histogram; `buckets` are upper bounds, ascending."""
        return self._make(name, description, self._pb.MetricFamily.HISTOGRAM, buckets=list(buckets))

    def count_failure(self, code: str) -> None:
        """One more request that ended with an error: Triton counts what is answered later as a success."""
        with self._lock:
            if code not in self._failures:
                name, what = "trireme_request_failures_total", "Requests answered with an error, by its code"
                self._failures[code] = self.counter(name, what, code=code)
            self._failures[code].increment(1)

    def release(self) -> None:
        """Lets go of every metric.

        The stub deletes them at the server; one that outlives it ends its process with a segmentation fault.
        """
        for instrument in self._instruments:
            instrument.release()
        self._instruments.clear()
        self._families.clear()

    def _make(
        self,
        name: str,
        description: str,
        kind: Any,
        labels: Mapping[str, str] = MappingProxyType({}),
        **options: Any,
    ) -> Instrument:
        # Triton deletes a family with its last Python reference, and its metrics die with it.
        if name not in self._families:
            self._families[name] = self._pb.MetricFamily(name=name, description=description, kind=kind)
        metric = self._families[name].Metric(labels={"model": self._model, **labels}, **options)
        self._instruments.append(Instrument(metric))
        return self._instruments[-1]
