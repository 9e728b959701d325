"""Cut a document into passages that stand alone and fit the embedder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trireme.errors import InvalidInputError
from trireme.types import Document, Passage

TokenCounter = Callable[[str], int]

MAX_TOKENS = 256
# [CLS] and [SEP].
SPECIAL_TOKENS = 2
OVERLAP_TOKENS = 32
SMALLEST_BUDGET = 16

HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*$")
FENCE = re.compile(r"\s*(```|~~~)")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|(?<=[。！？])")
WORD = re.compile(r"[a-zA-Z]+|\w|[^\w\s]")


@dataclass(frozen=True, slots=True)
class _Section:
    """Text under one heading; `heading` is the path of headings above it, outermost first."""

    heading: tuple[str, ...]
    text: str


def estimate_tokens(text: str) -> int:
    """About how many WordPiece tokens `text` has, rather too many than too few.

    Five Latin letters to a token; every digit, sign and letter of another script counts as one.
    """
    return sum((len(word) + 4) // 5 for word in WORD.findall(text))


def chunk(
    document: Document, max_tokens: int = MAX_TOKENS, count_tokens: TokenCounter = estimate_tokens
) -> list[Passage]:
    """Passages of at most about `max_tokens` tokens, cut at headings, paragraphs and sentences, in that order.

    Each starts with its title and headings and repeats the end of the one before; words are never cut, unless
    one alone is too long. Ids are `<document id>#<number>`; metadata holds source, title, heading, position.
    A whole document becomes one passage under its own id.
    """
    if max_tokens < 2 * SMALLEST_BUDGET:
        raise InvalidInputError(f"max_tokens must be at least {2 * SMALLEST_BUDGET}, got {max_tokens}")
    if document.whole:
        return [_passage(document, document.id, _join(document.title, document.text), (), 0)]
    pieces = [
        (section.heading, lead, piece)
        for section in _sections(document.text)
        for lead in (_lead(document.title, section.heading, max_tokens // 4, count_tokens),)
        for piece in _pieces(section.text, max_tokens - SPECIAL_TOKENS - count_tokens(lead), count_tokens)
    ]
    return [
        _passage(document, f"{document.id}#{n}", _join(lead, piece), heading, n)
        for n, (heading, lead, piece) in enumerate(pieces)
    ]


def _passage(document: Document, key: str, text: str, heading: tuple[str, ...], position: int) -> Passage:
    metadata = {
        **document.extra,
        "source": document.source,
        "title": document.title,
        "heading": " > ".join(heading),
        "position": position,
    }
    return Passage(key, text, json.dumps(metadata, ensure_ascii=False))


def _join(lead: str, text: str) -> str:
    return "\n".join(part for part in (lead.strip(), text.strip()) if part)


def _lead(title: str, heading: tuple[str, ...], budget: int, count_tokens: TokenCounter) -> str:
    """Title and headings on one line, without the outer ones where all would take too much of a passage."""
    parts = list(dict.fromkeys((title, *heading)))
    while len(parts) > 1 and count_tokens(" > ".join(parts)) > budget:
        del parts[0]
    return next(_pack([*_short_units(" > ".join(parts), budget, count_tokens)], budget, 0, count_tokens), "")


def _sections(text: str) -> list[_Section]:
    """The document at its Markdown headings; lines inside code fences are no headings."""
    sections: list[_Section] = []
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    fenced = False

    def close() -> None:
        body = "\n".join(lines).strip()
        if body:
            sections.append(_Section(tuple(title for _, title in path), body))
        lines.clear()

    for line in text.splitlines():
        fenced ^= bool(FENCE.match(line))
        found = None if fenced else HEADING.match(line)
        if found is None:
            lines.append(line)
            continue
        close()
        level = len(found[1])
        path[:] = [(above, title) for above, title in path if above < level]
        path.append((level, found[2]))
    close()
    # Headings without any text are still something to find.
    return sections or [_Section((), text.strip())]


def _pieces(text: str, budget: int, count_tokens: TokenCounter) -> Iterator[str]:
    budget = max(budget, SMALLEST_BUDGET)
    units: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        *sentences, last = _short_units(paragraph, budget, count_tokens) or [""]
        units += [*sentences, last.rstrip() + "\n\n"]
    yield from _pack(units, budget, min(OVERLAP_TOKENS, budget // 4), count_tokens)


def _short_units(paragraph: str, budget: int, count_tokens: TokenCounter) -> list[str]:
    """Sentences with the white space after them; those over `budget` as words, such words as characters."""
    units: list[str] = []
    for sentence in _split_after(SENTENCE_END, paragraph.strip()):
        if count_tokens(sentence) <= budget:
            units.append(sentence)
            continue
        for word in re.findall(r"\S+\s*", sentence):
            units += [word] if count_tokens(word) <= budget else list(word)
    return units


def _split_after(pattern: re.Pattern[str], text: str) -> list[str]:
    ends = [found.end() for found in pattern.finditer(text)]
    starts = [0, *ends]
    return [text[start:end] for start, end in zip(starts, [*ends, len(text)], strict=True) if text[start:end]]


def _pack(units: list[str], budget: int, overlap: int, count_tokens: TokenCounter) -> Iterator[str]:
    """Fill pieces with units in order; each starts with the last units of the one before, up to `overlap`."""
    piece: list[tuple[str, int]] = []
    used = 0
    for unit in units:
        size = count_tokens(unit)
        if piece and used + size > budget:
            yield "".join(text for text, _ in piece).strip()
            piece = _tail(piece, min(overlap, budget - size))
            used = sum(tokens for _, tokens in piece)
        piece.append((unit, size))
        used += size
    last = "".join(text for text, _ in piece).strip()
    if last:
        yield last


def _tail(piece: list[tuple[str, int]], overlap: int) -> list[tuple[str, int]]:
    kept: list[tuple[str, int]] = []
    for unit in reversed(piece[1:]):
        overlap -= unit[1]
        if overlap < 0:
            break
        kept.insert(0, unit)
    return kept
