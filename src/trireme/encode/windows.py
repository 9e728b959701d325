"""Where a text that is longer than a model reads is cut: at ends of sentences or words, near each window's end."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

# A window gives up so much of its room to end with a sentence, or with a word.
SEARCHED_SHARE = 4
# Those that end a sentence without a space behind them, and those that need one.
_WIDE_ENDS = "\u3002\uff01\uff1f\uff61"
_ENDS = ".!?\u2026\u061f\u06d4\u0964\u0965" + _WIDE_ENDS
_CLOSERS = "\"')]}\u2019\u201d\u00bb\u203a\u300d\u300f\uff09"


@dataclass(frozen=True, slots=True)
class Spans:
    """A text in tokens: their ids, and where each begins and ends in it, in characters."""

    text: str
    ids: list[int]
    places: Sequence[tuple[int, int]]

    def count_before(self, place: int) -> int:
        """Tokens that end at the character `place` or before it."""
        return bisect_right(self.places, place, key=lambda span: span[1])

    def ends_sentence(self, token: int) -> bool:
        """Whether a sentence or a line ends before this token."""
        end, start = self.places[token - 1][1], self.places[token][0]
        if "\n" in self.text[end : start + 1]:
            return True
        said = self.text[max(0, end - len(_CLOSERS)) : end].rstrip().rstrip(_CLOSERS)[-1:]
        return bool(said) and said in _ENDS and (said in _WIDE_ENDS or self.ends_word(token))

    def ends_word(self, token: int) -> bool:
        """Whether there is space before this token, be it a part of one or not."""
        end, start = self.places[token - 1][1], self.places[token][0]
        return any(map(str.isspace, self.text[max(0, end - 1) : start + 1]))


def find_windows(spans: Spans, first: int, last: int, room: int) -> list[tuple[int, int]]:
    """The tokens from `first` to `last` in windows of at most `room`, each as (first, last): all, in order.

    A window ends with a sentence where one ends in its last quarter, else with a word, else where it is full.
    """
    windows = []
    while last - first > room:
        end = _find_end(spans, first + room, room // SEARCHED_SHARE)
        windows.append((first, end))
        first = end
    return [*windows, (first, last)]


def _find_end(spans: Spans, full: int, searched: int) -> int:
    ends = range(full, full - searched - 1, -1)
    for is_end in (spans.ends_sentence, spans.ends_word):
        found = next((token for token in ends if is_end(token)), None)
        if found is not None:
            return found
    return full
