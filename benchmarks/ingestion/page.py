"""What the ingestion benchmark found, and the page that shows it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from benchmarks.common.report import Circumstances, render


@dataclass(frozen=True, slots=True)
class Comparison:
    """Seconds for the same documents, one number a round: ours, and the script with both ways to insert."""

    documents: int
    tokens: float
    ours: tuple[float, ...]
    one_by_one: tuple[float, ...]
    executemany: tuple[float, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class SearchTimes:
    """Milliseconds of searches in one mode, one at a time; recall@10 against the same mode without an index."""

    mode: str
    p50_ms: float
    p95_ms: float
    recall: float
    exact_p50_ms: float


@dataclass(frozen=True, slots=True)
class Scale:
    """One large collection, from the file to the searches.

    load_s: until all is written, build_s: until the vector index is there too. alone: passages/s of rounds in
    which the same server does nothing but embed such texts. cpu_s: of each part during the load.
    """

    chunks: int
    tokens: float
    publish_s: float
    load_s: float
    build_s: float
    alone: tuple[float, ...]
    cpu_s: dict[str, float]
    sizes: dict[str, int]
    worker_mib: float
    database_mib: float
    queries: int
    searches: tuple[SearchTimes, ...]
    chain_p50_ms: float
    chain_p95_ms: float


@dataclass(frozen=True, slots=True)
class IngestionReport:
    """What one run found."""

    comparison: Comparison | None
    scale: Scale | None
    circumstances: Circumstances


def format_document(report: IngestionReport) -> str:
    """docs/ingestion-speed.md; ratios are those of the same round."""
    found, scale = report.comparison, report.scale
    compared = []
    if found is not None and not found.error:
        names = ("trireme ingest", "script, INSERT one by one", "script, executemany")
        for name, series in zip(names, (found.ours, found.one_by_one, found.executemany), strict=True):
            ratios = [theirs / ours for theirs, ours in zip(series, found.ours, strict=True)]
            row = {"name": name, "seconds": statistics.median(series), "ratio": statistics.median(ratios)}
            compared.append(row)
    return render(
        "ingestion/speed.md.j2",
        found=found,
        compared=compared,
        scale=scale,
        rate=scale.chunks / scale.load_s if scale else None,
        alone=statistics.median(scale.alone) if scale else None,
        cpu_s=sum(scale.cpu_s.values()) if scale else None,
        seen=report.circumstances,
    )
