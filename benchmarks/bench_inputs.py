"""Inputs of the benchmark that do not repeat, drawn by a seed from a BEIR folder or from our own docs."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import DOCS

from trireme.errors import NotFoundError
from trireme.quality import read_beir
from trireme.tune.workload import PASSAGES_PER_QUERY, draw_texts, make_pair

SHORTEST_PASSAGE = 60
# Generated pages are no sample corpus: their tables change with every run.
GENERATED = ("quality.md", "performance.md")


@dataclass(frozen=True, slots=True)
class Inputs:
    """perf_analyzer's input file of each model, a BEIR folder of `passages` to index, and texts to embed."""

    files: dict[str, Path]
    shapes: dict[str, tuple[str, ...]]
    corpus: Path
    passages: int
    texts: tuple[str, ...]


def read_texts(data: Path | None) -> tuple[list[str], list[str]]:
    """(passages, queries) of a BEIR folder; without one, the paragraphs of docs/ and no queries."""
    if data is not None:
        beir = read_beir(data)
        return [t for t in beir.corpus.values() if t.strip()], [t for t in beir.queries.values() if t.strip()]
    pages = [page for page in sorted(DOCS.rglob("*.md")) if page.name not in GENERATED]
    paragraphs = [
        " ".join(part.split()) for page in pages for part in page.read_text(encoding="utf-8").split("\n\n")
    ]
    passages = [text for text in paragraphs if len(text) >= SHORTEST_PASSAGE]
    if not passages:
        raise NotFoundError("docs/ holds no text to measure with; give a BEIR folder with --data")
    return passages, []


def write_inputs(folder: Path, data: Path | None, *, entries: int, passages: int, seed: int) -> Inputs:
    """Write `entries` inputs a model (a fifth for the reranker) and a corpus of `passages` below `folder`."""
    rng = random.Random(seed)  # noqa: S311 - a sample, no secret
    all_passages, all_queries = read_texts(data)
    queries = draw_texts(all_queries, entries, (4, 12), rng) if all_queries else []
    queries = queries or draw_texts(all_passages, entries + len(all_passages), (4, 12), rng)[-entries:]
    indexed = draw_texts(all_passages, min(passages, len(all_passages)), (20, 120), rng)
    longer = draw_texts(all_passages, entries // 2, (20, 120), rng)
    texts = [*queries[: entries - len(longer)], *longer]
    rng.shuffle(texts)
    pairs = [make_pair(query, all_passages, rng) for query in queries[: max(entries // 5, 1)]]
    files = {
        "embedding": _write(folder / "embedding.json", [{"text": [text]} for text in texts]),
        "reranker": _write(folder / "reranker.json", pairs),
        "search": _write(folder / "search.json", [{"query": [query]} for query in queries]),
    }
    open_shapes = (f"passages:{PASSAGES_PER_QUERY}", f"prior:{PASSAGES_PER_QUERY}")
    corpus = folder / "corpus"
    corpus.mkdir()
    lines = [json.dumps({"_id": f"p{number}", "text": text}) for number, text in enumerate(indexed)]
    (corpus / "corpus.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Inputs(files, {"reranker": open_shapes}, corpus, len(indexed), tuple(texts))


def _write(path: Path, entries: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"data": entries}, ensure_ascii=False), encoding="utf-8")
    return path
