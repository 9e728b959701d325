"""Headings and paragraphs of a text that comes in parts, in constant memory.

Every decision looks at the text alone, never at where a part ends, so that the same text gives the same blocks
however it is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Longer lines are handed on in pieces; longer paragraphs are, at the end of a sentence.
LINE_CHARACTERS = 1 << 14
PARAGRAPH_CHARACTERS = 1 << 16
# What looks like a heading and is longer is text.
HEADING_CHARACTERS = 300

HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*$")
FENCE = re.compile(r"\s*(```|~~~)")
SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s+|[。！？]")


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, or a piece of a long one.

    `heading` is the path of headings above it, outermost first; `section` counts headings, as two may be equal.
    """

    section: int
    heading: tuple[str, ...]
    text: str
    ends_paragraph: bool


@dataclass(frozen=True, slots=True)
class _Line:
    """A line, or a piece of a long one."""

    text: str
    starts: bool
    ends: bool

    @property
    def is_blank(self) -> bool:
        return self.starts and self.ends and not self.text.strip()


def blocks(parts: Iterable[str]) -> Iterator[Block]:
    """The paragraphs of Markdown or plain text; lines inside code fences are no headings.

    Headings without any text under them are left out, unless there is nothing else.
    """
    outline, paragraph = _Outline(), _Paragraph()
    fenced = False
    for line in _lines(parts):
        fenced ^= line.starts and bool(FENCE.match(line.text))
        heading = None if fenced else _find_heading(line)
        if heading is None and not line.is_blank:
            paragraph.add(line)
            if text := paragraph.overflow():
                yield outline.block(text, ends_paragraph=False)
            continue
        if text := paragraph.close():
            yield outline.block(text)
        if heading is not None:
            yield from outline.enter(heading, line.text)
    if text := paragraph.close():
        yield outline.block(text)
    yield from outline.close()


def _find_heading(line: _Line) -> re.Match[str] | None:
    is_whole = line.starts and line.ends
    is_candidate = is_whole and line.text[:1] == "#" and len(line.text) <= HEADING_CHARACTERS
    return HEADING.match(line.text) if is_candidate else None


class _Outline:
    """The headings above the text that is read."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._section = 0
        # Lines of headings for as long as there is no text under any.
        self._bare: list[str] = []
        self._bare_size = 0
        self._has_text = False

    def block(self, text: str, ends_paragraph: bool = True) -> Block:
        self._has_text = True
        return Block(self._section, tuple(title for _, title in self._path), text, ends_paragraph)

    def enter(self, heading: re.Match[str], line: str) -> Iterator[Block]:
        """Opens a section. Gives the headings so far where nothing but headings has come for long."""
        level = len(heading[1])
        self._section += 1
        self._path = [(above, title) for above, title in self._path if above < level]
        self._path.append((level, heading[2]))
        if not self._has_text:
            self._bare.append(line)
            self._bare_size += len(line)
            if self._bare_size > PARAGRAPH_CHARACTERS:
                yield from self.close()

    def close(self) -> Iterator[Block]:
        """The headings under which there is no text, if there is no text at all."""
        if self._bare and not self._has_text:
            yield Block(self._section, (), "\n".join(self._bare), True)
            self._section += 1
        self._bare, self._bare_size = [], 0


class _Paragraph:
    """Lines until the paragraph ends or grows too long."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._size = 0

    def add(self, line: _Line) -> None:
        self._lines.append(line.text + "\n" * line.ends)
        self._size += len(line.text) + line.ends

    def overflow(self) -> str:
        """All but the last sentence, once there is more than a paragraph should have; before that nothing."""
        if self._size < PARAGRAPH_CHARACTERS:
            return ""
        text = "".join(self._lines)
        end = _find_cut(text)
        self._lines, self._size = [text[end:]], len(text) - end
        return text[:end].strip()

    def close(self) -> str:
        text = "".join(self._lines).strip()
        self._lines, self._size = [], 0
        return text


def _find_cut(text: str) -> int:
    """Where a long paragraph may be cut: after a sentence, else after a word, else at its end."""
    start = len(text) - LINE_CHARACTERS
    # A match up to the very end may go on in what follows.
    ends = [found.end() for found in SENTENCE_END.finditer(text, start) if found.end() < len(text)]
    if ends:
        return ends[-1]
    space = max(text.rfind(" ", start), text.rfind("\n", start), text.rfind("\t", start))
    return space + 1 if space > 0 else len(text)


def _lines(parts: Iterable[str]) -> Iterator[_Line]:
    rest, starts = "", True
    for part in parts:
        *complete, rest = (rest + part).split("\n")
        for text in complete:
            yield from _pieces(text, starts)
            starts = True
        while len(rest) > LINE_CHARACTERS:
            yield _Line(rest[:LINE_CHARACTERS], starts, False)
            rest, starts = rest[LINE_CHARACTERS:], False
    yield from _pieces(rest, starts)


def _pieces(text: str, starts: bool) -> Iterator[_Line]:
    """The rest of a line that ends here, in pieces."""
    while len(text) > LINE_CHARACTERS:
        yield _Line(text[:LINE_CHARACTERS], starts, False)
        text, starts = text[LINE_CHARACTERS:], False
    yield _Line(text, starts, True)
