"""Pairs of questions of one meaning and of another, from folders of public data and by rules."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trireme.types import FloatArray

Embed = Callable[[Sequence[str]], FloatArray]

NEAREST = 3
_NAME = re.compile(r"(?<=\w )[A-Z][a-z]+(?: [A-Z][a-z]+)*")
_NUMBER = re.compile(r"\b\d{2,4}\b")
_SWAPS = (
    ("first", "last"), ("largest", "smallest"), ("before", "after"), ("most", "least"), ("highest", "lowest"),
    ("increase", "decrease"), ("north", "south"), ("east", "west"), ("more", "less"), ("begin", "end"),
    ("oldest", "newest"), ("best", "worst"), ("win", "lose"), ("won", "lost"),
)  # fmt: skip
_OPENINGS = (
    (r"^What is ", ("What's ", "Can you tell me what is ", "I would like to know what is ", "Please say what is ")),
    (r"^What was ", ("Can you tell me what was ", "Please say what was ", "Do you know what was ")),
    (r"^Who was ", ("Can you tell me who was ", "Which person was ", "Do you know who was ")),
    (r"^Who is ", ("Can you tell me who is ", "Which person is ", "Who's ")),
    (r"^In what year ", ("In which year ", "When ", "What year ")),
    (r"^When ", ("In what year ", "At what time ", "Do you know when ")),
    (r"^Where ", ("In what place ", "In which place ", "Do you know where ")),
    (r"^Why ", ("For what reason ", "How come ", "Do you know why ")),
    (r"^How many ", ("What number of ", "Can you say how many ", "How large a number of ")),
    (r"^Which ", ("What ", "Can you say which ", "Please name which ")),
    (r"^What ", ("Which ", "Can you say what ", "Do you know what ")),
    (r"^Who ", ("Which person ", "Do you know who ", "Can you say who ")),
)  # fmt: skip
_AUXILIARY = re.compile(r"\b(is|are|was|were|does|do|did|can|could|has|have|had) (?=\w)")


@dataclass(frozen=True, slots=True)
class PairSet:
    """same and other: pairs whose answers serve each other, and pairs whose do not."""

    name: str
    same: tuple[tuple[str, str], ...]
    other: tuple[tuple[str, str], ...]


def read_pairs(data: Path, embed: Embed, seed: int) -> list[PairSet]:
    """All sets of a folder with pairs/ and qa/."""
    asked = _read(data / "qa" / "squad_grounded_dev.jsonl")
    slips = _read(data / "pairs" / "disfl_qa_dev_articles.jsonl")
    mock = _read(data / "pairs" / "gptcache_mock_paraphrase.jsonl")
    rng = random.Random(seed)  # noqa: S311 - a sample, no secret
    by_place: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in asked:
        by_place[row["context"]].append(row)
    place_of = {row["id"]: row["context"] for row in asked}
    copies = _near_copies(by_place.values(), embed)
    answerable = [row["question"] for row in asked if row["answerable"]]
    reworded = [(text, new) for text in answerable if (new := reword(text, rng))]
    changed = [(text, new) for text in answerable for new in change(text, by_names(asked), rng)]
    return [
        PairSet(
            "slips of the tongue (Disfl-QA)",
            tuple((row["question"], row["paraphrase"]) for row in slips),
            tuple(_beside(slips, place_of, by_place, embed)),
        ),
        PairSet(
            "sentences (GPTCache)",
            tuple((row["a"], row["b"]) for row in mock if row["label"] == 1),
            tuple(_nearest_others(mock, embed)),
        ),
        PairSet("rewordings, beside questions on one paragraph (SQuAD)", tuple(reworded), tuple(copies)),
        PairSet("rewordings, beside changes by rule", tuple(reworded), tuple(changed)),
    ]


def _read(path: Path) -> list[dict[str, Any]]:
    """Rows whose texts are not blank."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    texts = ("a", "b", "question", "paraphrase")
    return [row for row in rows if all(row[name].strip() for name in texts if name in row)]


def reword(text: str, rng: random.Random) -> str:
    """The same question with another opening, in small letters, or without its mark; "" where no rule fits."""
    for pattern, openings in _OPENINGS:
        if re.match(pattern, text):
            new = re.sub(pattern, rng.choice(openings), text)
            if rng.random() < 0.3:
                new = new.rstrip("?").strip()
            return new.lower() if rng.random() < 0.2 else new
    return ""


def by_names(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Names of all questions, to put in place of others."""
    return sorted({name for row in rows for name in _NAME.findall(row["question"])})


def change(text: str, names: Sequence[str], rng: random.Random) -> list[str]:
    """Questions of another meaning: another number, negation, name, opposite, order, kind of question."""
    made = []
    if found := _NUMBER.search(text):
        made.append(text.replace(found[0], str(int(found[0]) + rng.choice((-3, -1, 1, 2, 10)))))
    if (found := _AUXILIARY.search(text)) and " not " not in text:
        made.append(f"{text[: found.end()]}not {text[found.end() :]}")
    if found := _NAME.search(text):
        new = rng.choice(names)
        if new not in text:
            made.append(text.replace(found[0], new))
    swaps = [pair for one, other in _SWAPS for pair in ((one, other), (other, one))]
    made += [text.replace(f" {old} ", f" {new} ") for old, new in swaps if f" {old} " in text][:1]
    both = _NAME.findall(text)
    if len(both) == 2 and " and " not in text and " or " not in text:
        made.append(text.replace(both[0], "\0").replace(both[1], both[0]).replace("\0", both[1]))
    kinds = (("When ", "Where "), ("Where ", "When "), ("How many ", "Which "), ("Who ", "When "))
    made += [new + text[len(old) :] for old, new in kinds if text.startswith(old)]
    return made


def _near_copies(places: Iterable[list[dict[str, Any]]], embed: Embed) -> list[tuple[str, str]]:
    """Of each question the nearest others on its paragraph: with another answer, or with none."""
    pairs: dict[tuple[str, str], None] = {}
    for rows in places:
        if len(rows) < 2:
            continue
        vectors = embed([row["question"] for row in rows])
        near = vectors @ vectors.T
        for one, row in enumerate(rows):
            for other in np.argsort(-near[one])[: NEAREST + 1]:
                is_other = row["question"].lower() != rows[other]["question"].lower()
                if is_other and _answers(row) != _answers(rows[other]):
                    first, second = sorted((row["question"], rows[other]["question"]))
                    pairs[first, second] = None
    return list(pairs)


def _answers(row: dict[str, Any]) -> tuple[str, ...]:
    """ "" of a question without an answer: an answer to it is that there is none, which serves no other."""
    given = sorted({str(one).lower() for one in row["answers"]}) if row["answerable"] else [row["id"]]
    return tuple(given)


def _beside(
    slips: list[dict[str, Any]],
    place_of: dict[str, str],
    by_place: dict[str, list[dict[str, Any]]],
    embed: Embed,
) -> list[tuple[str, str]]:
    """Of each slip the nearest other questions on the paragraph."""
    pairs = []
    for row in slips:
        rows = [one for one in by_place.get(place_of.get(row["id"], ""), ()) if one["id"] != row["id"]]
        mine = next(
            (one for one in by_place.get(place_of.get(row["id"], ""), ()) if one["id"] == row["id"]), None
        )
        if not rows or mine is None:
            continue
        vectors = embed([row["paraphrase"], *(one["question"] for one in rows)])
        for place in np.argsort(-(vectors[1:] @ vectors[0]))[:NEAREST]:
            if _answers(mine) != _answers(rows[place]):
                pairs.append((rows[place]["question"], row["paraphrase"]))
    return pairs


def _nearest_others(rows: list[dict[str, Any]], embed: Embed) -> list[tuple[str, str]]:
    """Of each sentence the nearest rewordings of other ones."""
    first, second = (embed([row[side] for row in rows]) for side in "ab")
    near = first @ second.T
    # What is as near as a rewording is one, of a sentence that is there twice.
    same = first @ first.T
    pairs = []
    for one in range(len(rows)):
        others = [other for other in np.argsort(-near[one]) if other != one and same[one, other] < 0.9]
        pairs += [(rows[one]["a"], rows[other]["b"]) for other in others[:NEAREST]]
    return pairs
