"""What the ingestion benchmark found, and the page that shows it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from report import Circumstances, format_circumstances, format_table


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
    """The page."""
    parts = [
        "# Speed of ingestion\n\nMade by `benchmarks/ingestion.py`. "
        "The texts are made: runs of words of these pages.\n",
        format_circumstances(report.circumstances),
    ]
    if report.comparison is not None:
        parts.append(format_comparison(report.comparison))
    if report.scale is not None:
        parts.append(format_scale(report.scale))
    return "\n".join(parts) + "\n"


def format_comparison(found: Comparison) -> str:
    """Beside the script; ratios are those of the same round."""
    intro = (
        "\n## Beside a plain script\n\n"
        f"{found.documents:,} documents of {found.tokens:.0f} tokens, one passage each, in rounds of all three. "
        "The script "
        "loads its model before the clock starts, encodes in batches of 32 with sentence-transformers in fp32, and "
        "inserts into a table without indexes. Ours goes from the file through the queue, the worker (its start is "
        "counted) and tritonserver into the indexed collection.\n\n"
    )
    if found.error:
        return intro + f"The script could not be run: {found.error}\n"
    rows = []
    for name, values in (
        ("trireme ingest", found.ours),
        ("script, INSERT one by one", found.one_by_one),
        ("script, executemany", found.executemany),
    ):
        ratio = statistics.median(theirs / ours for theirs, ours in zip(values, found.ours, strict=True))
        median = statistics.median(values)
        rows.append((name, f"{found.documents / median:.1f}", f"{median:.1f}", f"{ratio:.2f}x"))
    return intro + format_table(("", "documents/s", "seconds", "ours by it"), rows) + "\n"


def format_scale(found: Scale) -> str:
    """The large collection."""
    sizes = [
        (name, f"{size / 2**20:,.0f}") for name, size in sorted(found.sizes.items(), key=lambda one: -one[1])
    ]
    searches = [
        (one.mode, f"{one.p50_ms:.1f}", f"{one.p95_ms:.1f}", f"{one.recall:.3f}", f"{one.exact_p50_ms:.1f}")
        for one in found.searches
    ]
    rate, alone = found.chunks / found.load_s, statistics.median(found.alone)
    cpu_s = sum(found.cpu_s.values())
    rows = [
        ("read, hashed and published, documents/s", f"{found.chunks / found.publish_s:,.0f}"),
        ("cut, embedded and written, passages/s", f"{rate:,.0f}"),
        ("the same, tokens/s", f"{rate * found.tokens:,.0f}"),
        ("such texts embedded alone by the same server, passages/s", f"{alone:,.0f}"),
        ("share of the load's time that embedding alone would not take", f"{1 - rate / alone:.1%}"),
        *(
            (f"processor time of {name} during the load", f"{seconds / cpu_s:.1%}")
            for name, seconds in found.cpu_s.items()
        ),
        ("HNSW index built at the end of the load, s", f"{found.build_s:.0f}"),
        (
            "largest memory of the worker's process, with the texts of this benchmark, MiB",
            f"{found.worker_mib:,.0f}",
        ),
        ("memory of PostgreSQL's processes after the searches, MiB", f"{found.database_mib:,.0f}"),
    ]
    return (
        f"\n## {found.chunks:,} passages\n\nOne document each, {found.tokens:.0f} tokens (mean). "
        "The worker builds the HNSW index once the load is over; until then a dense search compares all vectors. "
        "The embedder alone was asked by as many senders, with requests of the same size, and nothing else.\n\n"
        + format_table(("", "measured"), rows)
        + "\n\nMiB on disk:\n\n"
        + format_table(("table or index", "MiB"), sizes)
        + f"\n\nSearches of {found.queries} made queries, top 10, one at a time, at the store. "
        "Recall is against the same search without an index, whose times are those during a load.\n\n"
        + format_table(("mode", "p50 ms", "p95 ms", "recall@10", "without an index: p50 ms"), searches)
        + f"\n\nThe whole chain `search` through Triton, 20 passages reranked: p50 {found.chain_p50_ms:.0f} ms, "
        f"p95 {found.chain_p95_ms:.0f} ms.\n"
    )
