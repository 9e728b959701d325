"""SQuAD's questions for cascades: which are drawn, and when an answer is right."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Sequence
from typing import Any

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """As SQuAD's evaluation does: lower case, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def is_right(question: dict[str, Any], text: str, *, refuses: bool) -> bool:
    """Whether an answer has a gold answer's words in their order, or refuses what has none. Pure."""
    if refuses or not question["answerable"]:
        return refuses and not question["answerable"]
    said = f" {normalize(text)} "
    golds = filter(None, map(normalize, question["answers"]))
    return any(f" {gold} " in said for gold in golds)


def split_articles(questions: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Questions to fit on (train) and to judge by (dev): of every other article, in the order of titles. Pure.

    Both are of articles that no model was trained on: on those that the LLM's adapter has seen it is right far more
    often, and what is fitted there promises too much elsewhere.
    """
    titles = sorted({str(one["title"]) for one in questions})
    seen = set(titles[::2])
    return {
        "train": [one for one in questions if one["title"] in seen],
        "dev": [one for one in questions if one["title"] not in seen],
    }


def draw(questions: Sequence[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """`count` of them, or all, in an order of chance: answerable ones have the share that they have in the file."""
    found = sorted(questions, key=lambda one: str(one["id"]))
    random.Random(seed).shuffle(found)  # noqa: S311 - a sample, no secret
    return found[:count]
