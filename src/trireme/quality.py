"""Retrieval quality on a BEIR folder: reading the data, nDCG@10, MRR@10 and recall@100."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trireme.errors import InvalidInputError, NotFoundError
from trireme.types import QualityFigures

SPLITS = ("test", "dev", "train")
NDCG_DEPTH = 10
MRR_DEPTH = 10
RECALL_DEPTH = 100

Qrels = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class BeirData:
    """A retrieval data set: passage id -> text, query id -> text, query id -> passage id -> grade.

    `name` is the folder's name. Every query has judgements; a grade above 0 means relevant.
    """

    name: str
    corpus: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def read_beir(folder: Path, split: str | None = None) -> BeirData:
    """The data set in `folder` (corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv), as BEIR lays it out.

    A passage is its title, a newline and its text, or the text alone without a title. Without `split`,
    the first of test, dev, train that is there. Queries without judgements are left out. Raises
    NotFoundError for a missing file, InvalidInputError naming file and line for one it cannot read.
    """
    folder = Path(folder)
    queries, qrels = read_queries(folder, split)
    corpus = {}
    for place, record in _read_records(folder / "corpus.jsonl"):
        title = _read_text(place, record, "title", optional=True)
        text = _read_text(place, record, "text")
        corpus[_read_id(place, record)] = f"{title}\n{text}" if title else text
    return BeirData(name=folder.resolve().name, corpus=corpus, queries=queries, qrels=qrels)


def read_queries(folder: Path, split: str | None = None) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """The queries and judgements of `folder`, as `read_beir` reads them; it needs no corpus.jsonl."""
    qrels_file = _find_qrels(folder, split)
    all_queries = {
        _read_id(place, record): _read_text(place, record, "text")
        for place, record in _read_records(folder / "queries.jsonl")
    }
    qrels: dict[str, dict[str, int]] = {}
    for place, query_id, passage_id, grade in _read_judgements(qrels_file):
        if query_id not in all_queries:
            raise InvalidInputError(f"{place}: query {query_id!r} is not in queries.jsonl")
        qrels.setdefault(query_id, {})[passage_id] = grade
    if not qrels:
        raise InvalidInputError(f"{qrels_file} holds no judgements; give a split that does")
    return {query_id: all_queries[query_id] for query_id in qrels}, qrels


def evaluate(dataset: str, run: Mapping[str, Sequence[str]], qrels: Qrels) -> QualityFigures:
    """Means of nDCG@10, MRR@10 and recall@100 over every query of `qrels`.

    `run` maps a query id to passage ids, best first; of a passage that is listed twice the first place
    counts. As in BEIR, a passage with the query's own id is the query itself and left out, here unless it
    is judged relevant. A query without results, or without a relevant passage, counts as zero. nDCG has
    the linear gain of trec_eval's ndcg_cut, which BEIR reports: grade / log2(rank + 1). Raises
    InvalidInputError when `qrels` is empty. Does not mutate.
    """
    if not qrels:
        raise InvalidInputError(f"{dataset}: no judged queries; give a split with judgements")
    rankings = {query_id: _clean(query_id, run.get(query_id, ()), qrels[query_id]) for query_id in qrels}

    def mean(figures: Iterator[float]) -> float:
        return math.fsum(figures) / len(qrels)

    return QualityFigures(
        dataset=dataset,
        queries=len(qrels),
        ndcg_at_10=mean(compute_ndcg(rankings[q], grades) for q, grades in qrels.items()),
        mrr_at_10=mean(compute_reciprocal_rank(rankings[q], grades) for q, grades in qrels.items()),
        recall_at_100=mean(compute_recall(rankings[q], grades) for q, grades in qrels.items()),
    )


def compute_ndcg(ranking: Sequence[str], grades: Mapping[str, int], depth: int = NDCG_DEPTH) -> float:
    """nDCG at `depth` of one query with linear gain; 0 when no passage has a positive grade."""
    ideal = _discount(sorted((max(grade, 0) for grade in grades.values()), reverse=True)[:depth])
    if ideal == 0:
        return 0.0
    return _discount([max(grades.get(passage_id, 0), 0) for passage_id in ranking[:depth]]) / ideal


def compute_reciprocal_rank(
    ranking: Sequence[str], grades: Mapping[str, int], depth: int = MRR_DEPTH
) -> float:
    """1 / rank of the first relevant passage within `depth`, 0 when there is none."""
    for rank, passage_id in enumerate(ranking[:depth], start=1):
        if grades.get(passage_id, 0) > 0:
            return 1.0 / rank
    return 0.0


def compute_recall(ranking: Sequence[str], grades: Mapping[str, int], depth: int = RECALL_DEPTH) -> float:
    """Share of the relevant passages within `depth`; 0 when none is relevant."""
    relevant = {passage_id for passage_id, grade in grades.items() if grade > 0}
    if not relevant:
        return 0.0
    return len(relevant.intersection(ranking[:depth])) / len(relevant)


def _clean(query_id: str, ranking: Sequence[str], grades: Mapping[str, int]) -> list[str]:
    """Each passage once, without the query itself (ArguAna and Quora hold their queries as passages)."""
    once = dict.fromkeys(ranking)
    if grades.get(query_id, 0) <= 0:
        once.pop(query_id, None)
    return list(once)


def _discount(gains: Sequence[int]) -> float:
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def _find_qrels(folder: Path, split: str | None) -> Path:
    candidates = [folder / "qrels" / f"{name}.tsv" for name in ((split,) if split else SPLITS)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = ", ".join(candidate.name for candidate in candidates)
    raise NotFoundError(f"{folder / 'qrels'} holds none of {names}; give a folder in BEIR's layout")


def _read_lines(file: Path) -> Iterator[tuple[str, str]]:
    """("FILE line N", line) of every line that is not blank."""
    if not file.is_file():
        raise NotFoundError(f"{file} does not exist; give a folder in BEIR's layout")
    with file.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            place = f"{file} line {number}"
            try:
                line = raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise InvalidInputError(f"{place}: not UTF-8; convert the file") from error
            if line.strip():
                yield place, line


def _read_records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, line in _read_lines(file):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidInputError(f"{place}: not JSON ({error.msg})") from error
        if not isinstance(record, dict):
            raise InvalidInputError(f"{place}: must be a JSON object")
        yield place, record


def _read_id(place: str, record: Mapping[str, Any]) -> str:
    value = record.get("_id")
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise InvalidInputError(f"{place}: needs a text or an integer under '_id'")
    return str(value)


def _read_text(place: str, record: Mapping[str, Any], key: str, optional: bool = False) -> str:
    value = record.get(key)
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        raise InvalidInputError(f"{place}: needs text under {key!r}")
    return value


def _read_judgements(file: Path) -> Iterator[tuple[str, str, str, int]]:
    header_allowed = True
    for place, line in _read_lines(file):
        columns = line.split("\t")
        if len(columns) != 3:
            raise InvalidInputError(f"{place}: needs query-id, corpus-id and score, separated by tabs")
        try:
            grade = int(columns[2])
        except ValueError as error:
            if not header_allowed:
                raise InvalidInputError(f"{place}: the score {columns[2]!r} is not an integer") from error
        else:
            yield place, columns[0], columns[1], grade
        header_allowed = False
