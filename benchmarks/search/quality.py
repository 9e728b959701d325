"""Retrieval quality on a BEIR folder: embedding in fp32 and as served, each way to retrieve, search as served."""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.common.builds import build
from benchmarks.common.report import (
    DOCS,
    RESULTS,
    Circumstances,
    read_circumstances,
    read_record,
    render,
    show_progress_note,
    write_json,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.common.stack import start_own_stack
from benchmarks.search.ranking import DEPTH, leave_out_blank, rank_by_cosine
from trireme.artifacts.recipe import RECIPE_FILE, read_recipe
from trireme.errors import InvalidInputError, NotFoundError, UnavailableError
from trireme.quality import BeirData, evaluate, read_beir
from trireme.settings import Settings, read_settings
from trireme.types import FloatArray, InputType, QualityFigures, SearchMode

if TYPE_CHECKING:
    from trireme.triton.client import TritonClient

BLOCK = 256
EMBEDDING, RETRIEVER = "embedding", "retriever"
CONCURRENT_SEARCHES = 4
MODES: dict[SearchMode, str] = {"dense": "dense", "text": "full text", "hybrid": "hybrid"}
SEARCH_TIMEOUT_S = 300.0

Embed = Callable[[Sequence[str], InputType], FloatArray]
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class QualityRow:
    """One way of ranking, its figures, and the seconds it took."""

    name: str
    figures: QualityFigures
    seconds: float


@dataclass(frozen=True, slots=True)
class QualityReport:
    """All rows of one data set."""

    dataset: str
    passages: int
    rows: tuple[QualityRow, ...]
    circumstances: Circumstances


def sample_queries(data: BeirData, count: int | None, seed: int) -> BeirData:
    """`count` queries drawn by `seed`, all of them for None. The corpus stays whole."""
    if count is None or count >= len(data.queries):
        return data
    if count < 1:
        raise InvalidInputError(f"--queries must be at least 1, got {count}")
    kept = sorted(random.Random(seed).sample(sorted(data.queries), count))  # noqa: S311 - a sample, no secret
    return dataclasses.replace(
        data,
        queries={query_id: data.queries[query_id] for query_id in kept},
        qrels={query_id: data.qrels[query_id] for query_id in kept},
    )


def measure_embedding(name: str, data: BeirData, embed: Embed, advance: Advance) -> QualityRow:
    """Rank every passage for every query by the cosine of what `embed` returns."""
    started = time.monotonic()
    passages, queries = leave_out_blank(data.corpus), leave_out_blank(data.queries)
    passage_vectors = _embed_in_blocks(embed, list(passages.values()), "passage", advance)
    query_vectors = _embed_in_blocks(embed, list(queries.values()), "query", advance)
    rankings = rank_by_cosine(query_vectors, passage_vectors, list(passages))
    figures = evaluate(data.name, dict(zip(queries, rankings, strict=True)), data.qrels)
    return QualityRow(name, figures, time.monotonic() - started)


def _embed_in_blocks(embed: Embed, texts: list[str], kind: InputType, advance: Advance) -> FloatArray:
    parts = []
    for start in range(0, len(texts), BLOCK):
        block = texts[start : start + BLOCK]
        parts.append(embed(block, kind))
        advance(len(block))
    return np.concatenate(parts)


def measure_served(
    data: BeirData, folder: Path, settings: Settings, database_url: str
) -> Iterator[QualityRow]:
    """Index `folder`, ask each mode of the retriever and `search`."""
    from trireme.indexing import ingest_path

    started, queries = time.monotonic(), leave_out_blank(data.queries)
    ways = {name: partial(ask_retriever, settings, mode) for mode, name in MODES.items()}
    ingest_path(settings, folder, database_url, Console(stderr=True))
    for name, ask in {**ways, "search": partial(ask_search, settings)}.items():
        with show_progress(len(queries), name) as advance:
            run = ask_all(settings, queries, ask, advance)
        yield QualityRow(name, evaluate(data.name, run, data.qrels), time.monotonic() - started)
        started = time.monotonic()


def ask_search(settings: Settings, client: TritonClient, query: str) -> list[str]:
    """Passage ids from the served `search`, best first. Blocks."""
    return [hit.id for hit in client.search(query, DEPTH, settings.tenant, settings.collection)]


def ask_retriever(settings: Settings, mode: SearchMode, client: TritonClient, query: str) -> list[str]:
    """Passage ids from the served `retriever` in one of its modes, best first. Blocks."""
    scope = {"tenant": settings.tenant, "collection": settings.collection, "search_mode": mode}
    inputs: dict[str, list[list[Any]]] = {name: [[value]] for name, value in scope.items()}
    inputs |= {"query": [[query]], "top_k": [[DEPTH]], "embedding": client.embed([query], "query").tolist()}
    return [value.decode() for value in client.infer(RETRIEVER, inputs)["id"][0]]


def ask_all(
    settings: Settings,
    queries: Mapping[str, str],
    ask: Callable[[TritonClient, str], list[str]],
    advance: Advance,
) -> dict[str, list[str]]:
    """Query id -> passage ids, best first, several queries at once. Blocks."""
    from trireme.triton.client import TritonClient

    def ask_share(query_ids: Sequence[str]) -> dict[str, list[str]]:
        run = {}
        with TritonClient(settings.grpc_url, timeout=SEARCH_TIMEOUT_S) as client:
            for query_id in query_ids:
                run[query_id] = ask(client, queries[query_id])
                advance(1)
        return run

    shares = [list(queries)[start::CONCURRENT_SEARCHES] for start in range(CONCURRENT_SEARCHES)]
    with ThreadPoolExecutor(CONCURRENT_SEARCHES) as pool:
        answered = list(pool.map(ask_share, shares))
    return {query_id: ranking for part in answered for query_id, ranking in part.items()}


def open_fp32(settings: Settings) -> Embed:
    """The embedding model exported in fp32, built where it is not there yet, in this process as the server would.

    Raises UnavailableError with the exporter's last words.
    """
    from benchmarks.rivals.trireme_engine import TriremeEngine

    served = read_recipe(settings.model_repository / EMBEDDING / RECIPE_FILE)
    plain = dataclasses.replace(served, precision="fp32", min_cosine=None, mean_cosine=None)
    engine = TriremeEngine(build(plain, settings.data_dir / "quality" / "fp32"), threads=0)
    return lambda texts, kind: np.stack(engine.embed(texts, kind))


def measure_all(folder: Path, data: BeirData) -> Iterator[QualityRow]:
    """One row after the other; a row that cannot be made is named on stderr and left out."""
    from trireme.triton.client import TritonClient

    texts = len(data.corpus) + len(data.queries)
    with show_progress(texts, "embedding fp32") as advance:
        try:
            yield measure_embedding("embedding fp32", data, open_fp32(read_settings()), advance)
        except (UnavailableError, NotFoundError) as error:
            show_progress_note(f"no fp32 row: {error}")
    with start_own_stack() as (settings, database_url):
        with TritonClient(settings.grpc_url, SEARCH_TIMEOUT_S) as client:
            precision = read_recipe(settings.model_repository / EMBEDDING / RECIPE_FILE).precision
            name = f"embedding {precision}, as served"
            with show_progress(texts, name) as advance:
                yield measure_embedding(name, data, client.embed, advance)
        yield from measure_served(data, folder, settings, database_url)


@contextmanager
def show_progress(total: int, what: str) -> Iterator[Advance]:
    """A bar on stderr, silent where that is no terminal."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.update(task, advance=count)


def format_rows(rows: Iterable[QualityRow]) -> str:
    """The Markdown table of one data set."""
    return render("search/quality_rows.md.j2", rows=rows)


def format_document(reports: Iterable[QualityReport]) -> str:
    """docs/quality.md: a section for each data set."""
    return render("search/quality.md.j2", reports=reports, depth=DEPTH)


def write_document(results: Path, document: Path) -> None:
    """Rewrite `document` from every quality-*.json in `results`."""
    reports = [read_record(path, QualityReport) for path in sorted(results.glob("quality-*.json"))]
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text(format_document(reports), encoding="utf-8")


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures, and writes the results and the page."""
    data = sample_queries(read_beir(options.data, options.split), options.queries, options.seed)
    circumstances = read_circumstances("benchmarks.search.quality", words, options.seed)
    rows = tuple(measure_all(options.data, data))
    report = QualityReport(data.name, len(data.corpus), rows, circumstances)
    write_json(RESULTS / f"quality-{data.name}.json", report)
    write_document(RESULTS, DOCS / "quality.md")
    print(format_rows(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder in BEIR's layout")
    parser.add_argument("--split", help="judgements to use; default: the first of test, dev, train")
    parser.add_argument("--queries", type=int, help="draw this many queries; default: all")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default 1)")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
