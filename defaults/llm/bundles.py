"""Several questions about the same passages as one sequence: each sees the passages and itself, no other question.

The prompt's beginning (system message, passages) is read once for all of them, so a question costs a fifth of the
tokens that it costs alone. What a question sees, and at which positions, is the same as alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from batches import Example
from grounded import (
    BRIEF,
    BRIEF_SHARE,
    NOTHING,
    PASSAGE_COUNTS,
    QUOTE,
    TITLE_SHARE,
    Dialogue,
    Row,
    cut,
    sentence_of,
)

QUESTIONS = 8
# Of a bundle's questions at most, and of all: asked of passages without the one that answers.
LEFT_OUT_SHARE = 0.06
# Other passages: of those nearest by words, of the same article, of any.
NEAR_SHARE, SAME_SHARE = 0.5, 0.3


@dataclass(frozen=True, slots=True)
class Bundle:
    """Messages up to the question, and what is asked: (question, reply, weight in the loss)."""

    system: str
    passages: tuple[str, ...]
    asked: tuple[tuple[str, str, float], ...]

    def messages(self, question: str) -> list[dict[str, str]]:
        """As rag's prompt.toml makes them."""
        return Dialogue(self.system, self.passages, question, "", 0, ()).messages()


@dataclass(slots=True)
class Shelf:
    """Rows by their passage, and which passages lie near each. near: passage -> passages, nearest first."""

    rows: Sequence[Row]
    near: dict[str, list[str]] = field(default_factory=dict)
    asked: dict[str, list[Row]] = field(init=False)
    same: dict[str, list[str]] = field(init=False)
    titles: dict[str, str] = field(init=False)
    texts: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.asked, self.same, self.titles = {}, {}, {}
        for row in self.rows:
            if row.context not in self.asked:
                self.same.setdefault(row.title, []).append(row.context)
                self.titles[row.context] = row.title
            self.asked.setdefault(row.context, []).append(row)
        self.texts = list(self.titles)
        self.near = {text: [one for one in found if one in self.asked] for text, found in self.near.items()}

    def others(self, context: str, count: int, rng: random.Random) -> list[str]:
        """Other passages, none twice."""
        chosen: list[str] = []
        while len(chosen) < count:
            draw = rng.random()
            near, same = self.near.get(context, ()), self.same[self.titles[context]]
            pool = near if draw < NEAR_SHARE and near else same if draw < NEAR_SHARE + SAME_SHARE else ()
            text = rng.choice(pool if len(pool) > 2 else self.texts)
            if text != context and text not in chosen:
                chosen.append(text)
        return chosen

    def draw(self, context: str, shares: tuple[float, float], rng: random.Random) -> Bundle:
        """A bundle about `context`. shares: of its unanswerable questions that are asked; the refusals' weight."""
        brief = rng.random() < BRIEF_SHARE
        texts = [context, *self.others(context, rng.choice(PASSAGE_COUNTS) - 1, rng)]
        rng.shuffle(texts)
        rows = [row for row in self.asked[context] if row.answers or rng.random() < shares[0]]
        for text in texts:
            if text != context:
                more = [row for row in self.asked[text] if row.answers or rng.random() < shares[0]]
                rows += rng.sample(more, min(2, len(more)))
        rng.shuffle(rows)
        shown = [cut_for(text, [row for row in rows[:QUESTIONS] if row.context == text]) for text in texts]
        asked = []
        for row in rows[:QUESTIONS]:
            place = texts.index(row.context)
            # Where the cut took the answer away the passages do not say.
            asked.append(reply_to(row, place + 1, shown[place], brief))
        for _ in range(len(asked)):
            if rng.random() < LEFT_OUT_SHARE:
                (absent,) = self.others(context, 1, rng)
                if absent not in texts:
                    asked.append((rng.choice(self.asked[absent]).question, NOTHING))
        if rng.random() < TITLE_SHARE:
            shown = [f"{self.titles[text]}\n{part}" for text, part in zip(texts, shown, strict=True)]
        weighted = [(question, reply, shares[1] if reply == NOTHING else 1.0) for question, reply in asked]
        return Bundle(BRIEF if brief else QUOTE, tuple(shown), tuple(weighted))


def reply_to(row: Row, number: int, shown: str, brief: bool) -> tuple[str, str]:
    """The question and what to reply: the shortest answer, or its sentence, with the passage's number."""
    answer = min(row.answers, key=len, default="")
    if not answer or answer not in shown:
        return row.question, NOTHING
    said = answer if brief else sentence_of(shown, answer, row.question) or answer
    return row.question, f"{said.strip()} [{number}]"


def cut_for(text: str, rows: Sequence[Row]) -> str:
    """As rag cuts a passage, so that the longest answer stays where one can."""
    answers = [min(row.answers, key=len) for row in rows if row.answers]
    return cut(text, max(answers, key=len, default=""))


def encode_bundle(tokenizer: Any, bundle: Bundle) -> Example:
    """All questions of a bundle behind its passages.

    The beginning ends before the line break in front of the question, where the tokenizer splits by itself.
    """
    whole = tokenizer.apply_chat_template(bundle.messages("?"), tokenize=False, add_generation_prompt=True)
    place = whole.rindex("\nQuestion: ?")
    ids = tokenizer(whole[:place], add_special_tokens=False)["input_ids"]
    begun = len(ids)
    segments, positions, replies = [0] * begun, list(range(begun)), []
    for number, (question, reply, weight) in enumerate(bundle.asked, 1):
        asks = whole[place:].replace("?", question.strip(), 1)
        head = tokenizer(asks, add_special_tokens=False)["input_ids"]
        tail = tokenizer(f"{reply}<|im_end|>", add_special_tokens=False)["input_ids"]
        start = len(ids) + len(head)
        ids += head + tail
        segments += [number] * (len(head) + len(tail))
        positions += range(begun, begun + len(head) + len(tail))
        replies.append((start, len(ids), weight / len(tail) ** 0.5))
    return Example(*(np.array(one, np.uint16) for one in (ids, segments, positions)), tuple(replies))
