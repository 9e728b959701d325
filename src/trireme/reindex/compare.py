"""Held queries: what two index versions must answer before one takes the place of the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trireme.errors import GateError, InvalidInputError
from trireme.passage_text import SENTENCE_END, find_lead
from trireme.quality import evaluate, read_queries
from trireme.types import Hit, Passage, QualityFigures

# The vectors of n queries, of any kind; only `Search` looks into them.
EmbedQueries = Callable[[Sequence[str]], Iterable[Any]]
# The best passages of one index version for one query's vector, best first.
Search = Callable[[Any], Sequence[Hit]]

DEPTH = 100
BATCH = 32
KNOWN_ITEMS = 200
MOST_WORDS = 16
FEWEST_WORDS = 4
DEFAULT_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class HeldQueries:
    """Queries by id with the grades of what they should find: ids of passages, or of documents.

    `own_words` says that a query is a sentence of what it should find: another passage with the very same
    words, such as the next one with its overlap, is as good.
    """

    name: str
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]] = field(repr=False)
    own_words: bool = False

    def name_hits(self, query: str, hits: Sequence[Hit]) -> list[str]:
        """The hits by the ids that the query's grades use, best first."""
        return [self._name(query, hit) for hit in hits]

    def _name(self, query: str, hit: Hit) -> str:
        grades = self.qrels[query]
        if hit.id in grades:
            return hit.id
        document = hit.id.rpartition("#")[0]
        if document in grades:
            return document
        if self.own_words and self.queries[query] in " ".join(hit.text.split()):
            return next(iter(grades))
        return hit.id


def known_items(passages: Sequence[Passage], count: int = KNOWN_ITEMS) -> HeldQueries:
    """At most `count` queries: sentences of `passages`, each of which should find its own passage.

    One sentence from the middle of each passage; of few passages further ones too. Sentences of hardly any
    words, and those that were taken already, are left out. Raises InvalidInputError where no query is left.
    """
    found = [_pick_sentences(passage) for passage in passages]
    queries: dict[str, str] = {}
    grades: dict[str, dict[str, int]] = {}
    taken: set[str] = set()
    for turn in range(max(map(len, found), default=0)):
        for passage, sentences in zip(passages, found, strict=True):
            if turn < len(sentences) and sentences[turn] not in taken and len(queries) < count:
                taken.add(sentences[turn])
                queries[f"{passage.id} {turn}"] = sentences[turn]
                grades[f"{passage.id} {turn}"] = {passage.id: 1}
    if not queries:
        raise InvalidInputError(
            "the collection has no passage with a sentence to ask for; give judged queries with --queries"
        )
    return HeldQueries(f"{len(queries)} sentences of stored passages", queries, grades, own_words=True)


def measure(held: HeldQueries, embed: EmbedQueries, search: Search) -> QualityFigures:
    """nDCG@10, MRR@10 and recall@100 of one index version. Blocks; raises what `embed` and `search` raise."""
    run: dict[str, list[str]] = {}
    ids = list(held.queries)
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        vectors = embed([held.queries[identity] for identity in batch])
        for identity, vector in zip(batch, vectors, strict=True):
            run[identity] = held.name_hits(identity, search(vector))
    return evaluate(held.name, run, held.qrels)


def check(before: QualityFigures, after: QualityFigures, tolerance: float) -> None:
    """Raises GateError naming the figures in which `after` is below `before` by more than `tolerance`."""
    losses = [
        f"{name} {new:.3f} against {old:.3f}"
        for name, old, new in (
            ("nDCG@10", before.ndcg_at_10, after.ndcg_at_10),
            ("MRR@10", before.mrr_at_10, after.mrr_at_10),
            ("recall@100", before.recall_at_100, after.recall_at_100),
        )
        if new < old - tolerance
    ]
    if losses:
        raise GateError(
            f"the new version finds less of {before.dataset}: {', '.join(losses)}, more than the tolerated"
            f" {tolerance:g}; nothing was switched. Switch all the same with --force, allow more with"
            " --tolerance, or remove it with --drop"
        )


def _pick_sentences(passage: Passage) -> list[str]:
    """The sentences of a passage, those from its middle first, each of at most MOST_WORDS words.

    Without the lead of title and headings, which many passages share.
    """
    body = passage.text[find_lead(passage.text, passage.metadata) :]
    starts = [0, *(found.end() for found in SENTENCE_END.finditer(body))]
    sentences = [body[a:b].split() for a, b in zip(starts, [*starts[1:], len(body)], strict=True)]
    whole = [words for words in sentences if len(words) >= FEWEST_WORDS]
    # The first and the last one may be the overlap with a neighbour.
    order = sorted(range(len(whole)), key=lambda place: abs(place - len(whole) // 2))
    return [" ".join(whole[place][:MOST_WORDS]) for place in order]


def read_judged(folder: Path) -> HeldQueries:
    """The queries and judgements of a BEIR folder; its judgements may name passages or documents."""
    queries, qrels = read_queries(folder)
    return HeldQueries(f"{len(queries)} queries of {folder.resolve().name}", queries, qrels)
