"""Words that a typesetter broke over two lines, made whole again.

A hyphen at the end of a line is one that the word has (client-/server) or one of the line alone (infor-/mation).
What the document writes elsewhere decides, then a list of English words; a word that both do not know is joined.
"""

from __future__ import annotations

import re
from functools import cache

HYPHENS = "-\u2010"
# It shows only where a line ends at it.
SOFT_HYPHEN = "\u00ad"
LETTERS = re.compile(r"[^\W\d_]+")
WORD = re.compile(rf"[^\W\d_]+(?:[{HYPHENS}][^\W\d_]+)*")
# Vor- und Nachteile, short- and long-term: the hyphen stands for the end of another word.
SUSPENDED_BEFORE = frozenset(
    ("and", "or", "to", "und", "oder", "bzw.", "sowie", "bis", "et", "ou", "y", "o", "e", "en", "of")
)
# Nothing longer is a word.
WORD_CHARACTERS = 80
# What a document says of its words, for as many as these.
MOST_WORDS = 200_000


class Joiner:
    """Joins words that are broken over lines; remembers the words of the text that it has seen."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def join(self, text: str) -> str:
        """The text with each broken word whole, at the end of the line that it began on; without soft hyphens."""
        self._remember(text)
        lines: list[str] = []
        for line in text.split("\n"):
            before, after = self.join_lines(lines[-1], line) if lines else ("", line)
            if lines:
                lines[-1] = before
            if after.strip() or not line.strip():
                lines.append(after)
        return "\n".join(lines).replace(SOFT_HYPHEN, "")

    def join_lines(self, before: str, after: str) -> tuple[str, str]:
        """The two lines with the word that is broken between them on the first, if one is."""
        first, word = _broken_word(before), (after.split(None, 1) or [""])[0]
        if not first or not word[:1].isalnum():
            return before, after
        sign = first[-1]
        if word.lower() in SUSPENDED_BEFORE and sign != SOFT_HYPHEN:
            return before, after
        kept = before.rstrip(" \t")[:-1] + (sign if self._keeps_hyphen(first[:-1], sign, word) else "")
        return kept + word, after.lstrip(" \t")[len(word) :].lstrip(" \t")

    def _keeps_hyphen(self, first: str, sign: str, rest: str) -> bool:
        if sign == SOFT_HYPHEN:
            return False
        head, tail = LETTERS.findall(first)[-1:], LETTERS.match(rest)
        # Names of files, and what goes on with a number or a capital letter, have hyphens of their own.
        if not head or not tail or not first.endswith(head[0]) or re.search(r"[/_@\\]", first):
            return True
        is_capital = not rest[0].islower()
        if is_capital and not (head[0].isupper() and tail[0].isupper()):
            return True
        left, right = head[0].lower(), tail[0].lower()
        if f"{left}-{right}" in self._seen or len(left) == 1:
            return True
        if left + right in self._seen or left + right in english_words():
            return False
        return is_capital or (left in english_words() and right in english_words())

    def _remember(self, text: str) -> None:
        was_broken = False
        for line in text.split("\n") if len(self._seen) < MOST_WORDS else ():
            # The halves of a broken word are what is asked about.
            broken = _broken_word(line)
            whole = line.rstrip(" \t")[: -len(broken)] if broken else line
            if was_broken:
                whole = "".join(whole.split(None, 1)[1:])
            was_broken = bool(broken)
            self._seen.update(word.lower().replace("\u2010", "-") for word in WORD.findall(whole))


def _broken_word(line: str) -> str:
    """The last word of a line with the hyphen that it ends in, "" where it ends in none."""
    words = line[-2 * WORD_CHARACTERS :].rsplit(None, 1)
    word = words[-1] if words else ""
    is_broken = word[-1:] in {*HYPHENS, SOFT_HYPHEN} and word[-2:-1].isalnum()
    return word if is_broken and len(word) <= WORD_CHARACTERS else ""


@cache
def english_words() -> frozenset[str]:
    """About 160,000 words of English, in small letters; 15 MB, once a process."""
    from spellchecker import SpellChecker

    return frozenset(SpellChecker(language="en", distance=1).word_frequency.words())
