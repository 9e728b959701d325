"""`search` request by request: what each stage took by Triton's statistics, and what the chain itself took."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.common.server_load import read_counts
from trireme.tune.perf_analyzer import compute_percentile

TOP_K = 20
TOLD_SECONDS = 2.5


@dataclass(frozen=True, slots=True)
class SearchStages:
    """Medians over `requests` requests, one at a time; milliseconds.

    `rest_ms`: the chain's own time, the mean of the totals less the means of the stages.
    Of a stage, `stages_ms` holds its wait in the queue, its input, execution and output; `queue_ms` the wait alone.
    """

    passages: int
    requests: int
    total_ms: float
    total_p95_ms: float
    stages_ms: dict[str, float]
    queue_ms: dict[str, float]
    rest_ms: float


Times = Mapping[str, tuple[int, int]]


def measure_search(
    ask: Callable[[str], None],
    read_times: Callable[[], Times],
    queries: Sequence[str],
    passages: int,
    *,
    read_encoders: Callable[[], Mapping[str, float]] = dict,
    warm_up: int = 5,
) -> SearchStages:
    """Asks the queries one by one. `read_times`: stage -> nanoseconds (in all, in the queue) so far. Blocks.

    read_encoders: stage -> seconds so far, of stages whose time is known only as a sum: their mean stands for the
    median.
    """
    for query in queries[:warm_up]:
        ask(query)
    encoders_before = read_encoders()
    totals = []
    stages: dict[str, list[float]] = {}
    queues: dict[str, list[float]] = {}
    before = read_times()
    for query in queries[warm_up:]:
        started = time.perf_counter_ns()
        ask(query)
        totals.append((time.perf_counter_ns() - started) / 1e6)
        after = read_times()
        for stage, (all_ns, queue_ns) in after.items():
            stages.setdefault(stage, []).append((all_ns - before[stage][0]) / 1e6)
            queues.setdefault(stage, []).append((queue_ns - before[stage][1]) / 1e6)
        before = after
    for stage, seconds in read_encoders().items():
        mean_ms = 1000 * (seconds - encoders_before[stage]) / len(totals)
        stages[stage] = [mean_ms] * len(totals)
    return SearchStages(
        passages=passages,
        requests=len(totals),
        total_ms=statistics.median(totals),
        total_p95_ms=compute_percentile(totals, 95),
        stages_ms={stage: statistics.median(values) for stage, values in stages.items()},
        queue_ms={stage: statistics.median(values) for stage, values in queues.items()},
        rest_ms=statistics.mean(totals) - sum(statistics.mean(values) for values in stages.values()),
    )


class SearchClient:
    """The two calls over gRPC. A context manager."""

    def __init__(self, url: str, steps: Sequence[str]) -> None:
        import tritonclient.grpc as triton

        self._client = triton.InferenceServerClient(url)
        self._steps = steps

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
        """
        answer: Any = self._client.get_inference_statistics()
        times = {}
        for one in answer.model_stats:
            if one.name in self._steps:
                stats = one.inference_stats
                parts = (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
                times[one.name] = (sum(part.ns for part in parts), stats.queue.ns)
        return times


def read_encoder_seconds(page: Callable[[], str], models: Sequence[str]) -> dict[str, float]:
    """What requests of text encoders, which answer after Triton's execution has ended, took so far. Blocks."""
    # They tell every two seconds at least.
    time.sleep(TOLD_SECONDS)
    counts = read_counts(page())
    return {model: counts.get(model, {}).get("request_s", 0.0) for model in models}
