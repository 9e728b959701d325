"""Measures ingestion beside a plain script, and a large collection; writes docs/ingestion-speed.md.

The texts are made: runs of words of our own pages, drawn by a seed, none twice.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.common.processes import read_shared_memory
from benchmarks.common.report import (
    DOCS,
    RESULTS,
    read_circumstances,
    show_progress_note,
    write_json,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.common.stack import make_settings
from benchmarks.common.workloads import Drawer, TokenizerFile, read_texts, write_corpus
from benchmarks.encoders.contenders import WorkerContender
from benchmarks.encoders.lineup import count_cores
from benchmarks.encoders.models import prepare_models
from benchmarks.ingestion.cost import CpuTimes, measure_alone
from benchmarks.ingestion.page import Comparison, IngestionReport, Scale, SearchTimes, format_document
from benchmarks.rivals.setup import ENVIRONMENTS
from trireme.artifacts.manifest import TOKENIZER_FILE, read_manifest
from trireme.artifacts.repository import version_dir
from trireme.errors import UnavailableError
from trireme.indexing import ingest_path, publish_path
from trireme.postgres.index_builder import BULK_DOCUMENTS
from trireme.served_encoders import open_worker
from trireme.settings import Settings, read_settings
from trireme.stack import Stack
from trireme.storage import open_store
from trireme.triton.client import TritonClient
from trireme.tune.perf_analyzer import compute_percentile
from trireme.types import SearchMode, StoreQuery

SEED = 1
SCRIPT = "sentence-transformers"
DOCUMENT_TOKENS, QUERY_TOKENS, RUN_WORDS = (30, 256), (4, 16), (6, 16)
QUERIES, TOP_K, SEARCHES, UNTIMED = 200, 10, 60, 5
# So many of the large collection's texts are embedded alone first.
ALONE_TEXTS = 4000
MODES: tuple[SearchMode, ...] = ("dense", "text", "hybrid")


def draw(counter: TokenizerFile, count: int, bounds: tuple[int, int], seed: int) -> list[str]:
    """`count` made texts, none twice."""
    passages, _ = read_texts(None)
    return Drawer(passages, counter, seed).draw(count, bounds)


def make_texts(count: int, seed: int) -> list[str]:
    """`count` texts of two runs of words each, none twice: more than single runs of our pages would yield."""
    passages, _ = read_texts(None)
    words = " ".join(passages).split()
    rng = random.Random(seed)  # noqa: S311 - a sample, no secret

    def run() -> list[str]:
        start = rng.randrange(len(words) - RUN_WORDS[1])
        return words[start : start + rng.randint(*RUN_WORDS)]

    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join([*run(), *run()])] = None
    return list(found)


def compare_with_script(
    stack: Stack, counter: TokenizerFile, checkpoint: Path, folder: Path, *, documents: int, rounds: int
) -> Comparison:
    """The same documents by both, in turn. Ours: from the file to the last commit, with a worker's start."""
    texts = draw(counter, documents, DOCUMENT_TOKENS, SEED)
    corpus = write_corpus(folder / "compared", texts)
    tokens = float(np.mean(counter.count(texts)))
    script = WorkerContender(
        "the plain script",
        "encode, then INSERT",
        python=ENVIRONMENTS / SCRIPT / "bin" / "python",
        engine=f"{SCRIPT}/torch",
        model=checkpoint,
        work=folder,
        threads=count_cores(),
    )
    times: dict[str, list[float]] = {"ours": [], "one_by_one": [], "executemany": []}
    error = ""
    try:
        with ExitStack() as resources:
            resources.callback(script.stop)
            script.start()
            for number in range(rounds):
                times["ours"].append(_ingest_ours(stack, corpus, f"compared-{number}"))
                for name in ("one_by_one", "executemany"):
                    file, many = corpus / "corpus.jsonl", name == "executemany"
                    done = script.ask(do="ingest", url=stack.database_url, file=str(file), many=many)
                    times[name].append(done["seconds"])
                show_progress_note(", ".join(f"{name} {values[-1]:.1f} s" for name, values in times.items()))
    except (UnavailableError, OSError) as failure:
        error = str(failure)
        show_progress_note(f"the plain script: {error}")
    return Comparison(documents, tokens, *(tuple(values) for values in times.values()), error=error)


def _ingest_ours(stack: Stack, corpus: Path, collection: str) -> float:
    settings = dataclasses.replace(stack.settings, collection=collection)
    return ingest_path(settings, corpus, stack.database_url, Console(stderr=True, quiet=True)).seconds


def measure_scale(stack: Stack, counter: TokenizerFile, folder: Path, chunks: int) -> Scale:
    """Publish, index, search. Blocks for minutes."""
    show_progress_note(f"Making {chunks:,} texts")
    texts = make_texts(chunks, SEED + 1)
    queries = draw(counter, QUERIES, QUERY_TOKENS, SEED + 2)
    tokens = float(np.mean(counter.count(texts[:2000])))
    corpus = write_corpus(folder / "large", texts)
    settings = dataclasses.replace(stack.settings, collection="large")
    console = Console(stderr=True, quiet=True)
    published = publish_path(settings, corpus, stack.database_url, console, wait=False)
    show_progress_note(f"Published {published.published:,} in {published.seconds:.0f} s; indexing")
    alone = measure_alone(settings, stack.database_url, texts[:ALONE_TEXTS])
    with open_worker(settings, stack.database_url, show_progress_note) as worker:
        with CpuTimes(stack, lambda: worker.stats.passages < chunks - BULK_DOCUMENTS) as cpu:
            worker.run(drain=True)
        stats = dataclasses.replace(worker.stats)
    show_progress_note(
        f"Indexed {stats.passages:,} in {stats.seconds:.0f} s, built in {stats.build_seconds:.0f} s"
    )
    worker_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    searches, chain = measure_searches(settings, stack.database_url, queries)
    return Scale(
        chunks=stats.passages,
        tokens=tokens,
        publish_s=published.seconds,
        load_s=stats.seconds,
        build_s=stats.build_seconds,
        alone=alone,
        cpu_s=cpu.seconds,
        sizes=read_sizes(stack.database_url),
        worker_mib=worker_mib,
        database_mib=read_shared_memory("postgres"),
        queries=len(queries),
        searches=searches,
        chain_p50_ms=compute_percentile(chain, 50),
        chain_p95_ms=compute_percentile(chain, 95),
    )


def measure_searches(
    settings: Settings, url: str, queries: Sequence[str]
) -> tuple[tuple[SearchTimes, ...], list[float]]:
    """The store alone in each mode, and the whole chain through Triton; milliseconds of one search at a time."""
    embedder = read_manifest(version_dir(settings.model_repository, "embedding")).embedder
    with TritonClient(settings.grpc_url) as client:
        vectors = client.embed(queries, "query")
        found = []
        for mode in MODES:
            asked = [
                StoreQuery(
                    vector, embedder, TOP_K, settings.tenant, settings.collection, text=text, mode=mode
                )
                for text, vector in zip(queries, vectors, strict=True)
            ]
            with closing(open_store(url)) as store, closing(open_store(url, exact_below=10**12)) as exact:
                times, ids = _search_all(store.search, asked)
                exact_times, true = _search_all(exact.search, asked)
            shares = [len(a & b) / max(len(b), 1) for a, b in zip(ids, true, strict=True)]
            p50, p95 = (compute_percentile(times, percent) for percent in (50, 95))
            recall, exact_p50 = statistics.mean(shares), compute_percentile(exact_times, 50)
            found.append(SearchTimes(mode, p50, p95, recall, exact_p50))
            show_progress_note(f"search, {mode}: {found[-1].p50_ms:.1f} ms, recall {found[-1].recall:.3f}")
        chain = []
        for query in queries[:SEARCHES]:
            began = time.perf_counter()
            client.search(query, TOP_K, settings.tenant, settings.collection)
            chain.append(1000 * (time.perf_counter() - began))
    return tuple(found), chain[UNTIMED:]


def _search_all(
    search: Callable[[StoreQuery], Any], queries: Sequence[StoreQuery]
) -> tuple[list[float], list[set[str]]]:
    """Milliseconds and ids of each; the first searches, which warm the connection up, are not timed."""
    times, ids = [], []
    for place, query in enumerate(queries):
        began = time.perf_counter()
        hits = search(query)
        if place >= UNTIMED:
            times.append(1000 * (time.perf_counter() - began))
        ids.append({hit.id for hit in hits})
    return times, ids


def read_sizes(url: str) -> dict[str, int]:
    """Bytes of the tables that hold the collection, and of their largest indexes."""
    import psycopg

    statement = (
        "SELECT relname, pg_table_size(oid) FROM pg_class WHERE relnamespace = 'trireme'::regnamespace "
        "AND relkind = 'r' AND relname IN ('passages', 'embeddings', 'documents') UNION ALL "
        "SELECT c.relname || ', ' || a.amname, pg_relation_size(c.oid) FROM pg_class c "
        "JOIN pg_am a ON a.oid = c.relam WHERE c.relnamespace = 'trireme'::regnamespace AND c.relkind = 'i' "
        "AND pg_relation_size(c.oid) > 1000000"
    )
    with psycopg.connect(url) as connection:
        return {name: int(size) for name, size in connection.execute(statement)}


def measure(options: argparse.Namespace, words: Sequence[str]) -> IngestionReport:
    """Both parts, or one. Raises TriremeError; leaves no process behind."""
    circumstances = read_circumstances("benchmarks.ingestion.run", words, SEED)
    settings = read_settings()
    counter = TokenizerFile(version_dir(settings.model_repository, "embedding") / TOKENIZER_FILE)
    with tempfile.TemporaryDirectory(prefix="trireme-") as name, ExitStack() as resources:
        folder = Path(name)
        checkpoint = Path()
        if options.documents:
            work = settings.data_dir.resolve() / "bench"
            checkpoint = prepare_models(settings, work).embedder
        show_progress_note("Starting PostgreSQL and tritonserver on free ports")
        stack = resources.enter_context(Stack(make_settings(folder / "data")))
        comparison = None
        if options.documents:
            comparison = compare_with_script(
                stack, counter, checkpoint, folder, documents=options.documents, rounds=options.rounds
            )
        scale = measure_scale(stack, counter, folder, options.chunks) if options.chunks else None
    return IngestionReport(comparison, scale, circumstances)


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures, and writes the results and the page."""
    report = measure(options, words)
    if options.print:
        print(format_document(report))
        return
    write_json(RESULTS / f"{report.circumstances.date[:10]}-ingestion.json", report)
    (DOCS / "ingestion-speed.md").write_text(format_document(report), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    documents, chunks = (
        "to compare with a plain script; 0 leaves it out",
        "of the large collection; 0 leaves it out",
    )
    parser.add_argument("--documents", type=int, default=500, help=documents)
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison (default 3)")
    parser.add_argument("--chunks", type=int, default=200_000, help=chunks)
    parser.add_argument("--print", action="store_true", help="print the page and write nothing")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
