"""Headings and paragraphs of a text that comes in parts, in constant memory.

Every decision looks at the text alone, never at where a part ends, so that the same text gives the same blocks
however it is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from trireme.documents.markdown import (
    LINE_CHARACTERS,
    WINDOW_CHARACTERS,
    Heading,
    Line,
    read_windows,
    unescape,
)
from trireme.passage_text import SENTENCE_END

# Longer paragraphs are handed on in pieces, at the end of a sentence.
PARAGRAPH_CHARACTERS = 1 << 16


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, or a piece of a long one.

    `heading` is the path of headings above it, outermost first; `section` counts headings, as two may be equal.
    """

    section: int
    heading: tuple[str, ...]
    text: str
    ends_paragraph: bool


def blocks(parts: Iterable[str], window_characters: int = WINDOW_CHARACTERS) -> Iterator[Block]:
    """The paragraphs of Markdown, or of plain text, where they end at empty lines as well.

    Headings are those of CommonMark, outside code, HTML, quotes and lists. Those without any text under them are
    left out, unless there is nothing else. A backslash before the first sign of a line, which makes it text, is
    dropped; nothing else is changed.
    """
    outline, paragraph = _Outline(), _Paragraph()
    for window in read_windows(parts, window_characters):
        ends_at = 0
        for place, line in enumerate(window.lines):
            heading = window.headings.get(place)
            if heading is None and (not line.is_blank and place >= ends_at):
                paragraph.add(line if place in window.code or not line.starts else _unescaped(line))
                if text := paragraph.overflow():
                    yield outline.block(text, ends_paragraph=False)
                continue
            if text := paragraph.close():
                yield outline.block(text)
            if heading is not None:
                ends_at = place + heading.lines
                yield from outline.enter(heading, window.lines[place:ends_at])
    if text := paragraph.close():
        yield outline.block(text)
    yield from outline.close()


def _unescaped(line: Line) -> Line:
    text = unescape(line.text)
    return line if text is line.text else Line(text, line.starts, line.ends)


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

    def enter(self, heading: Heading, lines: Sequence[Line]) -> Iterator[Block]:
        """Opens a section. Gives the headings so far where nothing but headings has come for long."""
        self._section += 1
        self._path = [(above, title) for above, title in self._path if above < heading.level]
        if heading.title:
            self._path.append((heading.level, heading.title))
        if not self._has_text:
            self._bare += (line.text for line in lines)
            self._bare_size += sum(len(line.text) for line in lines)
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

    def add(self, line: Line) -> None:
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
