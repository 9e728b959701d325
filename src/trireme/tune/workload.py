"""What a measurement asks of a model: perf_analyzer's JSON of inputs, a user's own or drawn by a seed."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trireme.artifacts.recipe import Recipe
from trireme.documents.load import Skipped, load, open_all
from trireme.errors import InvalidInputError, NotFoundError

PASSAGES_PER_QUERY = 20
# Words of a drawn query and of a drawn passage, least and most.
QUERY_WORDS, PASSAGE_WORDS = (4, 12), (20, 120)
SHORTEST_PASSAGE = 60
CORPUS_PASSAGES = 1000
# Generated pages are no sample: their figures change with every run.
GENERATED = ("quality.md", "performance.md", "quantization.md")


@dataclass(frozen=True, slots=True)
class Workload:
    """`path` holds the inputs, `shapes` are NAME:DIMS of those that the model leaves open.

    `digest` is the sha256, in hex, of the inputs and of `corpus`, the passages that a chain searches.
    """

    name: str
    path: Path
    digest: str
    entries: int
    shapes: tuple[str, ...] = ()
    corpus: Path | None = None


def read_workload(path: Path, recipe: Recipe, corpus: Path | None = None) -> Workload:
    """A workload of the user's. Raises NotFoundError, and InvalidInputError naming what the model does not take."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotFoundError(f"cannot read the workload {path}: {error.strerror}") from None
    try:
        document = json.loads(content)
    except ValueError as error:
        raise InvalidInputError(f"the workload {path} is not valid JSON: {error}") from None
    entries = document.get("data") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InvalidInputError(
            f'the workload {path} must hold {{"data": [...]}} with one object per request'
        )
    for position, entry in enumerate(entries):
        _check_entry(path, position, entry, recipe)
    digest = hashlib.sha256(content + (corpus.read_bytes() if corpus else b"")).hexdigest()
    return Workload(path.name, path, digest, len(entries), _read_shapes(entries[0]), corpus)


def _check_entry(path: Path, position: int, entry: Any, recipe: Recipe) -> None:
    contract = recipe.traits.contract
    known = contract.needed | contract.optional
    if not isinstance(entry, dict):
        raise InvalidInputError(f"the workload {path}: entry {position} is not an object of inputs")
    for name in entry:
        if name not in known:
            raise InvalidInputError(
                f"the workload {path}: entry {position} has {name!r}, which {recipe.model} does not take;"
                f" its inputs are {', '.join(sorted(known))}"
            )
        if name in contract.open_inputs and not _has_shape(entry[name]):
            raise InvalidInputError(
                f"the workload {path}: entry {position} must give {name} with its shape,"
                f' as {{"content": [...], "shape": [N]}}'
            )
    if missing := contract.needed - set(entry):
        raise InvalidInputError(f"the workload {path}: entry {position} lacks {min(missing)!r}")


def _has_shape(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("shape"), list) and "content" in value


def _read_shapes(entry: dict[str, Any]) -> tuple[str, ...]:
    """perf_analyzer wants to hear the shape of an open input also where every entry has its own."""
    return tuple(
        f"{name}:{','.join(map(str, value['shape']))}" for name, value in entry.items() if _has_shape(value)
    )


def make_workload(folder: Path, texts: Path, recipe: Recipe, *, entries: int, seed: int) -> Workload:
    """Draws `entries` requests that do not repeat from the documents at `texts`, and a corpus for a chain.

    Writes below `folder`, which must exist. The same texts and seed give the same workload. Raises
    NotFoundError where the texts hold no paragraph.
    """
    rng = random.Random(seed)  # noqa: S311 - a sample, no secret
    paragraphs = read_paragraphs(texts)
    queries = draw_texts(paragraphs, entries + len(paragraphs), QUERY_WORDS, rng)[-entries:]
    requests: list[dict[str, Any]]
    if recipe.traits.scores_pairs:
        requests = [make_pair(query, paragraphs, rng) for query in queries[: max(entries // 5, 1)]]
    elif recipe.traits.is_ensemble:
        requests = [{"query": [query]} for query in queries]
    else:
        passages = draw_texts(paragraphs, entries // 2, PASSAGE_WORDS, rng)
        mixed = [*queries[: entries - len(passages)], *passages]
        rng.shuffle(mixed)
        requests = [{"text": [text]} for text in mixed]
    path = folder / "workload.json"
    path.write_text(json.dumps({"data": requests}, ensure_ascii=False), encoding="utf-8")
    corpus = write_corpus(folder, paragraphs) if recipe.traits.is_ensemble else None
    made = read_workload(path, recipe, corpus)
    return Workload(f"{texts.name}, seed {seed}", path, made.digest, made.entries, made.shapes, made.corpus)


def write_corpus(folder: Path, paragraphs: Sequence[str]) -> Path:
    """A BEIR corpus.jsonl of at most CORPUS_PASSAGES paragraphs, for a chain to search."""
    chosen = list(dict.fromkeys(paragraphs))[:CORPUS_PASSAGES]
    lines = [json.dumps({"_id": f"p{number}", "text": text}) for number, text in enumerate(chosen)]
    path = folder / "corpus.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read_paragraphs(texts: Path) -> list[str]:
    """Paragraphs of the documents at `texts`, a file, a folder or a BEIR folder. Raises NotFoundError."""
    paragraphs = [
        " ".join(part.split())
        for document in open_all(load(texts), Skipped())
        if Path(document.source).name not in GENERATED
        for part in document.text.split("\n\n")
    ]
    found = [text for text in paragraphs if len(text) >= SHORTEST_PASSAGE]
    if not found:
        raise NotFoundError(f"{texts} holds no paragraph to measure with; name other texts with --texts")
    return found


def draw_texts(source: Sequence[str], count: int, words: tuple[int, int], rng: random.Random) -> list[str]:
    """`count` distinct texts: those of `source` in random order, then runs of its words.

    A run has words[0] to words[1] words; a number at its end keeps runs of a small source distinct.
    """
    drawn = list(dict.fromkeys(rng.sample(list(source), min(count, len(source)))))
    vocabulary = " ".join(source).split()
    while len(drawn) < count:
        start = rng.randrange(len(vocabulary))
        run = vocabulary[start : start + rng.randint(*words)]
        drawn.append(" ".join([*run, str(len(drawn))]))
    return drawn


def make_pair(query: str, passages: Sequence[str], rng: random.Random) -> dict[str, Any]:
    """A query with its passages and retrieval scores, best first, as `search` hands them to the reranker."""
    count = PASSAGES_PER_QUERY
    chosen = rng.sample(passages, count) if len(passages) >= count else rng.choices(passages, k=count)
    prior = sorted((round(rng.uniform(0.2, 0.8), 4) for _ in range(count)), reverse=True)
    return {
        "query": [query],
        "passages": {"content": chosen, "shape": [count]},
        "prior": {"content": prior, "shape": [count]},
    }
