"""Markdown files: front matter, and the text without what no reader sees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

from trireme.documents.formats.content import Content
from trireme.documents.formats.front_matter import split_front_matter
from trireme.documents.formats.text import clean_title, decode_blocks, read_blocks
from trireme.documents.markdown import Window, inline_parser, read_windows
from trireme.documents.source import Limits

if TYPE_CHECKING:
    from markdown_it.token import Token

# A heading after this much text is none of the whole document.
TITLE_WITHIN = 1 << 20
# Comments inside a longer paragraph stay: looking for them takes the square of its length.
COMMENTED_CHARACTERS = 1 << 12


def read_markdown(file: BinaryIO, _: Limits) -> Content:
    """The title is that of the front matter, else the first heading of the first level in the first megabyte.

    What else the front matter says is `extra`. Comments and link definitions are left out; the rest is as it is
    written. Raises DocumentError, also from the parts.
    """
    parts = decode_blocks(read_blocks(file))
    first = next(parts, "")
    front, body = split_front_matter(first)
    windows = read_windows(chain((body,), parts))
    begin: list[Window] = []
    size = 0
    title = front.title
    while not title and size < TITLE_WITHIN and (window := next(windows, None)):
        begin.append(window)
        size += sum(len(line.text) for line in window.lines)
        title = next((one.title for one in window.headings.values() if one.level == 1 and one.title), "")
    return Content(clean_title(title), _texts(chain(begin, windows)), front.extra)


def _texts(windows: Iterable[Window]) -> Iterator[str]:
    """The text of each window. The last line ends as it does in the file: without a line end."""
    end = ""
    for window in windows:
        text = end + _visible_text(window)
        end = "\n" if text.endswith("\n") else ""
        yield text[: len(text) - len(end)]


def _visible_text(window: Window) -> str:
    """The window's lines without comments and link definitions."""
    lines = [line.text + "\n" * line.ends for line in window.lines]
    for first, last in _definitions(window):
        for place in range(*_span(window, first, last)):
            lines[place] = ""
    for token in window.tokens:
        if token.map and "<!--" in token.content:
            start, end = _span(window, *token.map)
            lines[start:end] = _without_comments(lines[start:end], token)
    return "".join(lines)


def _definitions(window: Window) -> Iterator[tuple[int, int]]:
    found = [*window.env.get("references", {}).values(), *window.env.get("duplicate_refs", ())]
    # What waits for the next window is told again there.
    end = window.skipped + sum(line.starts for line in window.lines)
    for definition in found:
        first, last = definition["map"]
        if not window.skipped <= first < end:
            continue
        # A note of one word, [^1]: word, is no link.
        if not window.lines[window.places[first - window.skipped]].text.lstrip(" >").startswith("[^"):
            yield first, last


def _span(window: Window, first: int, last: int) -> tuple[int, int]:
    """Positions in the window's lines of markdown-it's lines `first` to `last`."""
    places = window.places
    first, last = max(first - window.skipped, 0), max(last - window.skipped, 0)
    end = places[last] if last < len(places) else len(window.lines)
    return (places[first], min(end, len(window.lines))) if first < len(places) else (0, 0)


def _without_comments(lines: list[str], token: Token) -> list[str]:
    """As many lines, of which some may be empty. What is above a comment and what is below it stay apart."""
    text = "".join(lines)
    if token.type == "html_block":
        text = _outside_comments(text)
        if not token.content.lstrip().startswith("<!--"):
            # Inside other HTML an empty line would end it.
            text = re.sub(r"\n[ \t]*(?=\n)", "", text)
    elif token.type == "inline" and len(text) <= COMMENTED_CHARACTERS:
        for comment in _inline_comments(token):
            before, _, after = text.partition(comment)
            text = before + after
    else:
        return lines
    return [text, *[""] * (len(lines) - 1)]


def _outside_comments(text: str) -> str:
    """HTML without its comments; one that does not end is text."""
    kept: list[str] = []
    place = 0
    while (start := text.find("<!--", place)) >= 0:
        end = text.find("-->", start + 2)
        if end < 0:
            break
        kept.append(text[place:start])
        place = end + 3
    return "".join(kept) + text[place:]


def _inline_comments(token: Token) -> Iterable[str]:
    """Comments inside a paragraph; the same in a span of code is none."""
    (inline,) = inline_parser().parseInline(token.content)
    children = inline.children or []
    code = {child.content for child in children if child.type == "code_inline"}
    for child in children:
        is_comment = child.type == "html_inline" and child.content.startswith("<!--")
        if is_comment and not any(child.content in text for text in code):
            # Lines of a quote or a list have signs between them that the comment's text has not.
            yield child.content
