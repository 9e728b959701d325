"""The bars that the encoders are held to, each with what was measured beside it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.encoders.results import (
    FP32_IN_PROCESS,
    INFINITY,
    OUR_PAIR_RANKER,
    OURS,
    OURS_IN_PROCESS,
    ST,
    BenchReport,
    compare,
    compute_pad_share,
    compute_share,
    find_best,
    list_rivals,
)

MIXED, PASSAGES, SHORT_ALONE = "c, 32 in flight", "b, 32 in flight", "a, 1 in flight"
CALLS_OF_32 = "c, 32 in flight and calls of 32"
RERANK_20, RERANK_20_AT_4, POISSON = "rerank 20, 1 in flight", "rerank 20, 4 in flight", "c, Poisson at 70 %"
TORCH = ("torch", "torch-bf16")


@dataclass(frozen=True, slots=True)
class Bar:
    """`measured` None: not measured in this run. `at_least`: else it is a limit from above."""

    what: str
    wanted: float
    measured: float | None
    unit: str = ""
    at_least: bool = True
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        is_met = self.measured >= self.wanted if self.at_least else self.measured <= self.wanted
        return "met" if is_met else "not met"


def judge(report: BenchReport) -> list[Bar]:
    """All bars, in the order of the page. Pure."""

    def most(what: str, wanted: float, measured: float | None, unit: str = "", note: str = "") -> Bar:
        return Bar(what, wanted, measured, unit, at_least=False, note=note)

    def beat(scenario: str, ours: str, theirs: str, wanted: float) -> Bar:
        return Bar(f"{scenario}: {theirs}", wanted, compare(report, scenario, ours, theirs), "x")

    def beat_best(scenario: str, ours: str, others: Iterable[str], what: str) -> Bar:
        """1.5 times the best rival, which is named; not measured where there was none."""
        best = find_best(report, scenario, others)
        ratio = compare(report, scenario, ours, best) if best else None
        return Bar(f"{scenario}: {what}", 1.5, ratio, "x", note=best or "")

    quality = {figure.engine: figure.ndcg_at_10 for figure in report.quality}
    lost = quality[FP32_IN_PROCESS] - quality[OURS] if {FP32_IN_PROCESS, OURS} <= set(quality) else None
    faster = [name for name in list_rivals(report, MIXED) if not name.endswith(TORCH)]
    infinities = list_rivals(report, RERANK_20, [INFINITY])
    rival = find_best(report, RERANK_20_AT_4, list_rivals(report, RERANK_20_AT_4, [INFINITY]))
    ranked = report.median(RERANK_20_AT_4, OUR_PAIR_RANKER)
    theirs = report.median(RERANK_20_AT_4, rival) if rival else None
    added = [
        served.p50_ms - alone.p50_ms
        for served, alone in zip(
            report.samples(SHORT_ALONE, OURS), report.samples(SHORT_ALONE, OURS_IN_PROCESS), strict=False
        )
    ]
    tails = [sample.p99_ms / sample.p50_ms for sample in report.samples(POISSON, OURS)]
    through = "c: texts/s through Triton, 32 in flight, by in process"
    return [
        most("nDCG@10 lost to fp32", 0.005, lost),
        beat(MIXED, OURS, f"{INFINITY} torch", 4.0),
        beat(MIXED, OURS, f"{ST} torch", 3.0),
        beat_best(MIXED, OURS, faster, "the best ONNX, OpenVINO or int8 engine of either"),
        Bar(
            "b: share of the int8 matrix rate, in process",
            0.40,
            compute_share(report, PASSAGES, OURS_IN_PROCESS, "int8"),
        ),
        beat(RERANK_20, OUR_PAIR_RANKER, f"{INFINITY} torch", 4.0),
        beat_best(RERANK_20, OUR_PAIR_RANKER, infinities, "Infinity's best engine"),
        most(
            f"{RERANK_20_AT_4}: our p95 by the rival's p50",
            1.0,
            ranked.p95_ms / theirs.p50_ms if ranked and theirs else None,
            note=rival or "",
        ),
        Bar(f"{through} with 32 texts a call", 0.90, compare(report, CALLS_OF_32, OURS, OURS_IN_PROCESS)),
        Bar(f"{through} at its best, 256 texts a call", 0.90, compare(report, MIXED, OURS, OURS_IN_PROCESS)),
        most(f"{SHORT_ALONE}: what Triton adds to a request, median", 1.5, _median(added), " ms"),
        most("c: padding, of the tokens computed", 0.05, compute_pad_share(report, MIXED)),
        most("c, Poisson arrivals at 70 %: p99 by p50", 4.0, _median(tails), "x"),
        most(
            "search: the chain's own time, mean", 3.0, report.search.rest_ms if report.search else None, " ms"
        ),
    ]


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None
