"""HTML pages of any size, read as a stream of tags by libxml2."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from trireme.errors import DocumentError
from trireme.ingest.formats.content import Content
from trireme.ingest.formats.text import clean, clean_title, decode_blocks, read_blocks
from trireme.ingest.source import Limits

# A page's own navigation and code say nothing about its subject; what a page's head holds is not its text.
NOISE = frozenset(("head", "script", "style", "noscript", "template", "nav", "footer", "aside", "svg"))
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
# fmt: off
BLOCKS = frozenset((
    "address", "article", "blockquote", "body", "br", "caption", "center", "dd", "div", "dl", "dt", "fieldset",
    "figcaption", "figure", "form", "header", "hr", "li", "main", "ol", "p", "pre", "section", "table", "tr", "ul",
))
# fmt: on
CELLS = frozenset(("td", "th"))
PARAGRAPH_CHARACTERS = 1 << 16
DECLARED = re.compile(rb"charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
DECLARED_WITHIN = 2048


def read_html(file: BinaryIO, _: Limits) -> Content:
    """Title and text of a page, with its headings as Markdown ones so that chunking sees them."""
    page = _Page()
    paragraphs = _paragraphs(file, page)
    # The title is known once there is text.
    first = next(paragraphs, "")
    return Content(clean_title(page.title), _apart(first, paragraphs))


def _apart(before: str, rest: Iterator[str]) -> Iterator[str]:
    """An empty line between two paragraphs; a long one's pieces end with a space and stay together."""
    for paragraph in rest:
        yield before if before.endswith(" ") else before + "\n\n"
        before = paragraph
    yield before


def _paragraphs(file: BinaryIO, page: _Page) -> Iterator[str]:
    from lxml import etree

    parser = etree.HTMLParser(target=page, huge_tree=True)
    encoding = _find_encoding(file)
    try:
        for block in decode_blocks(read_blocks(file), encoding):
            parser.feed(block)
            yield from page.take()
        parser.close()
    except etree.LxmlError:
        # libxml2 reads nearly anything as HTML; a text of no tag at all is such a thing as well.
        raise DocumentError("it is not a page that can be read") from None
    page.end("body")
    yield from page.take()


class _Page:
    """What libxml2 tells of a page, as paragraphs."""

    def __init__(self) -> None:
        self.title = ""
        self._noise: list[str] = []
        self._inside_title = False
        self._words: list[str] = []
        self._size = 0
        self._level = 0
        self._done: list[str] = []

    def take(self) -> list[str]:
        """The paragraphs that are finished."""
        done, self._done = self._done, []
        return done

    def start(self, tag: str, _: Any) -> None:
        if tag in NOISE:
            self._noise.append(tag)
        elif tag == "title":
            # A drawing has titles of its own.
            self._inside_title = not self.title and "svg" not in self._noise
        elif tag in HEADINGS:
            self._finish()
            self._level = int(tag[1])
        elif tag in BLOCKS:
            self._finish()
        elif tag in CELLS:
            self.data(" ")

    def end(self, tag: str) -> None:
        if self._noise and self._noise[-1] == tag:
            self._noise.pop()
        elif tag == "title":
            self._inside_title = False
        elif tag in HEADINGS or tag in BLOCKS:
            self._finish()

    def data(self, text: str) -> None:
        if self._inside_title:
            self.title += text[: PARAGRAPH_CHARACTERS - len(self.title)]
        elif not self._noise:
            self._words.append(text)
            self._size += len(text)
            if self._size > PARAGRAPH_CHARACTERS:
                self._cut()

    def close(self) -> None:
        """Called by the parser."""

    def _finish(self) -> None:
        words = " ".join(clean("".join(self._words)).split())
        if words:
            self._done.append(f"{'#' * self._level} {words}" if self._level else words)
        self._words, self._size, self._level = [], 0, 0

    def _cut(self) -> None:
        """Hands on all but the last word of a paragraph that grows too long."""
        text = clean("".join(self._words))
        end = max(text.rfind(" "), text.rfind("\n")) + 1 or len(text)
        if words := " ".join(text[:end].split()):
            self._done.append(words + " ")
        self._words, self._size, self._level = [text[end:]], len(text) - end, 0


def _find_encoding(file: BinaryIO) -> str:
    """UTF-8 if the page is that, else what the page says that it is. Leaves the file at its start.

    Raises DocumentError naming the byte that is no text.
    """
    start = file.read(DECLARED_WITHIN)
    file.seek(0)
    try:
        for _ in decode_blocks(read_blocks(file)):
            pass
    except DocumentError:
        declared = DECLARED.search(start)
        if not declared or b"\x00" in start:
            raise
    else:
        return "utf-8"
    finally:
        file.seek(0)
    label = declared[1].decode()
    try:
        name = codecs.lookup(label).name
        codecs.getincrementaldecoder(name)().decode(b"")
    except (LookupError, TypeError, ValueError, AttributeError):
        raise DocumentError(f"it says that it is {label}, which is not known; convert it to UTF-8") from None
    # What pages that say so are written in.
    return "cp1252" if name in {"iso8859-1", "ascii"} else name
