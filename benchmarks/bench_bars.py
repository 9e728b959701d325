"""The bars that the encoders are held to, each with what was measured beside it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from bench_results import (
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
    return [
        *_judge_quality(report),
        *_judge_embedding(report),
        *_judge_rerank(report),
        *_judge_server(report),
        *_judge_search(report),
    ]


def _judge_quality(report: BenchReport) -> list[Bar]:
    figures = {figure.engine: figure.ndcg_at_10 for figure in report.quality}
    lost = figures[FP32_IN_PROCESS] - figures[OURS] if {FP32_IN_PROCESS, OURS} <= set(figures) else None
    return [Bar("nDCG@10 lost to fp32", 0.005, lost, at_least=False)]


def _judge_embedding(report: BenchReport) -> list[Bar]:
    others = [name for name in list_rivals(report, MIXED) if not name.endswith(TORCH)]
    best = find_best(report, MIXED, others)
    share = compute_share(report, PASSAGES, OURS_IN_PROCESS, "int8")
    return [
        _against(report, MIXED, OURS, f"{INFINITY} torch", 4.0),
        _against(report, MIXED, OURS, f"{ST} torch", 3.0),
        _against_best(
            report, MIXED, OURS, best, "c, 32 in flight: the best ONNX, OpenVINO or int8 engine of either"
        ),
        Bar("b: share of the int8 matrix rate, in process", 0.40, share),
    ]


def _against(report: BenchReport, scenario: str, ours: str, theirs: str, wanted: float) -> Bar:
    return Bar(f"{scenario}: {theirs}", wanted, compare(report, scenario, ours, theirs), "x")


def _against_best(report: BenchReport, scenario: str, ours: str, best: str | None, label: str) -> Bar:
    """1.5 times the best rival, which is named; not measured where there was none."""
    ratio = compare(report, scenario, ours, best) if best else None
    return Bar(label, 1.5, ratio, "x", note=best or "")


def _judge_rerank(report: BenchReport) -> list[Bar]:
    best = find_best(report, RERANK_20, list_rivals(report, RERANK_20, [INFINITY]))
    rival = find_best(report, RERANK_20_AT_4, list_rivals(report, RERANK_20_AT_4, [INFINITY]))
    ours = report.median(RERANK_20_AT_4, OUR_PAIR_RANKER)
    theirs = report.median(RERANK_20_AT_4, rival) if rival else None
    return [
        _against(report, RERANK_20, OUR_PAIR_RANKER, f"{INFINITY} torch", 4.0),
        _against_best(
            report, RERANK_20, OUR_PAIR_RANKER, best, "rerank 20, 1 in flight: Infinity's best engine"
        ),
        Bar(
            "rerank 20, 4 in flight: our p95 by the rival's p50",
            1.0,
            ours.p95_ms / theirs.p50_ms if ours and theirs else None,
            at_least=False,
            note=rival or "",
        ),
    ]


def _judge_server(report: BenchReport) -> list[Bar]:
    overhead = [
        served.p50_ms - alone.p50_ms
        for served, alone in zip(
            report.samples(SHORT_ALONE, OURS), report.samples(SHORT_ALONE, OURS_IN_PROCESS), strict=False
        )
    ]
    tails = [sample.p99_ms / sample.p50_ms for sample in report.samples(POISSON, OURS)]
    return [
        Bar(
            "c: texts/s through Triton, 32 in flight, by in process with 32 texts a call",
            0.90,
            compare(report, CALLS_OF_32, OURS, OURS_IN_PROCESS),
        ),
        Bar(
            "c: texts/s through Triton, 32 in flight, by in process at its best, 256 texts a call",
            0.90,
            compare(report, MIXED, OURS, OURS_IN_PROCESS),
        ),
        Bar(
            "a, 1 in flight: what Triton adds to a request, median",
            1.5,
            statistics.median(overhead) if overhead else None,
            " ms",
            at_least=False,
        ),
        Bar("c: padding, of the tokens computed", 0.05, compute_pad_share(report, MIXED), at_least=False),
        Bar(
            "c, Poisson arrivals at 70 %: p99 by p50",
            4.0,
            statistics.median(tails) if tails else None,
            "x",
            at_least=False,
        ),
    ]


def _judge_search(report: BenchReport) -> list[Bar]:
    rest = report.search.rest_ms if report.search else None
    return [Bar("search: the chain's own time, mean", 3.0, rest, " ms", at_least=False)]
