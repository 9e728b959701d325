"""Times of lookups among many kept answers: of the exact tier in Valkey, and of the semantic index in PostgreSQL.

Of the index also the recall, by how many questions there are in how many partitions.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

from benchmarks.caching.exact import ANSWER_BYTES, measure_exact
from benchmarks.common.report import DOCS, RESULTS, read_circumstances, render, write_json, write_section
from benchmarks.common.script import make_parser, run_script
from trireme.cache.index import Indexed
from trireme.local.postgres import start_postgres
from trireme.postgres.semantic import PostgresSemanticIndex, SemanticBounds
from trireme.postgres.semantic_schema import table_of

SEED = 7
EXACT_SIZES = (10_000, 100_000)
DIMENSIONS = 384
NEAREST = 4
# Of questions that the tier would look at.
LEAST_SIMILARITY = 0.7
# Candidates of HNSW that are tried where a partition is large enough for it.
EF_SEARCHES = (100, 40, 200)
EXACT_BELOW = 2_000
# Questions are said again in other words, by all tenants: clusters with cosines of about 0.85 within.
PER_CLUSTER = 50
# Name of the case -> partitions and questions in each.
CASES = {
    "10,000 in one partition": [10_000],
    "10,000 in 10 partitions": [1_000] * 10,
    "100,000 in 100 partitions": [1_000] * 100,
    "100,000: 3,000 beside 97,000": [3_000] + [19_400] * 5,
    "100,000: 20,000 beside 80,000": [20_000] * 5,
}


def make_vectors(count: int, seed: int) -> np.ndarray:
    """Unit vectors [count, DIMENSIONS] in clusters of PER_CLUSTER."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count // PER_CLUSTER + 1, DIMENSIONS))
    made = np.repeat(centres, PER_CLUSTER, axis=0)[:count] + 0.4 * rng.normal(size=(count, DIMENSIONS))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float32)


def measure(url: str, name: str, sizes: list[int], lookups: int) -> list[dict[str, object]]:
    """A row for each ef_search, of lookups in the first partition."""
    most = sum(sizes)
    index = PostgresSemanticIndex(url, name, DIMENSIONS)
    index.sweep()
    table = table_of(name, DIMENSIONS)
    vectors = make_vectors(most, 7)
    parts = np.repeat(np.arange(len(sizes)), sizes)
    # The small partition is spread over all clusters.
    np.random.default_rng(8).shuffle(parts)
    with psycopg.connect(url, autocommit=True) as connection:
        register_vector(connection)
        columns = "tenant, partition, entry, question, vector, made_at, expires_at"
        with connection.cursor().copy(f"COPY trireme.{table} ({columns}) FROM STDIN") as copy:
            for n, (part, vector) in enumerate(zip(parts, vectors, strict=True)):
                text = f"What is the answer to the question of number {n} in the list of all?"
                copy.write_row(
                    ("t", f"p{part}", f"{n:064x}", text, str(vector.tolist()), "2026-01-01", "2099-01-01")
                )
        connection.execute(f"ANALYZE trireme.{table}")
    index.close()
    index = PostgresSemanticIndex(url, name, DIMENSIONS, SemanticBounds(EXACT_BELOW, most, most))
    began = time.perf_counter()
    index.sweep()
    built = time.perf_counter() - began
    index.close()
    mine = vectors[parts == 0]
    rows = []
    for ef_search in EF_SEARCHES if len(mine) >= EXACT_BELOW else EF_SEARCHES[:1]:
        index = PostgresSemanticIndex(
            url, name, DIMENSIONS, SemanticBounds(EXACT_BELOW, most, most, ef_search)
        )
        has_index = len(mine) >= EXACT_BELOW
        shown = {"case": name, "dimensions": DIMENSIONS, "ef_search": ef_search, "has_index": has_index}
        rows.append({**shown, **look(index, mine, lookups)})
        index.close()
    rows[0] |= {"index_s": round(built, 1), "keep_p50_ms": time_keeps(url, name)}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP TABLE trireme.{table}")
    return rows


def look(index: PostgresSemanticIndex, mine: np.ndarray, lookups: int) -> dict[str, float]:
    """Times of lookups in the first partition, and recall of the questions there that are near enough."""
    rng = np.random.default_rng(9)
    seconds, found_of, wanted_of = [], 0, 0
    for n in range(lookups + 20):
        asked = mine[rng.integers(len(mine))] + 0.4 * rng.normal(size=DIMENSIONS) / np.sqrt(DIMENSIONS)
        asked = (asked / np.linalg.norm(asked)).astype(np.float32)
        began = time.perf_counter()
        found = index.find("t", "p0", asked, NEAREST)
        if n < 20:
            continue
        seconds.append(time.perf_counter() - began)
        best = np.sort(mine @ asked)[::-1][:NEAREST]
        wanted = int((best >= LEAST_SIMILARITY).sum())
        wanted_of += wanted
        # Rounding to half precision may turn neighbours round.
        found_of += min(wanted, sum(one.similarity > best[max(wanted, 1) - 1] - 0.002 for one in found))
    return {
        # As on a machine that does nothing else.
        "p10_ms": round(float(np.quantile(seconds, 0.1)) * 1e3, 2),
        "p50_ms": round(statistics.median(seconds) * 1e3, 2),
        "p99_ms": round(float(np.quantile(seconds, 0.99)) * 1e3, 2),
        "recall": round(found_of / wanted_of, 4),
        "wanted": round(wanted_of / lookups, 2),
    }


def time_keeps(url: str, name: str) -> float:
    """The median of milliseconds to keep a question."""
    index = PostgresSemanticIndex(url, name, DIMENSIONS)
    keeps = []
    for n in range(50):
        question = Indexed("t", "p0", f"new{n}", "What is new?", make_vectors(5, n)[0], 3600.0)
        began = time.perf_counter()
        index.keep(question)
        keeps.append(time.perf_counter() - began)
    index.close()
    return round(statistics.median(keeps) * 1e3, 2)


def run_exact(arguments: argparse.Namespace, words: list[str]) -> None:
    """Measure the exact tier on a Valkey of its own, and write the page's table."""
    sizes = tuple(size for size in EXACT_SIZES if size <= arguments.most)
    seen = read_circumstances("benchmarks.caching.lookups", words, SEED)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_exact(Path(folder), sizes, arguments.exact_lookups, SEED)
    for row in rows:
        print(json.dumps(dataclasses.asdict(row)), flush=True)
    if arguments.print:
        return
    record = {"rows": [dataclasses.asdict(row) for row in rows], "circumstances": dataclasses.asdict(seen)}
    write_json(RESULTS / "exact-lookups.json", record)
    section = render("caching/exact_lookups.md.j2", rows=rows, seen=seen, bytes=ANSWER_BYTES)
    write_section(DOCS / "caching.md", "exact lookups", section)


def run_semantic(arguments: argparse.Namespace, words: list[str]) -> None:
    """Measure every case on a PostgreSQL of its own; print a line of JSON for each, and write the page's table."""
    rows = []
    seen = read_circumstances("benchmarks.caching.lookups", words, SEED)
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as server:
        for name, sizes in CASES.items():
            if sum(sizes) <= arguments.most:
                for row in measure(server.url, name, sizes, arguments.lookups):
                    print(json.dumps(row), flush=True)
                    rows.append(row)
    if arguments.print:
        return
    write_json(RESULTS / "semantic-lookups.json", {"rows": rows, "circumstances": dataclasses.asdict(seen)})
    write_section(
        DOCS / "caching.md", "semantic lookups", render("caching/lookups.md.j2", rows=rows, seen=seen)
    )


def run(arguments: argparse.Namespace, words: list[str]) -> None:
    """Both tiers, or the one that was named."""
    for tier, measure_tier in TIERS.items():
        if arguments.only in (None, tier):
            measure_tier(arguments, words)


TIERS = {"exact": run_exact, "semantic": run_semantic}


def main() -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--only", choices=TIERS, help="one tier alone")
    parser.add_argument("--lookups", type=int, default=500, help="of each case of the semantic index")
    parser.add_argument("--exact-lookups", type=int, default=5_000, help="of each kind and size")
    parser.add_argument("--most", type=int, default=100_000, help="leave out cases of more questions")
    parser.add_argument("--print", action="store_true", help="print the figures and write nothing")
    return run_script(parser, run)


if __name__ == "__main__":
    raise SystemExit(main())
