"""Sentences of a passage with their places in it: plain text and Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from trireme.languages import ENGLISH
from trireme.passage_text import FENCE, SENTENCE_END
from trireme.sentence_ends import sentence_ends

_FENCE = re.compile(rf"\s*(?:{FENCE})")
_HEADING = re.compile(r"#{1,6}\s")
_RULE = re.compile(r"\s*([-=*_]\s?){3,}\s*$")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s+")
_ROW = re.compile(r"\s*\|.*\|\s*$")
_ROW_RULE = re.compile(r"\s*\|[\s:|-]+\|\s*$")
_PLAIN_WORD = re.compile(r"(?<!\S)[^\W\d_]{2,}(?=[\s,;:.)]|$)")
# Words in one cell that make a row of a table a sentence.
ROW_WORDS = 3
_WORD_BEFORE = re.compile(r"[^\s(\[\"“'‘/-]+$")
_NEXT_WORD = re.compile(r"\s*([\"'“‘(\[*]*)([^\s,;:]*)")
_ACRONYM = re.compile(r"(?:[a-z]\.)+[a-z]", re.IGNORECASE)


def word_set(text: str) -> frozenset[str]:
    """The words of a text, each once."""
    return frozenset(text.split())


# A period after these never ends a sentence.
_TITLES = word_set(
    "mr mrs ms dr prof st gen col sgt capt lt maj cmdr adm rev hon gov sen rep pres fr vs v cf viz eg ie e.g"
    " i.e fig figs eq nos vol vols pp p art sec ch approx ca c est dept univ mt ft jan feb mar apr jun jul aug sep"
    " sept oct nov dec"
)
# After these it does where a word follows that likes to begin a sentence.
_SHORTENED = word_set("etc inc ltd co corp jr sr al bros ed eds a.m p.m u.s u.k u.n d.c b.c a.d ph.d")
_STARTERS = word_set(
    "a after all although an and as at because before both but by during each for from he her his how however if in"
    " it its many more most no of on one other since she so some such that the their there these they this those"
    " to today under until we what when where which while who with you"
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """passage[start:end], characters; never blank, without white space at its ends."""

    start: int
    end: int
    text: str


def split_sentences(passage: str, begin: int = 0, language: str = "") -> list[Sentence]:
    """The sentences of passage[begin:], in order; offsets count from the passage's first character.

    A list item, a table's row and a block of code never share a sentence with what is around them; code stays
    whole, together with the line before it where that ends in a colon. Left out: headings, a table's header and
    rules, rows of names and numbers alone, and sentences that end in a colon without code behind them. Pure; a rule
    per mark, no model: initials, titles, decimals and abbreviations do not end a sentence. language: its code; ""
    is read as English.
    """
    found: list[Sentence] = []
    for start, end, is_code in _join_code(passage, list(_blocks(passage, begin)), language):
        spans = [(start, end)] if is_code else _split(passage, start, end, language)
        for first, last in spans:
            text = passage[first:last]
            announces = text.endswith(":") and not is_code
            if not announces and any(character.isalnum() for character in text):
                found.append(Sentence(first, last, text))
    return found


def _blocks(passage: str, begin: int) -> Iterator[tuple[int, int, bool]]:
    """Spans of paragraphs, list items and rows (False) and of code with its fences (True), trimmed."""
    lines = _lines(passage, begin)
    start: int | None = None
    end = begin
    position = 0
    while position < len(lines):
        first, last = lines[position]
        line = passage[first:last]
        position += 1
        if _FENCE.match(line):
            if start is not None:
                yield start, end, False
            start = None
            mark = line.strip()[:3]
            while position < len(lines) and not _line(passage, lines[position]).strip().startswith(mark):
                position += 1
            position = min(position + 1, len(lines))
            yield first + len(line) - len(line.lstrip()), lines[position - 1][1], True
            continue
        is_row = _ROW.match(line) is not None
        is_break = not line.strip() or _HEADING.match(line) or _RULE.match(line) or is_row
        item = _ITEM.match(line)
        if start is not None and (is_break or item):
            yield start, end, False
            start = None
        if is_row and _says_something(line) and not _is_table_head(passage, lines, position - 1):
            yield first, last, False
        if is_break:
            continue
        if start is None:
            start = first + (item.end() if item else 0)
        end = last
    if start is not None:
        yield start, end, False


def _lines(passage: str, begin: int) -> list[tuple[int, int]]:
    spans = []
    for line in passage[begin:].split("\n"):
        spans.append((begin, begin + len(line)))
        begin += len(line) + 1
    return spans


def _line(passage: str, span: tuple[int, int]) -> str:
    return passage[span[0] : span[1]]


def _says_something(row: str) -> bool:
    """Whether a cell of a table's row has a few words: names and numbers alone answer nothing."""
    return any(len(_PLAIN_WORD.findall(cell)) >= ROW_WORDS for cell in row.split("|"))


def _is_table_head(passage: str, lines: list[tuple[int, int]], position: int) -> bool:
    """Whether the row is a table's rule or the header above it."""
    here, *below = [_line(passage, span) for span in lines[position : position + 2]]
    return any(_ROW_RULE.match(line) is not None for line in (here, *below))


def _join_code(
    passage: str, blocks: list[tuple[int, int, bool]], language: str
) -> Iterator[tuple[int, int, bool]]:
    """Blocks with a last sentence that ends in a colon moved into the code that follows it."""
    for position, (start, end, is_code) in enumerate(blocks):
        if is_code and position and not blocks[position - 1][2]:
            before = blocks[position - 1]
            *_, last = _split(passage, before[0], before[1], language) or [(end, end)]
            if passage[last[0] : last[1]].endswith(":"):
                yield last[0], end, True
                continue
        follows = position + 1 < len(blocks) and blocks[position + 1][2]
        if not is_code and follows and passage[start:end].rstrip().endswith(":"):
            *_, last = _split(passage, start, end, language)
            if last[0] > start:
                yield start, last[0], False
            continue
        yield start, end, is_code


def _split(passage: str, start: int, end: int, language: str) -> list[tuple[int, int]]:
    """Trimmed spans of the sentences in one paragraph."""
    block = passage[start:end]
    ends = _english_ends(block) if language in ("", ENGLISH) else sentence_ends(block, language)
    bounds = [0, *ends, len(block)]
    spans = pairwise(bounds)
    trimmed = []
    for left, right in spans:
        text = block[left:right]
        head, tail = len(text) - len(text.lstrip()), len(text) - len(text.rstrip())
        if text.strip():
            trimmed.append((start + left + head, start + right - tail))
    return trimmed


def _english_ends(block: str) -> Iterator[int]:
    first = 0
    for found in SENTENCE_END.finditer(block):
        if _ends_sentence(block, first, found):
            yield found.end()
            first = found.end()


def _ends_sentence(block: str, first: int, found: re.Match[str]) -> bool:
    """Whether the mark ends the sentence that began at `first`."""
    mark = found.group()
    if mark[0] in "。！？":
        return True
    next_word = _NEXT_WORD.match(block, found.end())
    opening, following = next_word.groups() if next_word else ("", "")
    # A word that begins small goes on, unless it is a name: of the kind that code has, or written like vLLM.
    if following[:1].islower() and not opening and "_" not in following and following == following.lower():
        return False
    if mark[0] != "." or mark.startswith("..") or not opening + following:
        return True
    # No shortening is longer; a look back over the whole sentence would cost its square.
    before = _WORD_BEFORE.search(block[max(first, found.start() - 16) : found.start()])
    word = before.group().lower() if before else ""
    if word in _SHORTENED or _ACRONYM.fullmatch(word) or (len(word) == 1 and word.isalpha()):
        return following[:1].isupper() and following.lower() in _STARTERS
    return not following[:1].isdigit() if word == "no" else word not in _TITLES
