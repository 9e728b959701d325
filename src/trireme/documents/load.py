"""Find what a path holds: text, Markdown, HTML, PDF and DOCX files, Makefiles, folders of them, BEIR corpora."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from trireme.documents.corpus import load_corpus
from trireme.documents.files import Stamp, digest_of, open_regular, stamp, walk
from trireme.documents.formats.content import Content
from trireme.documents.formats.docx import read_docx
from trireme.documents.formats.html import read_html
from trireme.documents.formats.makefile import read_makefile
from trireme.documents.formats.markdown import read_markdown
from trireme.documents.formats.pdf import read_pdf
from trireme.documents.formats.text import clean, gather, read_text
from trireme.documents.source import Limits, Skipped, Source, broken_source
from trireme.errors import DocumentError, InvalidInputError, NotFoundError
from trireme.types import MAX_ID_BYTES, Document

__all__ = ["SUFFIXES", "Limits", "Skipped", "Source", "load", "load_file", "open_all"]

CORPUS = "corpus.jsonl"
# Part of every digest: raise it when the same bytes would give another text.
LOADER_VERSION = 3
# Room for "#" and the number of a passage.
ID_BYTES = MAX_ID_BYTES - 16

Reader = Callable[[BinaryIO, Limits], Content]

_READERS: dict[str, Reader] = {
    ".txt": read_text,
    ".md": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".docm": read_docx,
    ".dotx": read_docx,
    ".dotm": read_docx,
}
SUFFIXES = tuple(sorted(_READERS))
# Files that are known by a name without a suffix, in small letters.
_NAMED: dict[str, Reader] = {
    **dict.fromkeys(("copying", "licence", "license", "notice"), read_text),
    **dict.fromkeys(("gnumakefile", "makefile"), read_makefile),
}
DEFAULT_LIMITS = Limits()


def load(
    path: Path, skipped: Skipped | None = None, limits: Limits = DEFAULT_LIMITS, fingerprint: str = ""
) -> Iterator[Source]:
    """Sources of a file or, recursively and sorted, of a folder; ids are paths relative to it.

    A folder with corpus.jsonl, or any .jsonl file itself, is read as a BEIR corpus: one whole document per line
    under its own id. Makefiles and licences are known by their names. `fingerprint` goes into every digest:
    whatever else changes the passages. Nothing is parsed before a source is opened, and what cannot be read is a
    source too, whose opening says why. Files of unknown suffixes are counted in `skipped`. Symbolic links that
    leave the folder are not followed. Raises NotFoundError if `path` does not exist, InvalidInputError for one file
    of an unknown suffix.
    """
    skipped = Skipped() if skipped is None else skipped
    if not path.exists():
        raise NotFoundError(f"no file or folder {path}; check the path")
    mark = _mark(fingerprint)
    found_in = None
    if path.is_dir() and (path / CORPUS).is_file():
        path, found_in = path / CORPUS, path.resolve()
    if path.suffix == ".jsonl":
        try:
            yield from load_corpus(path, mark, found_in)
        except DocumentError as error:
            raise InvalidInputError(f"{path.name}: {error}") from None
        return
    if not path.is_dir():
        if _kind_of(path) not in _READERS | _NAMED:
            raise InvalidInputError(
                f"cannot read {path.name}: known files are {', '.join(SUFFIXES)}, {CORPUS}"
            )
        yield load_file(path, path.name, limits, fingerprint)
        return
    root = path.resolve()
    for file, problem in walk(path):
        name = file.relative_to(path).as_posix()
        if problem:
            yield broken_source(_printable(name), problem)
        elif _kind_of(file) not in _READERS | _NAMED:
            skipped.unknown_suffixes[_printable(file.suffix.lower()) or "(none)"] += 1
        else:
            yield _source(file, root, name, limits, mark)


def load_file(file: Path, name: str, limits: Limits = DEFAULT_LIMITS, fingerprint: str = "") -> Source:
    """The source of one file, under `name` wherever it lies. Its own suffix or name says how it is read.

    As with `load`, nothing is parsed yet, and a file that cannot be read is a source whose opening says why.
    """
    real = file.resolve()
    return _source(real, real.parent, name, limits, _mark(fingerprint))


def open_all(sources: Iterator[Source], skipped: Skipped) -> Iterator[Document]:
    """The documents of `sources`; those that cannot be opened are added to `skipped`.

    Their parts may still raise DocumentError.
    """
    for source in sources:
        try:
            document = source.open()
        except DocumentError as error:
            skipped.add(source.id, str(error))
            continue
        yield document


def _kind_of(file: Path) -> str:
    """Its suffix, or its name where it has none."""
    return (file.suffix or file.name).lower()


def _mark(fingerprint: str) -> bytes:
    return f"{LOADER_VERSION}\n{fingerprint}\n".encode()


def _source(file: Path, root: Path, name: str, limits: Limits, mark: bytes) -> Source:
    try:
        name.encode()
    except UnicodeEncodeError:
        return broken_source(_printable(name), "its name is not UTF-8; rename it")
    if len(name.encode()) > ID_BYTES:
        return broken_source(name, f"its path has more than {ID_BYTES} bytes; ingest a folder nearer to it")
    try:
        with open_regular(file, root) as opened:
            before = stamp(opened)
            size = before[1]
            if size == 0:
                raise DocumentError("it is empty")
            if size > limits.document_bytes:
                raise DocumentError(
                    f"it has {size:,} bytes, more than {limits.document_bytes:,}; raise"
                    " TRIREME_MAX_DOCUMENT_BYTES, or split it"
                )
            # The suffix, or the name, decides how the bytes are read.
            digest = digest_of(opened, mark + _kind_of(file).encode() + b"\n")
    except DocumentError as error:
        return broken_source(name, str(error))
    return Source(name, digest, size, partial(_open, file, root, name, limits, digest, before))


def _open(  # noqa: PLR0917 - bound by _source alone
    file: Path, root: Path, name: str, limits: Limits, digest: str, before: Stamp
) -> Document:
    content, stream = _read(file, root, limits, before)
    first = next((part for part in stream if part.strip()), "")
    if not first:
        raise DocumentError("it holds no text")
    second = next(stream, "")
    parts = chain((first, second), stream) if second else (first,)
    title = clean(content.title) or Path(name).stem
    return Document(name, title, parts, name, extra=content.extra, digest=digest)


def _read(file: Path, root: Path, limits: Limits, before: Stamp) -> tuple[Content, Iterator[str]]:
    """The content, and its parts, gathered."""
    stream = _stream(file, root, limits, before)
    return cast(Content, next(stream)), cast(Iterator[str], stream)


def _stream(file: Path, root: Path, limits: Limits, before: Stamp) -> Iterator[Content | str]:
    """The content, then its parts. The file is open until the last part, or until this is dropped."""
    with open_regular(file, root) as opened:
        content = (_READERS | _NAMED)[_kind_of(file)](opened, limits)
        yield content
        yield from gather(content.parts)
        if stamp(opened) != before:
            raise DocumentError("it changed while it was read; ingest it again")


def _printable(name: str) -> str:
    return clean(os.fsencode(name).decode("utf-8", "backslashreplace"))
