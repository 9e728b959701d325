"""The benchmark's figures as tables, plots and the page docs/performance.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_bars import CALLS_OF_32, MIXED, PASSAGES, RERANK_20, RERANK_20_AT_4, SHORT_ALONE, Bar, judge
from bench_results import (
    FP32_IN_PROCESS,
    OUR_PAIR_RANKER,
    OURS,
    OURS_IN_PROCESS,
    BenchReport,
    compare,
    compute_pad_share,
    compute_share,
)
from bench_scenarios import IN_PROCESS
from contenders import Sample
from report import format_circumstances, format_table

THROUGHPUT_PLOT, LATENCY_PLOT = "performance-throughput.png", "performance-latency.png"
SHORT, RERANK_100 = "a, 32 in flight", "rerank 100, 1 in flight"
BATCHES = "c, 4 batches of 32 in flight"
IN_FLIGHT = (
    "c, 1 in flight",
    "c, 8 in flight",
    MIXED,
    "c, 128 in flight",
)
INK, GRID, OUR_COLOR, COLORS = (
    "#222222",
    "#dddddd",
    "#0b6e99",
    ("#c2571a", "#7a4fa3", "#3f7f3f", "#8a6d1a", "#a33a55", "#4a6a8a"),
)
NOTHING = ""
# Vectors of the same texts, cut and pooled alike, are nearer to fp32's than this; int8 stays well above it.
LEAST_COSINE = 0.9


def format_number(value: float | None, digits: int = 1) -> str:
    """Empty for None."""
    return NOTHING if value is None else f"{value:,.{digits}f}"


def format_bars(bars: Sequence[Bar]) -> str:
    """Every bar with what was measured, and whether it is met."""
    rows = [
        (
            bar.what + (f" ({bar.note})" if bar.note else ""),
            f"{'at least' if bar.at_least else 'at most'} {bar.wanted:g}{bar.unit}",
            NOTHING if bar.measured is None else f"{bar.measured:.4g}{bar.unit}",
            bar.verdict,
        )
        for bar in bars
    ]
    return format_table(("bar", "wanted", "measured", "verdict"), rows)


def format_entrants(report: BenchReport) -> str:
    """Who was measured, in which versions; one that did not start stands here with its error."""
    lines = []
    for one in report.entrants:
        versions = ", ".join(f"{name} {version}" for name, version in one.versions.items())
        lines.append(
            f"- {one.name}: {one.what}. " + (f"Not measured: {one.error}" if one.error else versions)
        )
    return "\n".join(lines)


def format_throughput(report: BenchReport) -> str:
    """Texts per second on a, b and c, what a text costs, and shares of the machine's rate."""
    header = ("contender", "a", "b", "c", "ours by it, c", "CPU ms a text, c", "b: of int8", "b: of fp32")
    rows = []
    for name in _contenders(report, (SHORT, PASSAGES, MIXED)):
        samples = {scenario: report.median(scenario, name) for scenario in (SHORT, PASSAGES, MIXED)}
        mixed = samples[MIXED]
        shares = [compute_share(report, PASSAGES, name, number_format) for number_format in ("int8", "fp32")]
        rows.append(
            (
                name,
                *(format_number(sample.texts_per_s if sample else None) for sample in samples.values()),
                _times(compare(report, MIXED, OURS, name)) if name != OURS else NOTHING,
                format_number(mixed.cpu_ms_per_text if mixed else None, 2),
                *(NOTHING if share is None else f"{share:.0%}" for share in shares),
            )
        )
    return format_table(header, rows)


def format_loads(report: BenchReport, scenarios: Sequence[str]) -> str:
    """Servers under different loads: texts per second, and latency of a request."""
    rows = []
    for scenario in scenarios:
        for name in report.contenders(scenario):
            sample = report.median(scenario, name)
            if sample is not None and name not in IN_PROCESS:
                rows.append((scenario, name, *_describe(sample)))
    return format_table(
        ("load", "contender", "texts/s", "p50 ms", "p95 ms", "p99 ms", "CPU ms a text", "requests"), rows
    )


def _describe(sample: Sample) -> tuple[str, ...]:
    latencies = (sample.p50_ms, sample.p95_ms, sample.p99_ms)
    return (
        format_number(sample.texts_per_s),
        *(format_number(ms) for ms in latencies),
        format_number(sample.cpu_ms_per_text, 2),
        str(sample.requests),
    )


def _contenders(report: BenchReport, scenarios: Sequence[str]) -> list[str]:
    there = {name for scenario in scenarios for name in report.contenders(scenario)}
    return [one.name for one in report.entrants if one.name in there]


def _times(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.2f}x"


def format_rates(report: BenchReport) -> str:
    """The machine's own matrix rates, and the operations of a text."""
    rates = ", ".join(f"{name} {report.rate(name):.3f}" for name in ("int8", "bf16", "fp32"))
    operations = ", ".join(f"{name} {count / 1e9:.2f}" for name, count in report.operations.items())
    return f"10^12 operations per second: {rates}. 10^9 operations of a text: {operations}."


def format_server(report: BenchReport) -> list[str]:
    """What Triton and our backend cost, in sentences; those that were measured."""
    found = []
    for scenario, words in ((MIXED, "calls of 256"), (CALLS_OF_32, "calls of 32")):
        alone = report.median(scenario, OURS_IN_PROCESS)
        served = report.median(MIXED, OURS)
        if alone and served:
            found.append(
                f"In process, {words}: {alone.texts_per_s:.1f} texts/s; through Triton, 32 in flight: "
                f"{served.texts_per_s:.1f}, {served.texts_per_s / alone.texts_per_s:.2f} of it."
            )
    alone, served = report.median(SHORT_ALONE, OURS_IN_PROCESS), report.median(SHORT_ALONE, OURS)
    if alone and served:
        found.append(
            f"One short query at a time: {alone.p50_ms:.2f} ms in process, {served.p50_ms:.2f} ms through Triton "
            "(medians)."
        )
    padding = compute_pad_share(report, MIXED)
    if padding is not None:
        found.append(f"Padding on c, 32 in flight: {padding:.1%} of the tokens computed.")
    middle = report.median(MIXED, OURS)
    if middle and middle.steps:
        step = middle.steps[0]
        found.append(
            f"On c, 32 in flight, a micro-batch held {step.tokens_per_micro_batch:.0f} tokens; a request waited "
            f"{step.queue_ms:.1f} ms in Triton's queue (mean), and then in the encoder's."
        )
    return found


def format_search(report: BenchReport) -> str:
    """The stages of one search."""
    search = report.search
    if search is None:
        return "Not measured in this run."
    rows = [
        (stage, format_number(ms, 2), format_number(search.queue_ms[stage], 2))
        for stage, ms in sorted(search.stages_ms.items(), key=lambda item: -item[1])
    ]
    rows.append(("the chain itself", format_number(search.rest_ms, 2), NOTHING))
    rows.append(("in all, at the client", format_number(search.total_ms, 2), NOTHING))
    return (
        f"{search.requests} queries, one at a time, {search.passages:,} passages indexed, the best 20 reranked. "
        f"Medians; p95 of all {search.total_p95_ms:.1f} ms; of the encoders and the chain itself means.\n\n"
        + format_table(("stage", "ms", "of it in the queue"), rows)
    )


def format_quality(report: BenchReport) -> str:
    """nDCG@10 of each engine, and how near its vectors are to fp32's."""
    near = ", ".join(f"{name} {cosine:.4f}" for name, cosine in report.cosines.items())
    said = f"Smallest cosine to fp32 over the first texts of c: {near}.\n\n" if near else NOTHING
    if not report.quality:
        return said + "nDCG@10 was not measured: it needs a BEIR folder, `make bench DATA=FOLDER`."
    best = {figure.engine: figure.ndcg_at_10 for figure in report.quality}.get(FP32_IN_PROCESS)
    rows = [
        (
            figure.engine,
            f"{figure.ndcg_at_10:.4f}",
            NOTHING if best is None else f"{figure.ndcg_at_10 - best:+.4f}",
            str(figure.queries),
        )
        for figure in report.quality
    ]
    return f"{said}On {report.quality[0].dataset}:\n\n" + format_table(
        ("engine", "nDCG@10", "to fp32", "queries"), rows
    )


def format_problems(report: BenchReport) -> str:
    """What failed, what was left out, and whose tokens differ."""
    lines = [f"- {one.name} did not start: {one.error}" for one in report.entrants if one.error]
    lines += [f"- {one.contender} failed on {one.scenario}: {one.error}" for one in report.failures]
    lines += [f"- Left out, the time was up: {name}" for name in report.left_out]
    differ = [name for name, agrees in report.tokens_agree.items() if not agrees]
    lines += [f"- {name} counts tokens differently: its figures are not comparable" for name in differ]
    lines += [
        f"- {name} makes other vectors (cosine {cosine:.4f}): its figures are not comparable"
        for name, cosine in report.cosines.items()
        if cosine < LEAST_COSINE
    ]
    if not lines:
        lines.append("- Nothing failed and nothing was left out.")
    if report.tokens_agree and not differ:
        lines.append("- All libraries count the same tokens for the same texts, cut at the same limit.")
    return "\n".join(lines)


def describe_others(report: BenchReport) -> str:
    """How much else the machine did during the runs."""
    cores = [point.other_cores for point in report.points]
    if not cores:
        return NOTHING
    return (
        f"Everything else on the machine used {statistics.median(cores):.2f} cores during a run (median),"
        f" {max(cores):.2f} at most; a disturbed run was made once more."
    )


def format_document(report: BenchReport) -> str:
    """docs/performance.md."""
    workloads = [
        (one.name, one.what, f"{one.texts:,}", f"{one.tokens:.1f}", f"{one.tokens_squared**0.5:.1f}")
        for one in report.workloads
    ]
    poisson = [name for name in _scenarios(report) if "Poisson" in name]
    sentences = [f"- {one}" for one in format_server(report)]
    return f"""# Performance

Made by `make bench` (`benchmarks/bench.py`) in {report.seconds / 60:.0f} minutes. Our models run behind a real
tritonserver, driven by perf_analyzer over gRPC; Infinity behind its own HTTP API with the same texts; libraries
run in process, each in an environment of its own. Client and server share the machine. The response cache is off
and texts do not repeat. All engines load the same checkpoint, all-MiniLM-L6-v2 with its limit raised to 512 tokens.

Figures are medians over rounds of some seconds; in each round all contenders are measured one after the other, and
ratios are those of the same round. Whatever is not measured is idle or stopped. Warm-up is left out.
{describe_others(report)}

{format_circumstances(report.circumstances)}

## Bars

{format_bars(judge(report))}

The rerank bars compare equal work: `{OUR_PAIR_RANKER}` runs the same cross-encoder as the rivals.

## Workloads

{format_table(("workload", "texts of", "drawn", "tokens, mean", "root of mean square"), workloads)}

## Embedding

Texts per second: servers with 32 requests in flight, libraries with one call of many texts at a time. The last
columns are shares of this machine's own matrix rate on passages (b), padding not counted.

{format_throughput(report)}

![Texts per second on workload c]({THROUGHPUT_PLOT})

{format_rates(report)} A text of L tokens takes layers * (2 L (4 H^2 + 2 H I) + 4 L^2 H)
operations for hidden size H and inner size I, a multiplication with its addition being two. The rates are those of
large matrices through torch (oneDNN, MKL).

## Under load

{format_loads(report, (*IN_FLIGHT, BATCHES))}

![Latency by requests in flight]({LATENCY_PLOT})

Random arrivals (Poisson) at 70 % of the most that single texts reached:

{format_loads(report, poisson)}

## What the server costs

{chr(10).join(sentences)}

## Reranking

One request is a query with its passages; texts/s are passages. The default reranker reads the best 20 of 100 by
their retrieval score. The rivals' cross-encoder has the embedder's shape and weights and a random head.

{format_loads(report, (RERANK_20, RERANK_20_AT_4, RERANK_100))}

## Search

{format_search(report)}

## Quality

{format_quality(report)}

## Contenders

{format_entrants(report)}

{format_problems(report)}
"""


def _scenarios(report: BenchReport) -> list[str]:
    return list(dict.fromkeys(point.scenario for point in report.points))


def plot(report: BenchReport, folder: Path) -> None:
    """Write both plots as PNG into `folder`. Needs the bench extra."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    for name, draw in ((THROUGHPUT_PLOT, _draw_throughput), (LATENCY_PLOT, _draw_latency)):
        figure, axis = pyplot.subplots(figsize=(7.6, 4.0))
        draw(axis, report)
        axis.grid(color=GRID, linewidth=0.6, axis="both" if name == LATENCY_PLOT else "x")
        axis.set_axisbelow(True)
        axis.tick_params(colors=INK, labelsize=8)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        figure.tight_layout()
        figure.savefig(folder / name, dpi=150)
        pyplot.close(figure)


def _draw_throughput(axis: Any, report: BenchReport) -> None:
    found = [(name, sample) for name in report.contenders(MIXED) if (sample := report.median(MIXED, name))]
    found.sort(key=lambda pair: pair[1].texts_per_s)
    names, rates = [name for name, _ in found], [sample.texts_per_s for _, sample in found]
    bars = axis.barh(
        names, rates, color=[OUR_COLOR if name.startswith("Trireme") else "#b9b9b9" for name in names]
    )
    axis.bar_label(bars, labels=[f"{rate:.0f}" for rate in rates], padding=3, fontsize=8, color=INK)
    axis.set_xlabel("texts per second, workload c", color=INK)


def _draw_latency(axis: Any, report: BenchReport) -> None:
    others = iter(COLORS)
    for name in _contenders(report, IN_FLIGHT):
        series = [(int(s.split()[1]), x) for s in IN_FLIGHT if (x := report.median(s, name))]
        if len(series) < 2:
            continue
        color = OUR_COLOR if name == OURS else next(others, INK)
        counts = [count for count, _ in series]
        axis.plot(counts, [s.p50_ms for _, s in series], "o-", color=color, label=f"{name}, p50")
        axis.plot(counts, [s.p99_ms for _, s in series], "o:", color=color, label=f"{name}, p99")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xlabel("requests in flight, workload c", color=INK)
    axis.set_ylabel("latency, ms", color=INK)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_formatter("{x:g}")
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False, labelcolor=INK, fontsize=8)
