"""The benchmark's texts: short queries, passages, and a mix of both, drawn by a seed; none repeats.

Lengths are tokens as the model runs them, special tokens included, counted with the embedder's tokenizer.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.common.report import DOCS
from trireme.errors import InvalidInputError, NotFoundError
from trireme.quality import read_beir

LONGEST = 512
QUERY_TOKENS = (4, 16)
PASSAGE_TOKENS = (30, 256)
# Of workload c: as many queries as passages, and one text in twenty that fills the model.
LONG_SHARE = 0.05
SHORTEST_PARAGRAPH = 60
# Generated pages are no sample corpus: their tables change with every run.
GENERATED = (
    "ingestion-speed.md",
    "quality.md",
    "performance.md",
    "answers.md",
    "generation.md",
    "quantization.md",
    "gpu.md",
    "autoscaling.md",
)


class CountsTokens(Protocol):
    """Tokens of texts as a model runs them."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """One number per text: special tokens included, nothing cut off."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Texts in random order, and how many tokens of each the model runs (at most LONGEST)."""

    name: str
    what: str
    texts: tuple[str, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RerankQuery:
    """One query, its passages, and their retrieval scores, best first."""

    query: str
    passages: tuple[str, ...]
    prior: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many texts of each kind to draw. `longest`: tokens where the model cuts."""

    longest: int = LONGEST
    queries: int = 20_000
    passages: int = 4_000
    mixed: int = 8_000
    reranked: int = 200


class TokenizerFile:
    """Counts with a tokenizer.json."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, texts: Sequence[str]) -> list[int]:
        """One number per text: special tokens included, nothing cut off."""
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]


def read_texts(data: Path | None) -> tuple[list[str], list[str]]:
    """(passages, queries) of a BEIR folder; without one, the paragraphs of docs/ and no queries."""
    if data is not None:
        beir = read_beir(data)
        return [t for t in beir.corpus.values() if t.strip()], [t for t in beir.queries.values() if t.strip()]
    pages = [page for page in sorted(DOCS.rglob("*.md")) if page.name not in GENERATED]
    paragraphs = [
        " ".join(part.split()) for page in pages for part in page.read_text(encoding="utf-8").split("\n\n")
    ]
    passages = [text for text in paragraphs if len(text) >= SHORTEST_PARAGRAPH]
    if not passages:
        raise NotFoundError("docs/ holds no text to measure with; give a BEIR folder with --data")
    return passages, []


class Drawer:
    """Draws distinct texts whose tokens lie between two bounds; the same seed draws the same ones."""

    def __init__(self, passages: Sequence[str], counter: CountsTokens, seed: int) -> None:
        self._counter = counter
        self.rng = random.Random(seed)  # noqa: S311 - a sample, no secret
        self._words = " ".join(passages).split()
        self._used: set[str] = set()
        total = sum(counter.count(passages))
        self._tokens_per_word = total / max(len(self._words), 1)

    def draw(self, count: int, bounds: tuple[int, int], source: Sequence[str] = ()) -> list[str]:
        """`count` texts: those of `source` that fit, in random order, then runs of words of the passages.

        Raises InvalidInputError when the passages hold too few words for so many.
        """
        fitting = [
            text for text, n in zip(source, self._counter.count(source), strict=True) if _is_in(n, bounds)
        ]
        self.rng.shuffle(fitting)
        drawn: list[str] = []
        self._take(fitting, count, drawn)
        tries = 0
        while len(drawn) < count:
            runs = [self._run(bounds) for _ in range(count - len(drawn) + 16)]
            lengths = self._counter.count(runs)
            self._take([run for run, n in zip(runs, lengths, strict=True) if _is_in(n, bounds)], count, drawn)
            tries += 1
            if tries > 50:
                raise InvalidInputError(
                    f"the texts yield only {len(drawn)} of {count} of {bounds[0]} to {bounds[1]} tokens; "
                    "give a larger BEIR folder"
                )
        return drawn

    def _take(self, texts: Sequence[str], count: int, drawn: list[str]) -> None:
        for text in texts:
            if len(drawn) < count and text not in self._used:
                self._used.add(text)
                drawn.append(text)

    def _run(self, bounds: tuple[int, int]) -> str:
        tokens = self.rng.randint(*bounds)
        words = max(round((tokens - 2) / self._tokens_per_word), 1)
        start = self.rng.randrange(max(len(self._words) - words, 1))
        return " ".join(self._words[start : start + words])


def _is_in(count: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= count <= bounds[1]


def draw_workloads(
    passages: Sequence[str], queries: Sequence[str], counter: CountsTokens, sizes: Sizes, seed: int
) -> tuple[Workload, Workload, Workload]:
    """Workloads a, b and c. Raises InvalidInputError where the texts are too few."""
    drawer = Drawer(passages, counter, seed)
    longer = round(sizes.mixed * LONG_SHARE)
    half = (sizes.mixed - longer) // 2
    short = drawer.draw(sizes.queries + half, QUERY_TOKENS, queries)
    # Every tenth of the fitting passages at least is left to workload c.
    medium = drawer.draw(sizes.passages + sizes.mixed - longer - half, PASSAGE_TOKENS, passages)
    # They run past the limit and are cut to it, by everyone alike.
    filling = drawer.draw(longer, (sizes.longest, sizes.longest + 128))
    for texts in (short, medium):
        drawer.rng.shuffle(texts)
    mixed = _spread([short[sizes.queries :], medium[sizes.passages :], filling], drawer.rng)

    def make(name: str, what: str, texts: Sequence[str]) -> Workload:
        counts = counter.count(texts)
        return Workload(name, what, tuple(texts), tuple(min(n, sizes.longest) for n in counts))

    return (
        make("a", f"queries of {QUERY_TOKENS[0]} to {QUERY_TOKENS[1]} tokens", short[: sizes.queries]),
        make("b", f"passages of {PASSAGE_TOKENS[0]} to {PASSAGE_TOKENS[1]} tokens", medium[: sizes.passages]),
        make("c", f"half a, half b, {LONG_SHARE:.0%} of them {sizes.longest} tokens", mixed),
    )


def _spread(kinds: Sequence[Sequence[str]], rng: random.Random) -> list[str]:
    """All texts, every stretch of them with the same shares: a fast and a slow engine get the same mix."""
    places = [
        ((position + rng.random()) / len(texts), text)
        for texts in kinds
        for position, text in enumerate(texts)
    ]
    return [text for _, text in sorted(places)]


def draw_rerank(a: Workload, b: Workload, passages: int, count: int, seed: int) -> tuple[RerankQuery, ...]:
    """`count` queries of workload a, each with `passages` of workload b and falling retrieval scores."""
    rng = random.Random(f"{seed} {passages}")  # noqa: S311 - a sample, no secret
    drawn = []
    for query in rng.sample(a.texts, count):
        prior = sorted((round(rng.uniform(0.2, 0.8), 4) for _ in range(passages)), reverse=True)
        drawn.append(RerankQuery(query, tuple(rng.sample(b.texts, passages)), tuple(prior)))
    return tuple(drawn)


def write_corpus(folder: Path, texts: Sequence[str]) -> Path:
    """A BEIR corpus of one whole document a text, in a new folder."""
    folder.mkdir()
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as lines:
        for number, text in enumerate(texts):
            lines.write(json.dumps({"_id": f"d{number}", "text": text}) + "\n")
    return folder


def write_document(path: Path, **document: object) -> Path:
    """JSON for a worker and the HTTP load ("texts" or "queries") or for perf_analyzer ("data")."""
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def list_text_inputs(workload: Workload) -> list[dict[str, list[str]]]:
    """perf_analyzer's inputs of a model that takes one text a row."""
    return [{"text": [text]} for text in workload.texts]


def list_rerank_inputs(drawn: Sequence[RerankQuery], *, with_prior: bool) -> list[dict[str, object]]:
    """perf_analyzer's inputs of a reranker."""
    entries = []
    for one in drawn:
        columns = {"passages": one.passages, **({"prior": one.prior} if with_prior else {})}
        shaped = {name: {"content": values, "shape": [len(values)]} for name, values in columns.items()}
        entries.append({"query": [one.query], **shaped})
    return entries
