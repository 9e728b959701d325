"""When an answer is sufficient: conditions over its text, and the stop of a stream where one of them is met.

A condition reads an answer piece by piece, letter by letter: where it ends does not depend on how it was cut. Its
work is a constant for each letter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from trireme.gateway.file import StopWhen
from trireme.gateway.spending.sentence_ends import SentenceEnds
from trireme.gateway.wire.shapes import shape
from trireme.providers.chat import (
    ChatCall,
    Event,
    Finished,
    TextDelta,
    ToolDelta,
    ToolStart,
)
from trireme.providers.logprobs import cut_entries

# Words of a repeated block at most, and how often it stands there before it is one too many: of a block with four
# different words or more, of one with fewer, and of one without any letter (a table's rule, a row of zeros).
LONGEST_BLOCK = 128
SENTENCE_WORDS = 4
SENTENCE_TIMES = 5
WORD_TIMES = 24
MARK_TIMES = 256
# Letters of a word; a longer one is several.
LONGEST_WORD = 64
# From here on a letter is a word: Chinese, Japanese and Korean put no spaces.
_FIRST_WIDE = 0x2E80
_CLOSES = {"{": "}", "[": "]"}
_FENCE_MARKS = "`~"


class StopCondition(Protocol):
    """Of one answer. `feed` raises nothing, and is not called again once it gave a number."""

    def feed(self, text: str) -> int | None:
        """How many letters of this piece still belong to the answer; None: it goes on."""
        ...


class _Letters(ABC):
    """A condition that looks at one letter at a time."""

    def feed(self, text: str) -> int | None:
        """See StopCondition."""
        for place, letter in enumerate(text):
            found = self._ends(letter)
            if found is not None:
                return place + found
        return None

    @abstractmethod
    def _ends(self, letter: str) -> int | None:
        """0: the answer ended before this letter, 1: behind it, None: not yet."""


class JsonClosed(_Letters):
    """The first JSON object, array or text is closed. Only white space and the line of a code fence may stand
    before it, else this never stops. Within a fence the answer ends behind the fence's end."""

    def __init__(self) -> None:
        self._step: Callable[[str], int | None] = self._begin
        # Brackets to close, in their order; and of a fence its mark and how many stand there.
        self._open: list[str] = []
        self._escaped = False
        self._fence = ""
        self._fence_length = 3
        self._marks = 0

    def _ends(self, letter: str) -> int | None:
        return self._step(letter)

    def _begin(self, letter: str) -> int | None:
        if letter.isspace():
            return None
        if letter in _FENCE_MARKS and not self._fence:
            self._fence, self._step = letter, self._fence_begin
            return self._fence_begin(letter)
        if letter == '"':
            self._step = self._in_text
        elif letter in _CLOSES:
            self._open.append(_CLOSES[letter])
            self._step = self._inside
        else:
            self._step = self._never
        return None

    def _fence_begin(self, letter: str) -> int | None:
        if letter == self._fence:
            self._marks += 1
        elif self._marks < 3:
            self._step = self._never
        else:
            self._fence_length, self._step = self._marks, self._fence_line
            return self._fence_line(letter)
        return None

    def _fence_line(self, letter: str) -> int | None:
        """The word behind a fence, such as json, to the end of its line."""
        if letter == "\n":
            self._step = self._begin
        return None

    def _inside(self, letter: str) -> int | None:
        if letter == '"':
            self._step = self._in_text
        elif letter in _CLOSES:
            self._open.append(_CLOSES[letter])
        elif letter in "}]":
            if self._open.pop() != letter:
                self._step = self._never
            elif not self._open:
                return self._close()
        return None

    def _in_text(self, letter: str) -> int | None:
        if self._escaped:
            self._escaped = False
        elif letter == "\\":
            self._escaped = True
        elif letter == '"':
            if not self._open:
                return self._close()
            self._step = self._inside
        return None

    def _close(self) -> int | None:
        if not self._fence:
            return 1
        self._step, self._marks = self._fence_end, 0
        return None

    def _fence_end(self, letter: str) -> int | None:
        if letter == self._fence:
            self._marks += 1
            return 1 if self._marks == self._fence_length else None
        return None if letter.isspace() and not self._marks else 0

    def _never(self, letter: str) -> int | None:
        return None


class CitationClosed(_Letters):
    """The first sentence with a citation at its end is over: "... of fir [1].", "... of fir. [1, 2]".

    The white space behind it belongs to the answer: the next sentence's first letter shows that this one is over.
    """

    def __init__(self) -> None:
        self._ends_of = SentenceEnds()

    def _ends(self, letter: str) -> int | None:
        return 0 if self._ends_of.feed(letter) == "cited" else None


class Sentences(_Letters):
    """`most` sentences are over. As of CitationClosed, and with the citations behind the last of them."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._ends_of = SentenceEnds()

    def _ends(self, letter: str) -> int | None:
        if self._ends_of.feed(letter) is None:
            return None
        self._left -= 1
        return 0 if self._left <= 0 else None


class Repetition(_Letters):
    """The same block of words stands there SENTENCE_TIMES in a row; one of fewer words, or of marks, more often.

    Items of a list and rows of a table differ in a word at least. Blocks longer than LONGEST_BLOCK are not seen.
    """

    def __init__(self) -> None:
        self._word: list[str] = []
        # The last words, the newest last, and for each distance how many in a row are the same as one so far back.
        self._words: deque[str] = deque(maxlen=LONGEST_BLOCK)
        self._same = [0] * (LONGEST_BLOCK + 1)

    def _ends(self, letter: str) -> int | None:
        if letter.isspace():
            return 0 if self._end_word() else None
        if ord(letter) >= _FIRST_WIDE:
            if self._end_word():
                return 0
            self._word.append(letter)
            return 1 if self._end_word() else None
        self._word.append(letter)
        if len(self._word) == LONGEST_WORD:
            return 1 if self._end_word() else None
        return None

    def _end_word(self) -> bool:
        """Whether the word that ended is the last of one repetition too many."""
        if not self._word:
            return False
        word = "".join(self._word)
        self._word.clear()
        found = False
        for distance, before in enumerate(reversed(self._words), 1):
            if before != word:
                self._same[distance] = 0
                continue
            self._same[distance] += 1
            times = self._same[distance] / distance + 1
            found = found or (times >= SENTENCE_TIMES and times >= self._most_times(distance, word))
        self._words.append(word)
        return found

    def _most_times(self, length: int, last: str) -> int:
        block = {*[*self._words, last][-length:]}
        words = sum(any(letter.isalpha() for letter in word) for word in block)
        if words >= SENTENCE_WORDS:
            return SENTENCE_TIMES
        return WORD_TIMES if words else MARK_TIMES


class FirstOf:
    """The condition of several that is met first."""

    def __init__(self, conditions: Sequence[StopCondition]) -> None:
        self._conditions = conditions

    def feed(self, text: str) -> int | None:
        """See StopCondition."""
        found = [end for one in self._conditions if (end := one.feed(text)) is not None]
        return min(found, default=None)


def parse_stop_when(raw: Mapping[str, Any], name: str) -> StopWhen:
    """A request's or a model's stop_when. Raises InvalidInputError that names the key, `name` in front of it."""
    return shape(raw, StopWhen, name)


def open_condition(when: StopWhen) -> StopCondition | None:
    """For one answer, read from its first letter on. None: nothing is asked for."""
    conditions: list[StopCondition] = []
    if when.json:
        conditions.append(JsonClosed())
    if when.citation:
        conditions.append(CitationClosed())
    if when.repetition:
        conditions.append(Repetition())
    if when.sentences is not None:
        conditions.append(Sentences(when.sentences))
    return FirstOf(conditions) if conditions else None


def stop_of(call: ChatCall, of_model: StopWhen | None) -> StopWhen | None:
    """What holds for a call: its own stop_when, an empty one for none at all, else its model's. None: nothing.

    A call that may use tools is never stopped early: what it says first is not its answer.
    """
    has_tools = call.tools or any(name.partition(".")[0] in ("tools", "mcp_servers") for name in call.unknown)
    if has_tools and call.tool_choice != "none":
        return None
    when = of_model if call.stop_when is None else parse_stop_when(call.stop_when, "trireme.stop_when")
    return when if when is not None and open_condition(when) is not None else None


@dataclass(slots=True)
class _Choice:
    condition: StopCondition | None
    is_over: bool = False
    # The model calls a tool: its text no longer decides.
    calls_tool: bool = False


async def watch_early(
    events: AsyncGenerator[Event, None], call: ChatCall, stop: StopWhen, *, reads_on: bool = False
) -> AsyncGenerator[Event, None]:
    """The events up to where `stop` is met, each choice by itself, and Finished("stop") for one that was stopped.

    When all choices are over by that, `events` is closed, which cancels the call: what would come behind, such as
    Usage and Sources, does not. reads_on: of an answer that is there already: it does, and each Finished stays in
    its place. Closing it closes `events`. Reasoning, refusals and calls of tools are not cut.
    """
    choices: dict[int, _Choice] = {}
    async with aclosing(events):
        async for event in events:
            number = getattr(event, "choice", None)
            if number is None:
                yield event
                continue
            choice = choices.setdefault(number, _Choice(open_condition(stop)))
            if choice.is_over:
                if reads_on and isinstance(event, Finished):
                    yield Finished("stop", number)
                continue
            end = _find_end(event, choice)
            if end is None:
                choice.is_over = isinstance(event, Finished)
                yield event
                continue
            assert isinstance(event, TextDelta)  # noqa: S101
            if end:
                yield _cut(event, end)
            choice.is_over = True
            if reads_on:
                continue
            is_last = sum(one.is_over for one in choices.values()) >= max(call.choices, 1)
            if is_last:
                await events.aclose()
            yield Finished("stop", number)
            if is_last:
                return


def _find_end(event: Event, choice: _Choice) -> int | None:
    if isinstance(event, (ToolStart, ToolDelta)):
        choice.calls_tool = True
    if not isinstance(event, TextDelta) or choice.condition is None or choice.calls_tool:
        return None
    return choice.condition.feed(event.text)


def _cut(event: TextDelta, end: int) -> TextDelta:
    """Its first `end` letters, with their log-probabilities."""
    text = event.text[:end]
    return replace(event, text=text, logprobs=cut_entries(event.logprobs, text))
