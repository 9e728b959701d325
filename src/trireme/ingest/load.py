"""Read documents from text, Markdown, HTML and PDF files, from folders of them, and from BEIR corpora."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trireme.errors import InvalidInputError, NotFoundError
from trireme.types import Document

CORPUS = "corpus.jsonl"
# A page's own navigation and code say nothing about its subject.
HTML_NOISE = ("script", "style", "noscript", "template", "nav", "footer", "aside", "svg")
HTML_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
HTML_BLOCKS = (
    "p",
    "li",
    "tr",
    "div",
    "section",
    "article",
    "blockquote",
    "dt",
    "dd",
    "br",
    "table",
    "ul",
    "ol",
)


@dataclass
class Skipped:
    """What `load` left out: files that could not be read, by name with the reason, and counts of suffixes."""

    files: list[tuple[str, str]] = field(default_factory=list)
    unknown_suffixes: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """How many files or corpus lines were left out."""
        return len(self.files) + sum(self.unknown_suffixes.values())

    def lines(self) -> tuple[str, ...]:
        """One line for each file with its reason, and one for each unknown suffix with its count."""
        named = [f"{name}: {reason}" for name, reason in self.files]
        counted = [f"{n} of unknown type {suffix}" for suffix, n in sorted(self.unknown_suffixes.items())]
        return (*named, *counted)


class _UnreadableError(Exception):
    """One file cannot be used; the text says why. Never leaves this module."""


def load(path: Path, skipped: Skipped | None = None) -> Iterator[Document]:
    """Documents of a file or, recursively and sorted, of a folder; ids are paths relative to it.

    A folder with corpus.jsonl, or such a file itself, is read as a BEIR corpus: one whole document per line
    under its own id. Files that cannot be read and unknown suffixes are added to `skipped`, not raised.
    Symbolic links that leave the folder are not followed. Raises NotFoundError if `path` does not exist.
    """
    skipped = Skipped() if skipped is None else skipped
    if not path.exists():
        raise NotFoundError(f"no file or folder {path}; check the path")
    if path.is_dir() and (path / CORPUS).is_file():
        path = path / CORPUS
    if path.suffix == ".jsonl":
        yield from _load_corpus(path, skipped)
        return
    if path.is_file() and path.suffix.lower() not in _READERS:
        raise InvalidInputError(
            f"cannot read {path.name}: known files are {', '.join(sorted(_READERS))}, {CORPUS}"
        )
    root = path if path.is_dir() else path.parent
    for file in _walk(path):
        name = file.relative_to(root).as_posix()
        if file.suffix.lower() not in _READERS:
            skipped.unknown_suffixes[file.suffix.lower() or "(none)"] += 1
            continue
        try:
            yield _read(file, name)
        except _UnreadableError as error:
            skipped.files.append((name, str(error)))


def _read(file: Path, name: str) -> Document:
    try:
        title, text = _READERS[file.suffix.lower()](file)
    except OSError as error:
        raise _UnreadableError(error.strerror or "it cannot be read") from None
    if not text.strip():
        raise _UnreadableError("it holds no text")
    name = _clean(name)
    return Document(id=name, title=title or Path(name).stem, text=text, source=name)


def _walk(path: Path) -> Iterator[Path]:
    """Files under `path` in sorted order, without hidden ones and without links that lead out of it."""
    if path.is_file():
        yield path
        return
    root = path.resolve()
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file() and file.resolve().is_relative_to(root):
                yield file


def _load_corpus(path: Path, skipped: Skipped) -> Iterator[Document]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield _corpus_document(json.loads(_decode(line)))
            except (ValueError, RecursionError, _UnreadableError) as error:
                reason = str(error) if isinstance(error, _UnreadableError) else "it is not JSON"
                skipped.files.append((f"{path.name}:{number}", reason))


def _corpus_document(fields: Any) -> Document:
    if not isinstance(fields, dict) or not isinstance(fields.get("text"), str) or "_id" not in fields:
        raise _UnreadableError("it is not an object with _id and text")
    identity, title, text = str(fields["_id"]), str(fields.get("title") or ""), _clean(fields["text"])
    if not identity or not (text.strip() or title.strip()):
        raise _UnreadableError("its _id or its text is empty")
    return Document(id=_clean(identity), title=_clean(title), text=text, source=_clean(identity), whole=True)


def _read_text(file: Path) -> tuple[str, str]:
    return "", _decode(file.read_bytes())


def _read_markdown(file: Path) -> tuple[str, str]:
    text = _decode(file.read_bytes())
    title = next((line[2:].strip() for line in text.splitlines() if line.startswith("# ")), "")
    return title, text


def _read_html(file: Path) -> tuple[str, str]:
    """Title and text of a page, with its headings as Markdown ones so that chunking sees them."""
    from bs4 import BeautifulSoup

    with warnings.catch_warnings():
        # XHTML and very short pages are read all the same.
        warnings.simplefilter("ignore")
        soup = BeautifulSoup(_decode(file.read_bytes()), "html.parser")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    body = soup.body or soup
    for element in body.find_all(HTML_NOISE):
        element.decompose()
    for heading in body.find_all(HTML_HEADINGS):
        words = heading.get_text(" ", strip=True)
        heading.replace_with(f"\n\n{'#' * int(heading.name[1])} {words}\n\n" if words else "")
    for block in body.find_all(HTML_BLOCKS):
        block.insert_before("\n\n")
        block.insert_after("\n\n")
    if soup.title and soup.title in body.descendants:
        soup.title.decompose()
    paragraphs = (" ".join(part.split()) for part in body.get_text().split("\n\n"))
    return title, "\n\n".join(part for part in paragraphs if part)


def _read_pdf(file: Path) -> tuple[str, str]:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, PyPdfError

    # It complains of every flaw it can read past; what it cannot read is reported by name.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            raise _UnreadableError("it is encrypted")
        pages = [page.extract_text() for page in reader.pages]
        title = str(reader.metadata.title or "") if reader.metadata else ""
    except DependencyError:
        raise _UnreadableError("it is encrypted") from None
    except PyPdfError:
        raise _UnreadableError("it is not a PDF that can be read") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, ArithmeticError):
        # pypdf meets broken files with whatever its parser happened to do.
        raise _UnreadableError("it is a damaged PDF") from None
    if not any(page.strip() for page in pages):
        raise _UnreadableError("its pages hold no text; if it is a scan, recognize its text first")
    return _clean(title.strip()), _clean("\n\n".join(pages))


def _decode(data: bytes) -> str:
    try:
        return _clean(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _UnreadableError(f"it is not UTF-8 (byte {error.start})") from None


def _clean(text: str) -> str:
    """Without NUL and lone surrogates, which no database stores, and with plain line ends."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    return text.encode("utf-8", "replace").decode()


_READERS: dict[str, Callable[[Path], tuple[str, str]]] = {
    ".txt": _read_text,
    ".md": _read_markdown,
    ".html": _read_html,
    ".htm": _read_html,
    ".pdf": _read_pdf,
}
