"""HTML pages of any size, read as a stream of tags by libxml2."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from trireme.documents.formats.content import Content
from trireme.documents.formats.encodings import BROWSER, find_encoding
from trireme.documents.formats.text import clean, clean_title, decode_blocks, read_blocks
from trireme.documents.markdown import HEADING_CHARACTERS, heading_line, literal
from trireme.documents.source import Limits
from trireme.errors import DocumentError

# fmt: off
# A page's own navigation and code say nothing about its subject; a browser shows nothing of most of the others.
NOISE = frozenset((
    "aside", "audio", "canvas", "datalist", "footer", "head", "iframe", "nav", "noembed", "noframes", "noscript",
    "rp", "script", "style", "svg", "template", "video",
))
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
BLOCKS = frozenset((
    "address", "article", "blockquote", "body", "br", "button", "caption", "center", "dd", "details", "dialog",
    "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "form", "header", "hgroup", "hr", "legend", "li",
    "main", "menu", "ol", "optgroup", "option", "p", "plaintext", "search", "section", "select", "summary", "table",
    "tbody", "tfoot", "thead", "tr", "ul",
))
# Their lines are shown as they are.
KEPT_LINES = frozenset(("pre", "listing", "textarea", "xmp"))
# They hold nothing, whether they are closed or not.
VOID = frozenset((
    "area", "base", "col", "embed", "frame", "img", "input", "link", "meta", "param", "source", "track", "wbr",
))
# fmt: on
CELLS = frozenset(("td", "th"))
PARAGRAPH_CHARACTERS = 1 << 16
# Lists of paragraphs that wait to be taken, each of what a block of the file held.
MOST_WAITING = 2
WAIT_SECONDS = 0.05
UNSEEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
SOFT_HYPHEN = "\u00ad"


def read_html(file: BinaryIO, _: Limits) -> Content:
    """Title and text of a page, with its headings as Markdown ones so that chunking sees them."""
    page = _Page()
    paragraphs = _paragraphs(file, page)
    # The title is known once there is text.
    first = next(paragraphs, "")
    return Content(clean_title(page.title.replace(SOFT_HYPHEN, "")), _apart(first, paragraphs))


def _apart(before: str, rest: Iterator[str]) -> Iterator[str]:
    """An empty line between two paragraphs; a long one's pieces end with a space and stay together."""
    for paragraph in rest:
        yield before if before.endswith(" ") else before + "\n\n"
        before = paragraph
    yield before


def _paragraphs(file: BinaryIO, page: _Page) -> Iterator[str]:
    encoding = find_encoding(file)
    reading = _Reading(decode_blocks(read_blocks(file), encoding, BROWSER), page)
    try:
        yield from reading.paragraphs()
    finally:
        reading.stop()


class _Reading:
    """libxml2 at work in a thread of its own, from which paragraphs come as they are finished.

    It forgets what it has read only where it asks for bytes itself; what it is fed it keeps to the end.
    """

    def __init__(self, blocks: Iterator[str], page: _Page) -> None:
        self._blocks = blocks
        self._page = page
        self._rest = b""
        self._is_stopped = False
        self._error: BaseException | None = None
        # None comes last.
        self._found: queue.Queue[list[str] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="html", daemon=True)

    def paragraphs(self) -> Iterator[str]:
        """All of the page's. Raises DocumentError where it cannot be read, and what reading the file raises."""
        self._thread.start()
        while (found := self._found.get()) is not None:
            yield from found
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Ends the thread, which reads no more of the file. Blocks until it has ended."""
        self._is_stopped = True
        while self._thread.is_alive():
            try:
                # It may wait for room.
                self._found.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                continue

    def read(self, size: int) -> bytes:
        """Called by libxml2: the next bytes, in UTF-8."""
        while not self._rest and not self._is_stopped:
            if done := self._page.take():
                self._found.put(done)
            block = next(self._blocks, None)
            if block is None:
                break
            self._rest = block.encode()
        given, self._rest = self._rest[:size], self._rest[size:]
        return b"" if self._is_stopped else given

    def _run(self) -> None:
        from lxml import etree

        parser = etree.HTMLParser(target=self._page, huge_tree=True, encoding="utf-8")
        try:
            etree.parse(self, parser)
        except etree.LxmlError:
            # libxml2 reads nearly anything as HTML; a text of no tag at all is such a thing as well.
            self._error = DocumentError("it is not a page that can be read")
        except BaseException as error:
            # Raised where the paragraphs are asked for.
            self._error = error
        finally:
            self._page.finish()
            self._found.put(self._page.take())
            self._found.put(None)


class _Page:
    """What libxml2 tells of a page, as paragraphs."""

    def __init__(self) -> None:
        self.title = ""
        # The outermost element that is not shown, and how many are open from there on.
        self._unseen = ""
        self._unseen_depth = 0
        self._inside_title = False
        self._kept_lines = 0
        self._words: list[str] = []
        # How the characters before are read: the text of rt elements, until their ruby ends.
        self._spoken: list[str] = []
        self._is_spoken = False
        self._size = 0
        self._level = 0
        self._is_cut = False
        self._done: list[str] = []

    def take(self) -> list[str]:
        """The paragraphs that are finished."""
        done, self._done = self._done, []
        return done

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Called by the parser."""
        if tag in VOID:
            return
        if self._unseen:
            self._unseen_depth += 1
            self._inside_title = tag == "title" and self._unseen == "head" and not self.title
        elif tag in NOISE or _is_hidden(tag, attributes):
            self._unseen, self._unseen_depth = tag, 1
        elif tag == "title":
            self._inside_title = not self.title
        else:
            self._start_shown(tag)

    def _start_shown(self, tag: str) -> None:
        if tag in HEADINGS:
            self.finish()
            self._level = int(tag[1])
        elif tag == "br" and (self._level or self._kept_lines):
            self.data("\n")
        elif tag in BLOCKS:
            self.finish()
        elif tag in KEPT_LINES:
            self.finish()
            self._kept_lines += 1
        elif tag in CELLS:
            self.data(" ")
        elif tag == "rt":
            self._is_spoken = True

    def end(self, tag: str) -> None:
        """Called by the parser."""
        if tag in VOID:
            return
        if tag == "title":
            self._inside_title = False
        if self._unseen:
            self._unseen_depth -= 1
            if self._unseen_depth == 0:
                self._unseen = ""
        elif tag in KEPT_LINES:
            self.finish()
            self._kept_lines = max(self._kept_lines - 1, 0)
        elif tag in HEADINGS or (tag in BLOCKS and tag != "br"):
            self.finish()
        elif tag == "rt":
            self._is_spoken = False
        elif tag == "ruby" and self._spoken:
            spoken, self._spoken = "".join(self._spoken), []
            self.data(f"({spoken.strip()})")

    def data(self, text: str) -> None:
        """Called by the parser."""
        if self._inside_title:
            self.title += text[: PARAGRAPH_CHARACTERS - len(self.title)]
        elif self._unseen:
            return
        elif self._is_spoken and sum(map(len, self._spoken)) < HEADING_CHARACTERS:
            self._spoken.append(text)
        else:
            self._words.append(text)
            self._size += len(text)
            if self._size > PARAGRAPH_CHARACTERS:
                self._cut()

    def close(self) -> None:
        """Called by the parser."""

    def finish(self) -> None:
        """Ends the paragraph."""
        text = self._text("".join(self._words))
        # What goes on after a cut stands in the middle of a line.
        if text and self._level and len(text) <= HEADING_CHARACTERS and not self._is_cut:
            self._done.append(heading_line(self._level, text.removesuffix("¶").rstrip()))
        elif self._is_cut:
            # Empty where the pieces were all of it: the paragraph ends all the same.
            self._done.append(text)
        elif text:
            self._done.append(literal(text))
        self._words, self._size, self._level, self._is_cut = [], 0, 0, False
        self._spoken, self._is_spoken = [], False

    def _cut(self) -> None:
        """Hands on all but the last word of a paragraph that grows too long."""
        text = "".join(self._words)
        end = max(text.rfind(" "), text.rfind("\n")) + 1 or len(text)
        if words := self._text(text[:end]):
            self._done.append((words if self._is_cut else literal(words)) + " ")
            self._is_cut = True
        self._words, self._size, self._level = [text[end:]], len(text) - end, 0

    def _text(self, text: str) -> str:
        """As it is shown: white space is one space, except where lines are kept."""
        text = clean(text).replace(SOFT_HYPHEN, "")
        if self._kept_lines:
            return "\n".join(line.rstrip() for line in text.strip("\n").split("\n")).rstrip()
        return " ".join(text.split())


def _is_hidden(tag: str, attributes: Mapping[str, str]) -> bool:
    if tag in {"html", "body", "br", "hr"}:
        return False
    if "hidden" in attributes and attributes["hidden"].lower() != "until-found":
        return True
    if tag == "dialog" and "open" not in attributes:
        return True
    return UNSEEN_STYLE.search(attributes.get("style", "")) is not None
