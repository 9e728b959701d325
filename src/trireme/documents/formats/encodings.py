"""Encodings of HTML pages as browsers read them: WHATWG's labels, each as the superset that browsers decode."""

from __future__ import annotations

import codecs
import re
from html.parser import HTMLParser
from typing import BinaryIO

from trireme.documents.formats.text import MARKS, decode_blocks, read_blocks
from trireme.errors import DocumentError

# Where a page has to say what it is. Browsers ask for the first 1,024 bytes, and begin anew for a later one.
DECLARED_WITHIN = 1 << 13
XML_DECLARATION = re.compile(rb"\s*<\?xml\b[^>]*?\bencoding\s*=\s*[\"']([^\"'>]{1,60})[\"']")
CHARSET = re.compile(r"charset\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s;\"']+))", re.IGNORECASE)
# A text of other letters is hardly ever UTF-8 by chance for this long.
CHANCE_BYTES = 24
ASCII = bytes(range(0x80))

# What Python has under the name is a part of what browsers mean by it.
SUPERSETS = {
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "euc-jp": "euc_jp",
    "iso-2022-jp": "iso2022_jp_ext",
    "iso-8859-8-i": "iso8859-8",
    "windows-874": "cp874",
    "macintosh": "mac-roman",
    "x-mac-cyrillic": "mac-cyrillic",
    "ibm866": "cp866",
    # A page whose declaration could be read byte by byte is not that.
    "utf-16le": "utf-8",
    "utf-16be": "utf-8",
    "x-user-defined": "windows-1252",
}
MANY_BYTES = frozenset(("gb18030", "big5hkscs", "cp949", "cp932", "euc_jp", "iso2022_jp_ext"))
BROWSER = "trireme-browser"


def find_encoding(file: BinaryIO) -> str:
    """The codec to decode a page with, under the error handler BROWSER. Leaves the file at its start.

    A mark at the start counts first, then UTF-8 if the page is that beyond chance, then what it says. Raises
    DocumentError naming the byte that is no text, or a label that browsers do not know.
    """
    start = file.read(DECLARED_WITHIN)
    file.seek(0)
    if start.startswith((codecs.BOM_UTF8, *(mark for mark, _ in MARKS))):
        return "utf-8"
    declared, unknown = _declared(start)
    try:
        others = _count_others(file)
    except DocumentError:
        if declared in {"", "utf-8"}:
            if unknown and b"\x00" not in start:
                raise DocumentError(
                    f"it says that it is {unknown}, which browsers do not know; convert it to UTF-8"
                ) from None
            raise
        return declared
    finally:
        file.seek(0)
    in_doubt = others < CHANCE_BYTES and (others > 0 or declared == "iso2022_jp_ext")
    return declared if declared in MANY_BYTES and in_doubt and _decodes(file, declared) else "utf-8"


def _count_others(file: BinaryIO) -> int:
    """How many bytes beyond ASCII a page in UTF-8 has. Raises DocumentError for any other page."""
    for _ in decode_blocks(read_blocks(file)):
        pass
    file.seek(0)
    return sum(len(block.translate(None, ASCII)) for block in read_blocks(file))


def _decodes(file: BinaryIO, encoding: str) -> bool:
    try:
        for _ in decode_blocks(read_blocks(file), encoding, BROWSER):
            pass
    except DocumentError:
        return False
    finally:
        file.seek(0)
    return True


def _declared(start: bytes) -> tuple[str, str]:
    """The codec that a page says it is in, and the first label that nobody knows; each may be ""."""
    finder = _Declarations()
    finder.feed(start.decode("latin-1"))
    labels = finder.labels
    if found := XML_DECLARATION.match(start):
        labels.append(found[1].decode("latin-1"))
    codec = next((codec for label in labels if (codec := codec_of(label))), "")
    unknown = next((label for label in labels if not codec_of(label)), "")
    return codec, unknown[:40] if not codec else ""


def codec_of(label: str) -> str:
    """Python's codec for a label as browsers read it, "" for one that they do not know or do not decode."""
    import webencodings

    found = webencodings.lookup(label)
    if found is None or found.name == "replacement":
        return ""
    name = str(found.name)
    return SUPERSETS.get(name, name)


class _Declarations(HTMLParser):
    """The labels of a page's meta elements, in order; comments hold none."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser."""
        if tag != "meta":
            return
        given = {name: value or "" for name, value in reversed(attrs)}
        if "charset" in given:
            self.labels.append(given["charset"])
        elif given.get("http-equiv", "").strip().lower() == "content-type":
            found = CHARSET.search(given.get("content", ""))
            if found:
                self.labels.append(next(label for label in found.groups() if label is not None))


def _decode_rest(error: UnicodeError) -> tuple[str, int]:
    """What browsers decode and Python's codec of the encoding does not."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    first, pair = error.object[error.start], bytes(error.object[error.start : error.start + 2])
    try:
        if error.encoding == "charmap" and 0x80 <= first <= 0x9F:
            # Holes of the Windows tables are control characters.
            return chr(first), error.start + 1
        if error.encoding == "gb18030" and first == 0x80:
            return "€", error.start + 1
        if error.encoding == "big5hkscs":
            return pair.decode("cp950"), error.start + 2
        if error.encoding in {"euc_jp", "iso2022_jp_ext"} and len(pair) == 2:
            return _decode_kuten(pair[0] & 0x7F, pair[1] & 0x7F), error.start + 2
    except UnicodeDecodeError:
        pass
    raise error


def _decode_kuten(row: int, cell: int) -> str:
    """A character of NEC's and IBM's rows, which Windows added to JIS X 0208, by its bytes 0x21 to 0x7E."""
    if not (0x21 <= row <= 0x7E and 0x21 <= cell <= 0x7E):
        raise UnicodeDecodeError("euc_jp", bytes((row, cell)), 0, 2, "no character")
    lead = (row - 0x21) // 2 + (0x81 if row < 0x5F else 0xC1)
    trail = cell + 0x7E if row % 2 == 0 else cell + 0x1F + (cell >= 0x60)
    return bytes((lead, trail)).decode("cp932")


codecs.register_error(BROWSER, _decode_rest)
