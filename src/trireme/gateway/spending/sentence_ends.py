"""Where the sentences of an answer end, letter by letter, while it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

# What ended: a sentence without a citation at its end, or one with.
Ended = Literal["plain", "cited"]
_MARKS = ".!?…"
_WIDE_MARKS = "。！？"
_CLOSERS = "\"'”’»)]*_`」』）"
# A bracket with a number in it, from 1 on: a[0] is code.
_NUMBERED = "[n"
# What may stand in front of a word.
_OPENERS = "(\"'“‘*_#-"
# Letters of the word before a mark that are looked at.
_WORD = 16
# A period after these ends no sentence.
_WORDS = (
    "mr mrs ms dr prof st gen col sgt capt lt rev hon gov sen rep vs cf e.g i.e fig figs eq eqs nos vol pp sec"
    " ch approx ca jan feb mar apr jun jul aug sep sept oct nov dec"
)
_SHORTENED = frozenset(_WORDS.split())


class SentenceEnds:
    """The rules: a mark ends a sentence where white space follows and then no small letter; it does not after an
    initial, a shortened word of the list, or the number of a list's item. A wide mark (。) needs no white space.
    Citations [1] behind the mark are the sentence's. A line's end right behind a citation ends it, too."""

    def __init__(self) -> None:
        self._step: Callable[[str], Ended | None] = self._in_sentence
        self._word = ""
        self._is_line_start = True
        self._has_words = False
        self._is_wide = False
        # A citation stands right before; the sentence has one at its end; a line's end closed it.
        self._just_cited = False
        self._is_cited = False
        self._is_line_end = False
        # What stands since "[", where that may still become a citation.
        self._bracket = ""

    def feed(self, letter: str) -> Ended | None:
        """What ended right before this letter: a sentence, or None."""
        return self._step(letter)

    def _in_sentence(self, letter: str) -> Ended | None:
        if letter in _WIDE_MARKS or (letter in _MARKS and not self._is_no_end(letter)):
            self._is_wide = letter in _WIDE_MARKS
            self._is_cited = self._just_cited
            self._is_line_start = False
            if self._has_words:
                self._step = self._behind_mark
            return None
        if letter.isspace():
            if letter == "\n":
                if self._just_cited:
                    self._is_cited = self._is_line_end = True
                    self._step = self._in_gap
                self._is_line_start = True
            elif self._word:
                self._is_line_start = False
            self._word = ""
            return None
        self._read_bracket(letter)
        if self._word or letter.strip(_OPENERS):
            self._word = (self._word + letter)[-_WORD:]
        self._has_words = self._has_words or letter.isalnum()
        return None

    def _read_bracket(self, letter: str) -> None:
        """Follows a citation within the sentence; white space within it is no matter."""
        self._just_cited = letter == "]" and self._bracket == _NUMBERED
        if letter == "[":
            self._bracket = letter
        elif self._bracket == "[" and letter in "123456789":
            self._bracket = _NUMBERED
        elif self._bracket != _NUMBERED or not (letter.isdigit() or letter == ","):
            self._bracket = ""

    def _is_no_end(self, mark: str) -> bool:
        """Whether a mark belongs to the word before it."""
        word = self._word
        if mark != "." or not word:
            return False
        # J. and U.S.: a sentence that ends in one goes on to the next one's end.
        is_initial = word != "I" and all(len(one) == 1 and one.isalpha() for one in word.split("."))
        is_item = self._is_line_start and word.isdigit()
        return is_initial or is_item or word.lower() in _SHORTENED

    def _behind_mark(self, letter: str) -> Ended | None:
        if letter in _MARKS or letter in _WIDE_MARKS or letter in _CLOSERS:
            return None
        if letter == "[":
            self._step, self._bracket = self._in_citation, ""
            return None
        if letter.isspace():
            self._step = self._in_gap
            return self._in_gap(letter)
        if self._is_wide:
            return self._end(letter)
        return self._go_on(letter)

    def _in_gap(self, letter: str) -> Ended | None:
        if letter.isspace():
            self._is_line_start = self._is_line_start or letter == "\n"
            return None
        if letter == "[":
            self._step, self._bracket = self._in_citation, ""
            return None
        if letter in _MARKS and self._is_cited:
            # "of fir. [1]." has one mark too many.
            return None
        if letter.islower() and not self._is_line_end:
            return self._go_on(letter)
        return self._end(letter)

    def _in_citation(self, letter: str) -> Ended | None:
        """Behind the mark. What is no citation begins the next sentence, and its letters are out already."""
        if letter == "]" and self._bracket:
            self._is_cited = True
            self._step = self._in_gap
        elif letter in "123456789" or (self._bracket and letter in "0, "):
            self._bracket = _NUMBERED
        else:
            return self._go_on(letter)
        return None

    def _go_on(self, letter: str) -> Ended | None:
        self._begin()
        self._has_words = True
        return self._in_sentence(letter)

    def _end(self, letter: str) -> Ended:
        found: Ended = "cited" if self._is_cited else "plain"
        self._begin()
        self._in_sentence(letter)
        return found

    def _begin(self) -> None:
        self._step = self._in_sentence
        self._word = self._bracket = ""
        self._has_words = self._just_cited = self._is_cited = self._is_line_end = False
