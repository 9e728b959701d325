"""DOCX: the text that Word shows, from the XML of the document, its styles and its notes."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from trireme.documents.formats.content import Content
from trireme.documents.formats.docx_styles import Styles
from trireme.documents.formats.docx_text import Story, Text
from trireme.documents.formats.html import read_html
from trireme.documents.formats.ooxml import DAMAGED, NOT_READABLE, Package, attribute, name_of
from trireme.documents.formats.text import clean, clean_title, decode_blocks
from trireme.documents.markdown import HEADING_CHARACTERS, heading_line, literal
from trireme.documents.source import Limits
from trireme.errors import DocumentError

# .docx and .dotx, .docm and .dotm: macros are never run.
WORD_TYPES = frozenset((
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml",
    "application/vnd.ms-word.document.macroEnabled.main+xml",
    "application/vnd.ms-word.template.macroEnabledTemplate.main+xml",
))  # fmt: skip
NOTES = {"footnotes": "w:footnote", "endnotes": "w:endnote"}


def read_docx(file: BinaryIO, limits: Limits) -> Content:
    """Title and text: headings as Markdown ones, a line to each table row, notes below their paragraph.

    Deleted and hidden text, comments, headers, footers, pictures and the numbers of lists are left out. Raises
    DocumentError before anything large is unpacked.
    """
    return _read(file, limits, is_included=False)


def _read(file: BinaryIO, limits: Limits, is_included: bool) -> Content:
    from lxml.etree import LxmlError

    try:
        package = Package(file, limits)
        main = _main_part(package)
        texts = list(_document_texts(package, main, limits, is_included))
        title = _core_title(package)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        raise DocumentError(NOT_READABLE) from None
    except LxmlError as error:
        raise DocumentError(f"its XML is broken: {clean(str(error))}") from None
    except (ValueError, RecursionError):
        raise DocumentError(DAMAGED) from None
    title = title or next((clean_title(text.text) for text in texts if text.level == 1), "")
    return Content(title, _parts(texts))


def _main_part(package: Package) -> str:
    said = [part for kind, part in package.relationships("").values() if kind == "officeDocument"]
    part = next(iter(said), "word/document.xml")
    if package.content_type(part) not in WORD_TYPES or not package.has(part):
        raise DocumentError(DAMAGED)
    return part


def _core_title(package: Package) -> str:
    for kind, part in package.relationships("").values():
        root = package.parse(part) if kind == "core-properties" else None
        for element in () if root is None else root:
            if name_of(element.tag) == "title":
                return clean_title(element.text or "")
    return ""


def _document_texts(package: Package, main: str, limits: Limits, is_included: bool) -> Iterator[Text]:
    root = package.parse(main)
    if root is None or name_of(root.tag) != "w:document":
        raise DocumentError(DAMAGED)
    links = package.relationships(main)
    parts = {kind: part for kind, part in links.values()}
    styles = Styles(package.parse(parts["styles"]) if "styles" in parts else None)
    notes: dict[str, dict[str, Any]] = {}
    for kind, tag in NOTES.items():
        found = package.parse(parts[kind]) if kind in parts else None
        notes[kind] = (
            {} if found is None else {attribute(e, "w:id"): e for e in found if name_of(e.tag) == tag}
        )

    def include(link: str) -> list[Text]:
        kind, part = links.get(link, ("", ""))
        return _included(package, part, limits, is_included) if kind == "aFChunk" else []

    yield from Story(styles, notes["footnotes"], notes["endnotes"], include).texts(root)


def _included(package: Package, part: str, limits: Limits, is_included: bool) -> list[Text]:
    """The text of a file that the document includes whole (w:altChunk). One that is included includes no other."""
    data = package.read(part) or b""
    kind = package.content_type(part).lower()
    suffix = part.lower().rpartition(".")[2]
    if suffix in {"mht", "mhtml"} or kind in {"message/rfc822", "multipart/related"}:
        data = _page_of_archive(data)
        kind = "text/html"
    if kind in {"text/html", "application/xhtml+xml"} or suffix in {"html", "htm", "xhtml"}:
        parts = read_html(io.BytesIO(data), limits).parts
    elif kind in WORD_TYPES or suffix in {"docx", "docm", "dotx", "dotm"}:
        parts = iter(()) if is_included else _read(io.BytesIO(data), limits, is_included=True).parts
    elif kind == "text/plain" or suffix == "txt":
        parts = (literal(text) for text in decode_blocks(iter((data,))))
    else:
        raise DocumentError(
            f"it includes {clean_title(part)}, which is no HTML, DOCX or text; open it in Word and save it again"
        )
    return [Text("".join(parts), is_markdown=True)]


def _page_of_archive(data: bytes) -> bytes:
    """The first page of a web archive (MHTML), in UTF-8."""
    from email import message_from_bytes
    from email.policy import default

    for part in message_from_bytes(data, policy=default).walk():
        if part.get_content_type() == "text/html":
            body = part.get_payload(decode=True)
            charset = part.get_content_charset() or "utf-8"
            try:
                return bytes(body).decode(charset).encode() if isinstance(body, bytes) else b""
            except (LookupError, UnicodeDecodeError):
                return bytes(body) if isinstance(body, bytes) else b""
    return b""


def _parts(texts: list[Text]) -> Iterator[str]:
    for number, text in enumerate(texts, 1):
        end = "\n\n" if number < len(texts) else ""
        if text.level and len(text.text) <= HEADING_CHARACTERS:
            yield heading_line(text.level, " ".join(text.text.split())) + end
        else:
            yield (text.text if text.is_markdown else literal(text.text)) + end
