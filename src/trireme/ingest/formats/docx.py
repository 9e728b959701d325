"""DOCX: the XML parts of the archive within a limit, then python-docx."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from trireme.errors import DocumentError
from trireme.ingest.formats.content import Content
from trireme.ingest.formats.text import clean, clean_title, too_large
from trireme.ingest.source import Limits

if TYPE_CHECKING:
    from docx.document import Document as WordDocument

# Word writes a few dozen files; each picture is one.
MOST_FILES = 10_000
# Word's XML shrinks to a tenth or twentieth; a bomb to a thousandth.
MOST_RATIO = 200
# Below this no ratio is suspicious: an empty styles part of a few kilobytes shrinks well.
RATIO_FROM = 1 << 20
INFLATE_BYTES = 1 << 18
XML = (".xml", ".rels")
DOCTYPES = tuple("<!DOCTYPE".encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be"))
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
NOT_READABLE = "it is not a DOCX file that can be read"


def read_docx(file: BinaryIO, limits: Limits) -> Content:
    """Title and text: headings as Markdown ones, a line to each table row, paragraphs apart.

    Pictures, headers, footers and notes are left out. Raises DocumentError before anything large is unpacked.
    """
    import docx
    from docx.opc.exceptions import PackageNotFoundError
    from lxml.etree import LxmlError

    try:
        document = docx.Document(_xml_parts_alone(file, limits))
        blocks = list(_blocks(document))
        title = clean_title(document.core_properties.title or "")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, PackageNotFoundError):
        raise DocumentError(NOT_READABLE) from None
    except LxmlError as error:
        raise DocumentError(f"its XML is broken: {clean(str(error))}") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        # python-docx meets packages without the parts it looks for with whatever it happened to do.
        raise DocumentError("it is a damaged DOCX file, or not a Word document") from None
    title = title or next((clean_title(text[2:]) for text in blocks if text.startswith("# ")), "")
    return Content(title, (text + "\n\n" * (n < len(blocks)) for n, text in enumerate(blocks, 1)))


def _xml_parts_alone(file: BinaryIO, limits: Limits) -> io.BytesIO:
    """The same package with every part that is not XML empty, so that only text takes memory."""
    copy = io.BytesIO()
    room = limits.parsed_bytes
    with zipfile.ZipFile(file) as package, zipfile.ZipFile(copy, "w") as plain:
        entries = package.infolist()
        if len(entries) > MOST_FILES:
            raise DocumentError(f"its archive holds {len(entries):,} files, more than {MOST_FILES:,}")
        if any(entry.flag_bits & 1 for entry in entries):
            raise DocumentError("it is encrypted; save a copy without a password")
        parts = {entry.filename: entry for entry in entries if entry.filename.lower().endswith(XML)}
        if len({entry.filename for entry in entries}) < len(entries):
            raise DocumentError(NOT_READABLE)
        if sum(entry.file_size for entry in parts.values()) > limits.parsed_bytes:
            raise DocumentError(too_large("its XML", limits))
        for entry in entries:
            data = _inflate(package, entry, room, limits) if entry.filename in parts else b""
            room -= len(data)
            plain.writestr(entry.filename, data)
    copy.seek(0)
    return copy


def _inflate(package: zipfile.ZipFile, entry: zipfile.ZipInfo, room: int, limits: Limits) -> bytes:
    """One part, bounded by what comes out of it: the archive's own directory may lie."""
    most = max(RATIO_FROM, MOST_RATIO * entry.compress_size)
    data = bytearray()
    with package.open(entry) as opened:
        while block := opened.read(INFLATE_BYTES):
            data += block
            if len(data) > room:
                raise DocumentError(too_large("its XML", limits))
            if len(data) > most:
                raise DocumentError(
                    f"{clean_title(entry.filename)} unpacks to more than {MOST_RATIO} times its size, as a zip"
                    " bomb does"
                )
    if any(declaration in data for declaration in DOCTYPES):
        raise DocumentError(
            f"{clean_title(entry.filename)} holds a DOCTYPE, through which XML includes other files;"
            " Word writes none"
        )
    return bytes(data)


def _blocks(document: WordDocument) -> Iterator[str]:
    from docx.oxml.ns import qn

    # Text boxes are written twice, the second time for old versions of Word.
    for fallback in list(document.element.body.iter(FALLBACK)):
        fallback.getparent().remove(fallback)
    levels = {style.style_id: _level(style.name or "") for style in document.styles}
    pending: list[Any] = list(reversed(document.element.body))
    while pending:
        element = pending.pop()
        if element.tag == qn("w:p"):
            text = " ".join(_words(element).split("\n"))
            if text.strip():
                level = levels.get(element.style or "", 0)
                yield f"{'#' * level} {text.strip()}" if level else text.strip()
        elif element.tag == qn("w:tbl"):
            rows = [_row(row) for row in element.iterchildren(qn("w:tr"))]
            yield from ("\n".join(row for row in rows if row),) if any(rows) else ()
        elif element.tag in {qn("w:sdt"), qn("w:sdtContent"), qn("w:customXml"), qn("w:ins")}:
            # Frames around paragraphs: content controls, tables of contents.
            pending.extend(reversed(element))


def _words(paragraph: Any) -> str:
    """The text of a paragraph element, of its links, fields and insertions too; not what was deleted."""
    from docx.oxml.ns import qn

    texts = {qn("w:t"): None, qn("w:tab"): "\t", qn("w:br"): "\n", qn("w:cr"): "\n"}
    return clean("".join(texts[e.tag] or e.text or "" for e in paragraph.iter(*texts)))


def _row(row: Any) -> str:
    from docx.oxml.ns import qn

    cells = (" ".join(_words(p) for p in cell.iter(qn("w:p"))) for cell in row.iterchildren(qn("w:tc")))
    return " | ".join(" ".join(cell.split()) for cell in cells if cell.strip())


def _level(style: str) -> int:
    """1 to 6 for the styles "Title", "Heading 1" and so on, 0 for others. Names are English in every Word."""
    name, _, number = style.lower().partition(" ")
    if name == "title" and not number:
        return 1
    return min(int(number), 6) if name == "heading" and number.isdecimal() and int(number) else 0
