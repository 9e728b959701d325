"""Retrieval quality on a BEIR folder: embedding in fp32 and as served, each way to retrieve, search as served."""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import subprocess
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
from report import (
    DOCS,
    PROJECT,
    RESULTS,
    Circumstances,
    format_circumstances,
    format_table,
    read_circumstances,
    show_progress_note,
    write_json,
)
from rich.console import Console
from rich.progress import Progress

from trireme.errors import InvalidInputError, NotFoundError, TriremeError, UnavailableError
from trireme.quality import RECALL_DEPTH, BeirData, evaluate, read_beir
from trireme.settings import Settings, read_settings
from trireme.types import FloatArray, InputType, QualityFigures, SearchMode

if TYPE_CHECKING:
    from trireme.triton.client import TritonClient

# One more than the metrics see: the query itself may be among the passages.
DEPTH = RECALL_DEPTH + 1
BLOCK = 256
EMBEDDING = "embedding"
CONCURRENT_SEARCHES = 4
RETRIEVER = "retriever"
MODES: dict[SearchMode, str] = {"dense": "dense", "text": "full text", "hybrid": "hybrid"}
SEARCH_TIMEOUT_S = 300.0
HEADER = ("", "nDCG@10", "MRR@10", "recall@100", "queries", "seconds")
INTRODUCTION = """# Retrieval quality

Made by `benchmarks/quality.py --data DIR`, which takes any folder in BEIR's layout. "embedding fp32" and
"embedding, as served" rank all passages by exact cosine. "dense", "full text" and "hybrid" ask the `retriever`
model for {depth} passages, by its search_mode; "search" asks the `search` model, which reranks the best 20 of
hybrid retrieval. Every passage is indexed whole. Seconds hold embedding and ranking, those of dense indexing too.
"""

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


def leave_out_blank(texts: Mapping[str, str]) -> dict[str, str]:
    """The texts that an encoder accepts."""
    return {key: text for key, text in texts.items() if text.strip()}


def rank_by_cosine(
    query_vectors: FloatArray, passage_vectors: FloatArray, passage_ids: Sequence[str], depth: int = DEPTH
) -> list[list[str]]:
    """Ids of the `depth` nearest passages of each query, best first; vectors [n, dimensions], unit length."""
    rankings: list[list[str]] = []
    for start in range(0, len(query_vectors), BLOCK):
        scores = query_vectors[start : start + BLOCK] @ passage_vectors.T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        rankings += [[passage_ids[position] for position in row] for row in order]
    return rankings


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
    data: BeirData, folder: Path, settings: Settings, database_url: str, *, collection: str
) -> Iterator[QualityRow]:
    """Index `folder` into `collection`, ask each mode of the retriever and `search`, drop the collection again.

    Raises InvalidInputError, and drops nothing, when the collection is there already.
    """
    from trireme.indexing import ingest_path
    from trireme.storage import open_store

    started = time.monotonic()
    settings = dataclasses.replace(settings, collection=collection)
    store = open_store(database_url)
    if any(info.collection == collection for info in store.collections(settings.tenant)):
        raise InvalidInputError(f"collection {collection!r} is in use; name another with --collection")
    queries = leave_out_blank(data.queries)
    try:
        ingest_path(settings, folder, database_url, Console(stderr=True))
        for mode, name in MODES.items():
            with show_progress(len(queries), name) as advance:
                run = ask_all(settings, queries, partial(ask_retriever, settings, mode), advance)
            yield QualityRow(name, evaluate(data.name, run, data.qrels), time.monotonic() - started)
            started = time.monotonic()
        with show_progress(len(queries), "search") as advance:
            run = ask_all(settings, queries, partial(ask_search, settings), advance)
        yield QualityRow("search", evaluate(data.name, run, data.qrels), time.monotonic() - started)
    finally:
        if any(info.collection == collection for info in store.collections(settings.tenant)):
            store.drop(settings.tenant, collection)
        store.close()


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


def build_fp32(settings: Settings, repository: Path) -> Path:
    """The version folder of the embedding model exported in fp32, built where it is not there yet.

    Raises UnavailableError with the exporter's last words, for instance without the build extra.
    """
    from trireme.artifacts.recipe import RECIPE_FILE, read_recipe, write_recipe
    from trireme.artifacts.repository import version_dir

    served = read_recipe(settings.model_repository / EMBEDDING / RECIPE_FILE)
    recipe = repository / EMBEDDING / RECIPE_FILE
    recipe.parent.mkdir(parents=True, exist_ok=True)
    write_recipe(recipe, dataclasses.replace(served, precision="fp32", min_cosine=None, mean_cosine=None))
    script = PROJECT / "build" / "export_encoder.py"
    command = [sys.executable, str(script), "--recipe", str(recipe), "--repository", str(repository)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UnavailableError(f"no fp32 row, the export failed: {done.stderr.strip()[-300:]}")
    return version_dir(repository, EMBEDDING)


def open_encoder(folder: Path) -> Embed:
    """Embeds in this process with the model in a version folder, as the server would."""
    from trireme.artifacts.manifest import TOKENIZER_FILE, read_manifest, verify_files
    from trireme.encode.engines.table import open_session
    from trireme.encode.session import SessionOptions
    from trireme.encode.text_encoder import EmbedRequest, EncoderSpec, TextEncoder
    from trireme.encode.tokenizer import Tokenizer

    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    spec = EncoderSpec(
        dimensions=manifest.dimensions,
        normalize=manifest.normalize,
        query_prompt=manifest.query_prompt,
        passage_prompt=manifest.passage_prompt,
        max_batch_tokens=2048,
        max_text_bytes=1_000_000,
    )
    tokenizer = Tokenizer.load(folder / TOKENIZER_FILE, manifest.max_length)
    session = open_session(manifest.engine, folder, SessionOptions(max_length=manifest.max_length))
    encoder = TextEncoder(tokenizer, session, spec)

    def embed(texts: Sequence[str], kind: InputType) -> FloatArray:
        [answer], _ = encoder.embed([EmbedRequest(texts, kind)])
        if isinstance(answer, TriremeError):
            raise answer
        return np.stack([row.vector for row in answer])

    return embed


@contextmanager
def find_stack(url: str | None) -> Iterator[tuple[Settings, str]]:
    """Settings and database URL: of the server at `url`, else of one that runs only for this."""
    if url is None:
        from local_stack import start_own_stack

        with start_own_stack() as started:
            yield started
        return
    from trireme.cli import database_url

    host, _, port = url.rpartition(":")
    if not host or not port.isdecimal():
        raise InvalidInputError(f"--url must be HOST:PORT of the gRPC endpoint, got {url!r}")
    settings = dataclasses.replace(read_settings(), host=host, grpc_port=int(port))
    yield settings, database_url(settings)


def measure_all(options: argparse.Namespace, data: BeirData) -> Iterator[QualityRow]:
    """One row after the other; a row that cannot be made is named on stderr and left out."""
    from trireme.triton.client import TritonClient

    texts = len(data.corpus) + len(data.queries)
    with show_progress(texts, "embedding fp32") as advance:
        settings = read_settings()
        try:
            encoder = open_encoder(build_fp32(settings, settings.data_dir / "quality" / "fp32"))
            yield measure_embedding("embedding fp32", data, encoder, advance)
        except (UnavailableError, NotFoundError) as error:
            show_progress_note(str(error))
    with find_stack(options.url) as (settings, database_url):
        with TritonClient(settings.grpc_url, SEARCH_TIMEOUT_S) as client:
            name = f"embedding {read_precision(settings)}, as served"
            with show_progress(texts, name) as advance:
                yield measure_embedding(name, data, client.embed, advance)
        collection = options.collection or f"quality-{data.name}"
        yield from measure_served(data, options.data, settings, database_url, collection=collection)


def read_precision(settings: Settings) -> str:
    """The precision in the embedding model's recipe."""
    from trireme.artifacts.recipe import RECIPE_FILE, read_recipe

    return read_recipe(settings.model_repository / EMBEDDING / RECIPE_FILE).precision


@contextmanager
def show_progress(total: int, what: str) -> Iterator[Advance]:
    """A bar on stderr, silent where that is no terminal."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.update(task, advance=count)


def format_rows(rows: Iterable[QualityRow]) -> str:
    """The Markdown table of one data set."""
    cells = [
        (
            row.name,
            f"{row.figures.ndcg_at_10:.4f}",
            f"{row.figures.mrr_at_10:.4f}",
            f"{row.figures.recall_at_100:.4f}",
            str(row.figures.queries),
            f"{row.seconds:.0f}",
        )
        for row in rows
    ]
    return format_table(HEADER, cells)


def format_document(reports: Iterable[QualityReport]) -> str:
    """docs/quality.md: a section for each data set."""
    parts = [INTRODUCTION.format(depth=DEPTH)]
    for report in reports:
        parts.append(f"## {report.dataset}, {report.passages:,} passages\n\n{format_rows(report.rows)}\n")
        parts.append(format_circumstances(report.circumstances) + "\n")
    return "\n".join(parts)


def read_report(path: Path) -> QualityReport:
    """A report that `write_json` wrote. Raises InvalidInputError for anything else."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(
            QualityRow(row["name"], QualityFigures(**row["figures"]), row["seconds"])
            for row in record["rows"]
        )
        seen = {**record["circumstances"], "flags": tuple(record["circumstances"]["flags"])}
        return QualityReport(record["dataset"], record["passages"], rows, Circumstances(**seen))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{path} is no quality report ({error}); delete it and run again") from error


def write_document(results: Path, document: Path) -> None:
    """Rewrite `document` from every quality-*.json in `results`."""
    reports = [read_report(path) for path in sorted(results.glob("quality-*.json"))]
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text(format_document(reports), encoding="utf-8")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder in BEIR's layout")
    parser.add_argument("--split", help="judgements to use; default: the first of test, dev, train")
    parser.add_argument("--queries", type=int, help="draw this many queries; default: all")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default 1)")
    parser.add_argument("--url", help="gRPC HOST:PORT of a running server; default: one of its own")
    parser.add_argument("--collection", help="collection made and dropped; default quality-DATASET")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_arguments(words)
    try:
        data = sample_queries(read_beir(options.data, options.split), options.queries, options.seed)
        circumstances = read_circumstances(__file__, words, options.seed)
        rows = tuple(measure_all(options, data))
        report = QualityReport(data.name, len(data.corpus), rows, circumstances)
        write_json(RESULTS / f"quality-{data.name}.json", report)
        write_document(RESULTS, DOCS / "quality.md")
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_rows(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
