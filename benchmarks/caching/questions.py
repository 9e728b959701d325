"""A load of questions that come again, word by word and in other words, with the answer of each."""

from __future__ import annotations

import itertools
import json
import random
from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trireme.errors import InvalidInputError

QUESTIONS, SLIPS = Path("qa/squad_grounded_dev.jsonl"), Path("pairs/disfl_qa_dev_articles.jsonl")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that has an answer. other_words: "" where nobody has said it in other words."""

    id: str
    text: str
    answer: str
    other_words: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One of the load. wants: the answer of its question."""

    id: str
    text: str
    wants: str


def read_questions(data: Path, limit: int, seed: int) -> list[Asked]:
    """Up to `limit` of a folder, drawn at random; one text has one answer. Raises InvalidInputError."""
    try:
        asked = [json.loads(line) for line in (data / QUESTIONS).read_text(encoding="utf-8").splitlines()]
        slips = [json.loads(line) for line in (data / SLIPS).read_text(encoding="utf-8").splitlines()]
        said = Counter(row["paraphrase"] for row in slips) + Counter(row["question"] for row in asked)
        # What two questions are said with would have two answers.
        others = {row["id"]: row["paraphrase"] for row in slips if said[row["paraphrase"]] == 1}
        found = {
            row["question"]: Asked(row["id"], row["question"], row["answers"][0], others.get(row["id"], ""))
            for row in asked
            if row["answerable"] and row["answers"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"{data.name} has no {QUESTIONS} and {SLIPS} ({type(error).__name__})"
        ) from None
    some = sorted(found.values(), key=lambda one: one.id)
    random.Random(seed).shuffle(some)  # noqa: S311 - a sample, no secret
    return some[:limit]


def make_load(
    questions: Sequence[Asked], count: int, share: float, exponent: float, seed: int
) -> list[Request]:
    """So many requests: the nth question comes with a weight of n to the -exponent (Zipf); with a chance of `share`
    in other words, where there are some."""
    draw = random.Random(seed)  # noqa: S311 - a sample, no secret
    weights = [place**-exponent for place in range(1, len(questions) + 1)]
    sums = list(itertools.accumulate(weights))
    requests = []
    for _ in range(count):
        one = questions[min(bisect(sums, draw.random() * sums[-1]), len(questions) - 1)]
        is_other = bool(one.other_words) and draw.random() < share
        requests.append(Request(one.id, one.other_words if is_other else one.text, one.answer))
    return requests


def count_most_hits(requests: Sequence[Request]) -> tuple[float, float]:
    """The shares of requests whose text came before, and whose question did: what caches without an end could
    serve."""
    texts, ids = {one.text for one in requests}, {one.id for one in requests}
    return 1 - len(texts) / len(requests), 1 - len(ids) / len(requests)
