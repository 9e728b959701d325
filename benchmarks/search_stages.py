"""`search` request by request: what each stage took by Triton's statistics, and what the chain itself took."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NANOSECONDS = 1_000_000_000
TOP_K = 20


@dataclass(frozen=True, slots=True)
class SearchStages:
    """Medians over `requests` requests, one at a time; milliseconds. `rest_ms`: total less the sum of the stages.

    Of a stage, `stages_ms` holds its wait in the queue, its input, execution and output; `queue_ms` the wait alone.
    """

    passages: int
    requests: int
    total_ms: float
    total_p95_ms: float
    stages_ms: dict[str, float]
    queue_ms: dict[str, float]
    rest_ms: float
    rest_p95_ms: float


Times = Mapping[str, tuple[int, int]]


def measure_search(
    ask: Callable[[str], None],
    read_times: Callable[[], Times],
    queries: Sequence[str],
    passages: int,
    *,
    warm_up: int = 5,
) -> SearchStages:
    """Asks the queries one by one. `read_times`: stage -> nanoseconds (in all, in the queue) so far. Blocks."""
    for query in queries[:warm_up]:
        ask(query)
    totals, rests = [], []
    stages: dict[str, list[float]] = {}
    queues: dict[str, list[float]] = {}
    before = read_times()
    for query in queries[warm_up:]:
        started = time.perf_counter_ns()
        ask(query)
        total = (time.perf_counter_ns() - started) / 1e6
        after = read_times()
        spent = 0.0
        for stage, (all_ns, queue_ns) in after.items():
            grown = (all_ns - before[stage][0]) / 1e6
            stages.setdefault(stage, []).append(grown)
            queues.setdefault(stage, []).append((queue_ns - before[stage][1]) / 1e6)
            spent += grown
        totals.append(total)
        rests.append(total - spent)
        before = after
    return SearchStages(
        passages=passages,
        requests=len(totals),
        total_ms=statistics.median(totals),
        total_p95_ms=_p95(totals),
        stages_ms={stage: statistics.median(values) for stage, values in stages.items()},
        queue_ms={stage: statistics.median(values) for stage, values in queues.items()},
        rest_ms=statistics.median(rests),
        rest_p95_ms=_p95(rests),
    )


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[max(round(0.95 * len(values)) - 1, 0)]


class SearchClient:
    """The two calls over gRPC. A context manager. `encoders`: those of the steps that answer after execution."""

    def __init__(self, url: str, steps: Sequence[str], encoders: Sequence[str]) -> None:
        import tritonclient.grpc as triton

        self._client = triton.InferenceServerClient(url)
        self._steps = steps
        self._encoders = encoders

    def __enter__(self) -> SearchClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, query: str) -> None:
        """One search; the answer is dropped."""
        import numpy as np
        import tritonclient.grpc as triton

        texts = triton.InferInput("query", [1, 1], "BYTES")
        texts.set_data_from_numpy(np.array([[query.encode()]], dtype=object))
        depth = triton.InferInput("top_k", [1, 1], "INT32")
        depth.set_data_from_numpy(np.array([[TOP_K]], np.int32))
        self._client.infer("search", [texts, depth])

    def read_times(self) -> Times:
        """Stage -> nanoseconds of its requests: queue, input, execution and output together; and the queue alone.

        Triton's own total of a stage ends only when its answer is given back, while the next stage runs already.
        It is taken for text encoders all the same, whose execution ends before they answer.
        """
        answer: Any = self._client.get_inference_statistics()
        times = {}
        for one in answer.model_stats:
            if one.name in self._steps:
                stats = one.inference_stats
                parts = (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
                whole = stats.success.ns if one.name in self._encoders else sum(part.ns for part in parts)
                times[one.name] = (whole, stats.queue.ns)
        return times
