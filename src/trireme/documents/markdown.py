"""The structure of Markdown by CommonMark's rules (and GitHub's tables), a window at a time, in constant memory.

Text of other formats is brought into Markdown too, by `heading_line` and `literal`, so that one rule cuts all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from trireme.passage_text import FENCE

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

# Longer lines are handed on in pieces; what they are is decided by the first one.
LINE_CHARACTERS = 1 << 14
# Lines that are looked at together. What ends in a window is decided there; the last block waits for the next one.
WINDOW_CHARACTERS = 1 << 17
# What looks like a heading and is longer is text.
HEADING_CHARACTERS = 300

CODE = frozenset(("fence", "code_block", "html_block"))
CONTAINERS = frozenset(("blockquote_open", "list_item_open"))
# `## Oars {#oars}`: an anchor of Docusaurus, Hugo, kramdown or pandoc, which no reader sees.
ATTRIBUTES = re.compile(r"(?<!\\)\{:?\s?[#.][^{}]*\}\s*$")
# The start of a line that is more than text to Markdown: a heading, a fence, HTML, a definition, a rule; with any
# backslashes before it, of which the first one makes it text.
_MARK = rf"\\*(?:\#{{1,6}}(?:\s|$)|{FENCE}|<[A-Za-z/!?]|\[[^\]\n]*\]:|[=-]+[ \t]*$)"
SPECIAL_LINE = re.compile(rf"^([ ]{{0,3}})(?={_MARK})", re.MULTILINE)
ESCAPED_LINE = re.compile(rf"^([ ]{{0,3}})\\(?={_MARK})")
PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


@dataclass(frozen=True, slots=True)
class Line:
    """A line, or a piece of a long one."""

    text: str
    starts: bool
    ends: bool

    @property
    def is_blank(self) -> bool:
        """Whether it is a whole line of white space."""
        return self.starts and self.ends and not self.text.strip()


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of the document's outline, not one inside a quote or a list. `title` is as a reader sees it."""

    level: int
    title: str
    lines: int


@dataclass(frozen=True, slots=True)
class Window:
    """Lines with what they are: headings by their first line, and lines of code and HTML, by position in `lines`.

    `tokens` are markdown-it's, with lines counted from `skipped` lines before the first of `lines`.
    """

    lines: tuple[Line, ...]
    headings: dict[int, Heading]
    code: frozenset[int]
    tokens: tuple[Token, ...]
    env: dict[str, Any]
    places: tuple[int, ...]
    skipped: int


def read_windows(parts: Iterable[str], characters: int = WINDOW_CHARACTERS) -> Iterator[Window]:
    """All lines of a text that comes in parts, in windows that do not depend on where the parts end.

    characters: of one window, more only where a single line has more.
    """
    waiting: list[Line] = []
    size = 0
    opening: list[str] = []
    for line in lines_of(parts):
        waiting.append(line)
        size += len(line.text) + 1
        if size >= characters:
            window, opening = _take(waiting, opening, is_last=False)
            yield window
            waiting = waiting[len(window.lines) :]
            size = sum(len(line.text) + 1 for line in waiting)
    yield _take(waiting, opening, is_last=True)[0]


def _take(lines: list[Line], opening: list[str], is_last: bool) -> tuple[Window, list[str]]:
    """What of `lines` is decided, and the lines that open again what is cut in two.

    That is all but the last block, which may go on, or all of it where there is nothing else.
    """
    places = [place for place, line in enumerate(lines) if line.starts]
    source = [*opening, *(lines[place].text.replace("\r", " ") for place in places)]
    env: dict[str, Any] = {}
    tokens = _parser().parse("\n".join(source) + "\n", env)
    skipped = len(opening)
    cut = len(source)
    if not is_last:
        starts = [token.map[0] for token in tokens if token.level == 0 and token.map]
        cut = starts[-1] if starts and starts[-1] > skipped else cut
    end = places[cut - skipped] if cut < len(source) else len(lines)
    kept = tuple(token for token in tokens if token.map is None or token.map[0] < cut)
    headings = {places[n - skipped]: heading for n, heading in _headings(kept) if n >= skipped}
    code = frozenset(
        places[n - skipped]
        for token in kept
        if token.type in CODE and token.map
        for n in range(max(token.map[0], skipped), min(token.map[1], len(source)))
    )
    window = Window(tuple(lines[:end]), headings, code, kept, env, tuple(places), skipped)
    return window, ([] if cut < len(source) or is_last else _open_lines(tokens, source))


def _headings(tokens: Iterable[Token]) -> Iterator[tuple[int, Heading]]:
    opened: Token | None = None
    for token in tokens:
        if token.type == "heading_open" and token.level == 0:
            opened = token
        elif token.type == "inline" and opened is not None and opened.map:
            first, last = opened.map
            if len(token.content) <= HEADING_CHARACTERS:
                yield first, Heading(int(opened.tag[1]), _title(token.content), last - first)
            opened = None


def _open_lines(tokens: list[Token], source: list[str]) -> list[str]:
    """The lines that opened the containers, the code and the HTML that the last line is in, outermost first."""
    found: list[int] = []
    for token in tokens:
        if not token.map or token.map[1] < len(source):
            continue
        if token.type in CONTAINERS or (token.type in CODE and not _is_closed(token)):
            found.append(token.map[0])
    return [source[line] for line in dict.fromkeys(found)]


def _is_closed(token: Token) -> bool:
    """Whether the code or HTML ends with its last line, which is that of the text so far."""
    from markdown_it.rules_block.html_block import HTML_SEQUENCES

    if token.type == "fence":
        first, last = token.map or [0, 0]
        return last - first == token.content.count("\n") + 2
    if token.type == "html_block":
        first_line, last_line = (
            token.content.split("\n", 1)[0],
            token.content.rstrip("\n").rsplit("\n", 1)[-1],
        )
        ends = next((end for start, end, _ in HTML_SEQUENCES if start.search(first_line.lstrip())), None)
        return ends is not None and bool(ends.search(last_line)) and bool(last_line)
    return True


def _title(content: str) -> str:
    """The text of a heading without its marks, tags and anchors, on one line."""
    (token,) = inline_parser().parseInline(ATTRIBUTES.sub("", content))
    return " ".join("".join(_visible(token.children or [])).split())


def _visible(tokens: Iterable[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type in {"softbreak", "hardbreak"}:
            yield " "
        elif token.type == "image":
            yield from _visible(token.children or [])
        elif token.type in {"text", "code_inline"}:
            yield token.content


def heading_line(level: int, title: str) -> str:
    """A heading whose title is `title`, whatever signs it holds. The title is one line."""
    line = f"{'#' * level} {title}"
    (window,) = read_windows((line,))
    found = window.headings.get(0)
    is_plain = found is None or found.title == title
    return line if is_plain else f"{'#' * level} {PUNCTUATION.sub(_escape, title)}"


def _escape(found: re.Match[str]) -> str:
    return "\\" + found[1]


def literal(text: str) -> str:
    """The same text for a reader of Markdown: a line that would be more than text begins with a backslash."""
    return SPECIAL_LINE.sub(r"\1\\", text)


def unescape(line: str) -> str:
    """A line of text (not of code) without the backslash that keeps its first sign from being a mark."""
    return ESCAPED_LINE.sub(r"\1", line) if line.lstrip(" ")[:1] == "\\" else line


def lines_of(parts: Iterable[str]) -> Iterator[Line]:
    """The lines of a text; at least one, which may be empty."""
    rest, starts = "", True
    for part in parts:
        *complete, rest = (rest + part).split("\n")
        for text in complete:
            yield from _pieces(text, starts)
            starts = True
        while len(rest) > LINE_CHARACTERS:
            yield Line(rest[:LINE_CHARACTERS], starts, False)
            rest, starts = rest[LINE_CHARACTERS:], False
    yield from _pieces(rest, starts)


def _pieces(text: str, starts: bool) -> Iterator[Line]:
    """The rest of a line that ends here, in pieces."""
    while len(text) > LINE_CHARACTERS:
        yield Line(text[:LINE_CHARACTERS], starts, False)
        text, starts = text[LINE_CHARACTERS:], False
    yield Line(text, starts, True)


@cache
def _parser() -> MarkdownIt:
    """Blocks alone: what is inside a paragraph does not matter to where it ends."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table").disable(["inline", "text_join"])


@cache
def inline_parser() -> MarkdownIt:
    """CommonMark's parser, for the text inside one block."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark")
