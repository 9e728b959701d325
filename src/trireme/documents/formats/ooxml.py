"""Packages of Office Open XML: parts within a limit, relationships, content types, names of both namespaces."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, BinaryIO
from urllib.parse import unquote

from trireme.documents.formats.text import clean_title, too_large
from trireme.documents.source import Limits
from trireme.errors import DocumentError

# Word writes a few dozen files; each picture is one.
MOST_FILES = 10_000
# Word's XML shrinks to a tenth or twentieth; a bomb to a thousandth.
MOST_RATIO = 200
# Below this no ratio is suspicious: an empty styles part of a few kilobytes shrinks well.
RATIO_FROM = 1 << 20
INFLATE_BYTES = 1 << 18
XML = (".xml", ".rels")
DOCTYPES = tuple("<!DOCTYPE".encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be"))
NOT_READABLE = "it is not a DOCX file that can be read"
DAMAGED = "it is a damaged DOCX file, or not a Word document"
# What holds an encrypted package, and also what Word wrote before 2007.
COMPOUND_FILE = bytes.fromhex("d0cf11e0a1b11ae1")

# The transitional namespaces and those of ISO's strict form.
_PREFIXES = {
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main": "w",
    "http://purl.oclc.org/ooxml/wordprocessingml/main": "w",
    "http://schemas.openxmlformats.org/officeDocument/2006/math": "m",
    "http://purl.oclc.org/ooxml/officeDocument/math": "m",
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships": "r",
    "http://purl.oclc.org/ooxml/officeDocument/relationships": "r",
    "http://schemas.openxmlformats.org/markup-compatibility/2006": "mc",
}


@lru_cache(4096)
def name_of(tag: Any) -> str:
    """`w:p` for an element's or attribute's tag of either namespace; the bare name in others."""
    uri, _, local = str(tag).rpartition("}")
    prefix = _PREFIXES.get(uri[1:])
    return f"{prefix}:{local}" if prefix else local


def attribute(element: Any, name: str) -> str:
    """The value of the attribute `w:val`, "" where there is none."""
    return next((str(value) for tag, value in element.items() if name_of(tag) == name), "")


def child(element: Any, *names: str) -> Any | None:
    """The first child of the name, and its first child of the next name, and so on."""
    found = element
    for name in names:
        found = next((one for one in found if name_of(one.tag) == name), None)
        if found is None:
            return None
    return found


class Package:
    """The parts of a package, unpacked one by one, together no more than `limits.parsed_bytes`.

    Raises DocumentError for what is no package, is encrypted or may be a bomb, also when a part is read;
    zipfile's errors for a torn one, and lxml's for XML that is broken.
    """

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        start = file.read(len(COMPOUND_FILE))
        file.seek(0)
        if start == COMPOUND_FILE:
            raise DocumentError(
                "it is encrypted, or a .doc of old Word; save a copy as .docx without a password"
            )
        self._zip = zipfile.ZipFile(file)
        self._limits = limits
        self._room = limits.parsed_bytes
        entries = self._zip.infolist()
        if len(entries) > MOST_FILES:
            raise DocumentError(f"its archive holds {len(entries):,} files, more than {MOST_FILES:,}")
        if any(entry.flag_bits & 1 for entry in entries):
            raise DocumentError("it is encrypted; save a copy without a password")
        # Names differ by more than case, and some programs write them with backslashes.
        self._entries = {_path(entry.filename).lower(): entry for entry in entries}
        if len(self._entries) < len(entries):
            raise DocumentError(NOT_READABLE)
        unpacked = sum(e.file_size for name, e in self._entries.items() if name.endswith(XML))
        if unpacked > limits.parsed_bytes:
            raise DocumentError(too_large("its XML", limits))
        types = self.parse("[Content_Types].xml")
        self._types = list(types) if types is not None else []

    def has(self, part: str) -> bool:
        """Whether there is such a part."""
        return part.lower() in self._entries

    def read(self, part: str) -> bytes | None:
        """The bytes of a part, None where it is missing."""
        entry = self._entries.get(part.lower())
        if entry is None:
            return None
        data = self._inflate(entry)
        self._room -= len(data)
        return data

    def parse(self, part: str) -> Any | None:
        """The root of an XML part, None where it is missing."""
        from lxml import etree

        data = self.read(part)
        if data is None:
            return None
        if any(mark in data for mark in DOCTYPES):
            raise DocumentError(
                f"{clean_title(part)} holds a DOCTYPE, through which XML includes other files; Word writes none"
            )
        parser = etree.XMLParser(
            resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True
        )
        return etree.fromstring(data, parser)

    def relationships(self, part: str) -> dict[str, tuple[str, str]]:
        """The last word of each relationship's type, and the part that it leads to, by id.

        Those that lead out of the package or to nothing are left out: the document is whole without them.
        """
        folder, name = posixpath.split(part)
        root = self.parse(posixpath.join(folder, "_rels", f"{name}.rels"))
        found = {}
        for one in () if root is None else root:
            target = _path(posixpath.join("/", folder, unquote(one.get("Target", ""))))
            if one.get("TargetMode") != "External" and self.has(target):
                found[one.get("Id", "")] = one.get("Type", "").rpartition("/")[2], target
        return found

    def content_type(self, part: str) -> str:
        """The content type of a part, "" where none is said."""
        suffix = posixpath.splitext(part)[1][1:].lower()
        by_suffix = ""
        for one in self._types:
            kind, said = name_of(one.tag), one.get("ContentType", "")
            if kind == "Override" and _path(one.get("PartName", "")).lower() == part.lower():
                return str(said)
            if kind == "Default" and one.get("Extension", "").lower() == suffix:
                by_suffix = said
        return by_suffix

    def _inflate(self, entry: zipfile.ZipInfo) -> bytes:
        """One part, bounded by what comes out of it: the archive's own directory may lie."""
        most = max(RATIO_FROM, MOST_RATIO * entry.compress_size)
        data = bytearray()
        for block in _inflated(self._zip, entry):
            data += block
            if len(data) > self._room:
                raise DocumentError(too_large("its XML", self._limits))
            if len(data) > most:
                raise DocumentError(
                    f"{clean_title(entry.filename)} unpacks to more than {MOST_RATIO} times its size, as a zip"
                    " bomb does"
                )
        return bytes(data)


def _inflated(package: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    with package.open(entry) as opened:
        yield from iter(lambda: opened.read(INFLATE_BYTES), b"")


def _path(name: str) -> str:
    """A part's name without the slash before it, and without `..`."""
    return posixpath.normpath("/" + name.replace("\\", "/")).lstrip("/")
