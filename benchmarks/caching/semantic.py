"""Hits and false hits of the semantic cache on held-out pairs: cosine, cosine and rules, equivalence and rules.

The folder has pairs/ and qa/ (Disfl-QA, GPTCache's pairs, SQuAD's questions). Nothing of it is trained on.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.caching.pairs import PairSet, read_pairs
from benchmarks.common.report import (
    DOCS,
    RESULTS,
    Circumstances,
    read_circumstances,
    read_record,
    render,
    show_progress_note,
    write_json,
    write_section,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.common.stack import start_server
from trireme.cache.bounds import interval
from trireme.cache.rules import find_difference
from trireme.gateway.caching.semantic_models import EQUIVALENCE, ServedScorer
from trireme.providers.registry import TritonPorts, open_model_server
from trireme.settings import read_settings
from trireme.types import FloatArray

EMBEDDING = "embedding"
COSINE, RULES, SCORED = "cosine", "cosine and rules", "equivalence and rules"
RECORD, PLOT, SECTION = "semantic-cache.json", "semantic-cache.png", "semantic pairs"
# The tier looks at nothing farther away.
LEAST_SIMILARITY = 0.7
PROMISE = 0.01
# The score of a pair that is not served at any threshold.
NEVER = -1e6
CONCURRENT = 16
# Shares of false hits of a curve.
SHARES = tuple(round(10 ** (-3 + n / 10), 5) for n in range(25))
COLORS = {COSINE: "#8a8f98", RULES: "#c2703d", SCORED: "#2f6f8f"}
INK = "#333a42"


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its two-sided limits at 95 %."""

    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """A method on a set. hits: at most 1 % of the set's other pairs served, by a threshold for this set alone.

    common_hits, common_false: by the one threshold at which 1 % of the other pairs of all sets are served.
    curve: hits at each of SHARES.
    """

    set: str
    method: str
    same: int
    other: int
    threshold: float
    hits: Rate
    common_threshold: float
    common_hits: Rate
    common_false: Rate
    curve: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SemanticReport:
    """All rows of a run."""

    rows: tuple[Row, ...]
    circumstances: Circumstances


Scores = tuple[FloatArray, FloatArray]


def rate_of(count: int, total: int) -> Rate:
    """A counted share."""
    low, high = interval(count, total)
    return Rate(count / total, low, high)


def threshold_at(other: FloatArray, share: float) -> float:
    """The lowest threshold that at most `share` of the other pairs reach; scores must be above it."""
    allowed = int(share * len(other))
    # What a rule parts is never served, whatever the threshold.
    return max(float(np.sort(other)[::-1][allowed]), NEVER)


def rows_of(sets: Sequence[PairSet], scores: dict[str, list[Scores]]) -> list[Row]:
    """A row of each method on each set. Pure."""
    rows = []
    for method, by_set in scores.items():
        common = threshold_at(np.concatenate([other for _, other in by_set]), PROMISE)
        for pairs, (same, other) in zip(sets, by_set, strict=True):
            threshold = threshold_at(other, PROMISE)
            rows.append(
                Row(
                    set=pairs.name,
                    method=method,
                    same=len(same),
                    other=len(other),
                    threshold=threshold,
                    hits=rate_of(int((same > threshold).sum()), len(same)),
                    common_threshold=common,
                    common_hits=rate_of(int((same > common).sum()), len(same)),
                    common_false=rate_of(int((other > common).sum()), len(other)),
                    curve=tuple(float((same > threshold_at(other, at)).mean()) for at in SHARES),
                )
            )
    return rows


def cosines(pairs: Sequence[tuple[str, str]], embed: Callable[[Sequence[str]], FloatArray]) -> FloatArray:
    """The cosine of each pair."""
    first, second = (embed([pair[side] for pair in pairs]) for side in (0, 1))
    return np.asarray(np.sum(first * second, axis=1))


def ruled(scores: FloatArray, pairs: Sequence[tuple[str, str]]) -> FloatArray:
    """The scores; NEVER of pairs that a rule parts."""
    passes = np.array([not find_difference(a, b) for a, b in pairs])
    return np.where(passes, scores, NEVER)


def open_embedder(model: Path) -> Callable[[Sequence[str]], FloatArray]:
    """The built encoder in this process, as the server runs it; a text is embedded once."""
    from benchmarks.rivals.trireme_engine import TriremeEngine

    engine = TriremeEngine(model, threads=0)
    known: dict[str, FloatArray] = {}

    def embed(texts: Sequence[str]) -> FloatArray:
        new = list(dict.fromkeys(text for text in texts if text not in known))
        known.update(zip(new, engine.embed(new, "query") if new else (), strict=True))
        return np.stack([known[text] for text in texts])

    return embed


def score_served(sets: Sequence[PairSet], repository: Path) -> list[Scores]:
    """The scores of the equivalence model, by a server of our own over its files. Blocks; raises TriremeError."""
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "model_repository"
        for name in (EMBEDDING, EQUIVALENCE):
            shutil.copytree(repository / name, served / name)
        with start_server(served) as server:
            config = server.config
            ports = TritonPorts(config.host, config.grpc_port, config.http_port, config.metrics_port)
            return asyncio.run(_score_all(sets, ports))


async def _score_all(sets: Sequence[PairSet], ports: TritonPorts) -> list[Scores]:
    server = open_model_server(ports)
    scorer = ServedScorer(server)
    free = asyncio.Semaphore(CONCURRENT)

    async def score(asked: str, kept: str) -> float:
        async with free:
            (found,) = await scorer.score(asked, [kept])
        return NEVER if found is None else found

    async def score_pairs(pairs: Sequence[tuple[str, str]]) -> FloatArray:
        # The kept question comes first in a pair, the new one second.
        return np.asarray(await asyncio.gather(*(score(asked, kept) for kept, asked in pairs)), np.float32)

    try:
        return [(await score_pairs(one.same), await score_pairs(one.other)) for one in sets]
    finally:
        await server.close()


def format_section(report: SemanticReport) -> str:
    """The page's section."""
    return render(
        "caching/semantic.md.j2",
        rows=report.rows,
        methods=list(dict.fromkeys(row.method for row in report.rows)),
        seen=report.circumstances,
        plot=PLOT,
        promise=PROMISE,
    )


def plot(report: SemanticReport, folder: Path) -> None:
    """Hits by the share of false hits, a panel for each set, as PNG in `folder`. Needs the bench extra."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row.set for row in report.rows))
    figure, axes = pyplot.subplots(2, 2, figsize=(8.4, 6.0), sharex=True, sharey=True)
    for axis, name in zip(axes.flat, names, strict=True):
        for row in report.rows:
            if row.set == name:
                axis.plot(SHARES, row.curve, color=COLORS[row.method], label=row.method)
        _dress(axis, name)
    for axis in axes[1]:
        axis.set_xlabel("share of different questions served", color=INK)
    for axis in axes[:, 0]:
        axis.set_ylabel("share of equal questions served", color=INK)
    axes[0][0].legend(frameon=False, labelcolor=INK, fontsize=8)
    figure.tight_layout()
    figure.savefig(folder / PLOT, dpi=150)
    pyplot.close(figure)


def _dress(axis: Any, name: str) -> None:
    axis.set_xscale("log")
    axis.axvline(PROMISE, color="#c9ced6", linewidth=0.8)
    axis.set_title(name, fontsize=8, color=INK)
    axis.grid(color="#e4e7eb", linewidth=0.6)
    axis.set_ylim(0, 1)
    axis.tick_params(colors=INK, labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.xaxis.set_major_formatter("{x:g}")


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures, and writes the results, the page's section and the curves."""
    if options.data is not None:
        repository = read_settings().model_repository
        embed = open_embedder(repository / EMBEDDING)
        sets = read_pairs(options.data, embed, options.seed)
        show_progress_note(", ".join(f"{one.name}: {len(one.same)} and {len(one.other)}" for one in sets))
        plain = [(cosines(one.same, embed), cosines(one.other, embed)) for one in sets]
        scores = {COSINE: plain, RULES: _ruled(plain, sets)}
        if (repository / EQUIVALENCE / "1" / "manifest.json").is_file():
            near = [
                tuple(
                    np.where(cosine >= LEAST_SIMILARITY, score, NEVER)
                    for cosine, score in zip(cosine_of, score_of, strict=True)
                )
                for cosine_of, score_of in zip(plain, score_served(sets, repository), strict=True)
            ]
            scores[SCORED] = _ruled(near, sets)  # type: ignore[arg-type]
        circumstances = read_circumstances("benchmarks.caching.semantic", words, options.seed)
        write_json(RESULTS / RECORD, SemanticReport(tuple(rows_of(sets, scores)), circumstances))
    report = read_record(RESULTS / RECORD, SemanticReport)
    plot(report, DOCS)
    write_section(DOCS / "caching.md", SECTION, format_section(report))
    print(format_section(report))


def _ruled(scores: Sequence[Scores], sets: Sequence[PairSet]) -> list[Scores]:
    return [
        (ruled(same, one.same), ruled(other, one.other))
        for (same, other), one in zip(scores, sets, strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--data", type=Path, help="the folder; without it the page is written from the last results"
    )
    parser.add_argument("--seed", type=int, default=7, help="of the changes by rule (default 7)")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
