"""Where the time of answers went, as the gateway's and Triton's metrics count it."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.gateway.measure import fetch
from benchmarks.gateway.servers import HOST, Server
from trireme.observe import metrics as names
from trireme.triton.metrics import read_metrics, read_samples


@dataclass(frozen=True, slots=True)
class Sums:
    """Of what was answered so far: seconds in the gateway's line and in the engine, and how many; the gateway's
    processor seconds."""

    line: float = 0.0
    lined: float = 0.0
    engine: float = 0.0
    written: float = 0.0
    cpu: float = 0.0

    def since(self, before: Sums) -> Sums:
        """What came since then."""
        return Sums(*(getattr(self, one) - getattr(before, one) for one in self.__slots__))


def read_sums(server: Server, triton_port: int, model: str) -> Sums:
    """As of now. triton_port: of its metrics. Blocks; raises UnavailableError, OSError."""
    ours = fetch(f"http://{HOST}:{server.port}/metrics").decode()
    triton = read_metrics(HOST, triton_port)
    line, engine = (
        read_histogram(page, metric, model)
        for page, metric in ((ours, names.ROUTE_WAIT), (triton, names.ANSWER_TIME))
    )
    return Sums(*line, *engine, server.read_cpu_s())


def read_histogram(page: str, metric: names.Metric, model: str) -> tuple[float, float]:
    """Sum and count of the model's values on a page of metrics; 0 where there are none."""
    total, count = (
        sum(value for labels, value in read_samples(page, f"{metric.name}_{part}") if _is_of(labels, model))
        for part in ("sum", "count")
    )
    return total, count


def _is_of(labels: dict[str, str], model: str) -> bool:
    return model in (labels.get("model"), labels.get("model_name"))
