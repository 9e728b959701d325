"""Reasoning in a model's answer, taken out of its text as it comes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReasoningMarks:
    """What a family of models writes around its reasoning."""

    begin: str
    end: str


REASONING_MARKS = (
    ReasoningMarks("<think>", "</think>"),
    ReasoningMarks("[THINK]", "[/THINK]"),
    ReasoningMarks("<seed:think>", "</seed:think>"),
    ReasoningMarks("<|START_THINKING|>", "<|END_THINKING|>"),
)


def find_marks(template: str, tokens: Collection[str]) -> ReasoningMarks | None:
    """Those that its template writes, or its tokenizer has tokens for; None: it has none."""
    for marks in REASONING_MARKS:
        if marks.end in template or {marks.begin, marks.end} <= set(tokens):
            return marks
    return None


class ReasoningSplitter:
    """One answer, which reasons at its beginning or not at all. However it is cut, what comes out is the same.

    White space around the reasoning goes. What never ends is reasoning until the answer's end.
    """

    def __init__(self, marks: ReasoningMarks, *, has_begun: bool) -> None:
        """has_begun: the prompt ended with the mark that begins it."""
        self._marks = marks
        self._reads = self._reason if has_begun else self._begin
        self._held = ""
        self._trims = True

    def push(self, text: str) -> tuple[str, str]:
        """New text: what of it is reasoning, and what is the answer."""
        return self._reads(text)

    def finish(self) -> tuple[str, str]:
        """What was held back."""
        held, self._held = self._held, ""
        return (held.rstrip(), "") if self._reads == self._reason else ("", held)

    def _begin(self, text: str) -> tuple[str, str]:
        self._held += text
        start = self._held.lstrip()
        if self._marks.begin.startswith(start):
            if start != self._marks.begin:
                return "", ""
        elif not start.startswith(self._marks.begin):
            self._reads, self._trims = self._answer, False
            held, self._held = self._held, ""
            return "", held
        self._held = ""
        self._reads = self._reason
        return self._reason(start.removeprefix(self._marks.begin))

    def _reason(self, text: str) -> tuple[str, str]:
        self._held += text
        end = self._held.find(self._marks.end)
        if end >= 0:
            said, rest = self._held[:end].rstrip(), self._held[end + len(self._marks.end) :]
            self._held = ""
            if self._trims:
                said = said.lstrip()
            self._reads, self._trims = self._answer, True
            return said, self._answer(rest)[1]
        mark = self._marks.end
        size = next(
            (n for n in range(min(len(mark) - 1, len(self._held)), 0, -1) if mark[:n] == self._held[-n:]), 0
        )
        shown = self._held[: len(self._held) - size].rstrip()
        self._held = self._held[len(shown) :]
        if self._trims:
            shown = shown.lstrip()
            self._trims = not shown
        return shown, ""

    def _answer(self, text: str) -> tuple[str, str]:
        if self._trims:
            text = text.lstrip()
            self._trims = not text
        return "", text
