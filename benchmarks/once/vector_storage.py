"""Recall, size and time of each way to store vectors: float32, float16, binary; beside exact search."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg

from benchmarks.common.report import RESULTS, Circumstances, read_circumstances, render, write_json
from benchmarks.common.script import make_parser, run_script
from benchmarks.search.ranking import rank_by_cosine
from trireme.errors import InvalidInputError
from trireme.local.postgres import start_postgres
from trireme.postgres.store import PostgresStore
from trireme.retrieve.versions import STORAGES
from trireme.storage import DEFAULT_EF_SEARCH, DEFAULT_EXACT_BELOW
from trireme.tune.perf_analyzer import compute_percentile
from trireme.types import Embedder, FloatArray, Passage, StoreQuery

BATCH = 1000
TOP_K = 10
# Asked; and of made vectors.
QUERIES, DIMENSIONS = 200, 384
CLUSTER_SIZE = 100
# Of a point around its centre, beside the centre's own length of 1.
SPREAD = 0.6
WARM_UP = 5


@dataclass(frozen=True, slots=True)
class StorageRow:
    """One storage: recall@10 against exact search of the given vectors, sizes in MB, times as named."""

    storage: str
    recall: float
    table_mb: float
    index_mb: float
    build_seconds: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class StorageReport:
    """All rows of one set of vectors."""

    vectors: int
    dimensions: int
    queries: int
    rows: tuple[StorageRow, ...]
    circumstances: Circumstances


def make_clustered(count: int, dimensions: int, seed: int) -> FloatArray:
    """Unit vectors [count, dimensions] around one centre for every hundred."""
    random = np.random.default_rng(seed)
    centres = _unit(random.normal(size=(max(1, count // CLUSTER_SIZE), dimensions)))
    noise = _unit(random.normal(size=(count, dimensions)))
    return _unit(centres[random.integers(len(centres), size=count)] + SPREAD * noise)


def _unit(vectors: FloatArray) -> FloatArray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def measure(storage: str, vectors: FloatArray, queries: FloatArray, url: str) -> StorageRow:
    """Load `vectors` into an empty database, build the index, ask every query."""
    embedder = Embedder("0" * 64, vectors.shape[1])
    # No index while loading: it is built once, over everything.
    loader = PostgresStore(url, 1, len(vectors) + BATCH, DEFAULT_EF_SEARCH, storage)
    for start in range(0, len(vectors), BATCH):
        block = vectors[start : start + BATCH]
        rows = [Passage(str(start + n), "") for n in range(len(block))]
        loader.put("measure", storage, embedder, rows, block)
    loader.close()
    store = PostgresStore(url, 1, DEFAULT_EXACT_BELOW, DEFAULT_EF_SEARCH, storage)
    started = time.monotonic()
    store.put("measure", storage, embedder, [Passage("0", "")], vectors[:1])
    build_seconds = time.monotonic() - started
    hits, seconds = [], []
    for vector in queries:
        started = time.monotonic()
        found = store.search(StoreQuery(vector, embedder, TOP_K, "measure", storage))
        seconds.append(time.monotonic() - started)
        hits.append({int(hit.id) for hit in found})
    nearest = map(set, rank_by_cosine(queries, vectors, range(len(vectors)), TOP_K))
    recall = statistics.fmean(len(a & b) / TOP_K for a, b in zip(hits, nearest, strict=True))
    table, index = read_sizes(url)
    store.close()
    p50, p95 = (1000 * compute_percentile(seconds[WARM_UP:], percent) for percent in (50, 95))
    return StorageRow(storage, recall, table, index, build_seconds, p50, p95)


def read_sizes(url: str) -> tuple[float, float]:
    """MB of the vectors' table without its indexes, and of its HNSW indexes."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT pg_table_size('trireme.embeddings'), (SELECT sum(pg_relation_size(indexrelid)) "
            "FROM pg_stat_user_indexes WHERE indexrelname LIKE 'embeddings_hnsw%')"
        ).fetchone()
    table, index = row or (0, 0)
    return float(table) / 1e6, float(index or 0) / 1e6


def read_vectors(options: argparse.Namespace) -> tuple[FloatArray, FloatArray]:
    """Vectors and queries, of unit length: from files, or made."""
    if options.vectors:
        if not options.queries:
            raise InvalidInputError("name the file of the queries' vectors with --queries")
        vectors, queries = (
            _unit(np.load(path, allow_pickle=False)) for path in (options.vectors, options.queries)
        )
        return vectors, queries[:QUERIES]
    made = make_clustered(options.count + QUERIES, DIMENSIONS, options.seed)
    return made[: options.count], made[options.count :]


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures each storage in a database of its own, and writes the results."""
    vectors, queries = read_vectors(options)
    seen = read_circumstances("benchmarks.once.vector_storage", words, options.seed)
    rows = []
    for storage in STORAGES:
        # Files of their own: what a dropped collection leaves is not given back.
        with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as database:
            rows.append(measure(storage, vectors, queries, database.url))
    report = StorageReport(len(vectors), vectors.shape[1], len(queries), tuple(rows), seen)
    write_json(RESULTS / f"vector-storage-{options.name}.json", report)
    print(format_report(report))


def format_report(report: StorageReport) -> str:
    """The Markdown table with what it was measured on."""
    return render("once/vector_storage.md.j2", report=report, seen=report.circumstances)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--vectors", type=Path, help="a .npy file [n, dimensions]; default: made clusters")
    parser.add_argument("--queries", type=Path, help="a .npy file of queries [n, dimensions]")
    parser.add_argument("--count", type=int, default=20_000, help="vectors to make (default 20000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name", default="made", help="of the results file (default made)")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
