"""Text of any size, decoded block by block."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO

from trireme.documents.formats.content import Content
from trireme.documents.source import Limits
from trireme.errors import DocumentError

BLOCK_BYTES = 1 << 20
PART_CHARACTERS = 1 << 19
TITLE_CHARACTERS = 300

# UTF-32's mark begins with that of UTF-16.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(file: BinaryIO, _: Limits) -> Content:
    """No title; parts of about a megabyte, cut at line ends where there are any."""
    return Content("", decode_blocks(read_blocks(file)))


def read_blocks(file: BinaryIO) -> Iterator[bytes]:
    """The rest of a file, a megabyte at a time."""
    return iter(lambda: file.read(BLOCK_BYTES), b"")


def decode_blocks(blocks: Iterator[bytes], encoding: str = "utf-8", errors: str = "strict") -> Iterator[str]:
    """Text with plain line ends, in parts cut at line ends; marks of UTF-8, UTF-16 and UTF-32 are obeyed.

    Raises DocumentError naming the byte that is no text.
    """
    first = next(blocks, b"")
    encoding = next((name for mark, name in MARKS if first.startswith(mark)), encoding)
    if first.startswith(codecs.BOM_UTF8):
        first = first[len(codecs.BOM_UTF8) :]
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    rest, offset = "", 0
    for block in chain((first,), blocks, (b"",)):
        waiting = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            place = offset - waiting + error.start
            raise DocumentError(f"it is not {encoding.upper()} text (byte {place})") from None
        if "\x00" in text:
            raise DocumentError(
                f"it holds a NUL character (near byte {offset}): it is binary, or text in another encoding;"
                " convert it to UTF-8"
            )
        offset += len(block)
        text = rest + newlines.decode(text, final=not block)
        end = (text.rfind("\n") + 1 if block else 0) or len(text)
        rest = text[end:]
        if end:
            yield text[:end]


def clean(text: str) -> str:
    """Without NUL and lone surrogates, which no database stores, and with plain line ends."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    return text.encode("utf-8", "replace").decode()


def clean_title(text: str) -> str:
    """On one line, at most TITLE_CHARACTERS long."""
    return " ".join(clean(text).split())[:TITLE_CHARACTERS]


def gather(texts: Iterable[str]) -> Iterator[str]:
    """The same text in parts of at least PART_CHARACTERS, the last one excepted."""
    waiting: list[str] = []
    size = 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= PART_CHARACTERS:
            yield "".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield "".join(waiting)


def too_large(what: str, limits: Limits) -> str:
    """The message for a document that is too large to be held whole."""
    return (
        f"{what} has more than {limits.parsed_bytes:,} bytes, which are parsed at once; raise"
        " TRIREME_MAX_PARSED_BYTES (about ten times as much memory is used), or convert it to text"
    )
