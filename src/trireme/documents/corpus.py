"""BEIR corpora: a document a line, in constant memory however many lines."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from trireme.documents.files import open_regular
from trireme.documents.formats.text import clean
from trireme.documents.source import Source, broken_source
from trireme.errors import DocumentError
from trireme.metadata import check_size, find_fault, read_json
from trireme.types import MAX_ID_BYTES, Document

# A whole document is one passage, of which a model reads a few kilobytes.
LINE_BYTES = 4 << 20


def load_corpus(path: Path, fingerprint: bytes, root: Path | None = None) -> Iterator[Source]:
    """A source for each line that is not blank; a line that cannot be used is one named FILE:LINE.

    Raises DocumentError where the file itself cannot be read, or leads out of `root`, the folder that it was
    found in.
    """
    real = path.resolve()
    with open_regular(real, root or real.parent) as lines, closing(_Seen()) as seen:
        number = 0
        while line := lines.readline(LINE_BYTES + 1):
            number += 1
            try:
                if len(line) > LINE_BYTES:
                    _skip_line(lines, line)
                    raise DocumentError(
                        f"it has more than {LINE_BYTES:,} bytes; give it as a text file, which is cut"
                    )
                if not line.strip():
                    continue
                yield _source(line, fingerprint, seen, number)
            except DocumentError as error:
                yield broken_source(f"{path.name}:{number}", str(error))


class _Seen:
    """Ids with their line numbers, in a temporary database on disk: a million take no memory."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def line_of(self, identity: str, line: int) -> int:
        """The first line with this id: `line` itself if there was none before."""
        added = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (identity, line))
        if added.rowcount:
            return line
        found = self._database.execute("SELECT line FROM seen WHERE id = ?", (identity,)).fetchone()
        return int(found[0])

    def close(self) -> None:
        """Deletes the database."""
        self._database.close()


def _skip_line(lines: Any, start: bytes) -> None:
    while start and not start.endswith(b"\n"):
        start = lines.readline(LINE_BYTES)


def _source(line: bytes, fingerprint: bytes, seen: _Seen, number: int) -> Source:
    try:
        fields = read_json(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DocumentError(f"it is not UTF-8 text (byte {error.start})") from None
    except ValueError:
        raise DocumentError("it is not JSON") from None
    document = _document(fields, hashlib.sha256(fingerprint + line.strip()).hexdigest())
    first = seen.line_of(document.id, number)
    if first != number:
        raise DocumentError(f"its _id {document.id[:80]!r} is that of line {first} already; ids are unique")
    return Source(document.id, document.digest, len(line), lambda: document)


def _document(fields: Any, digest: str) -> Document:
    if not isinstance(fields, dict) or not isinstance(fields.get("text"), str) or "_id" not in fields:
        raise DocumentError("it is not an object with _id and text")
    identity, title, text = (clean(str(fields.get(key) or "")) for key in ("_id", "title", "text"))
    identity = clean(str(fields["_id"]))
    if not identity or not (text.strip() or title.strip()):
        raise DocumentError("its _id or its text is empty")
    if len(identity.encode()) > MAX_ID_BYTES:
        raise DocumentError(f"its _id has more than {MAX_ID_BYTES} bytes")
    extra = _read_metadata(fields.get("metadata"))
    return Document(identity, title, (text,), identity, whole=True, extra=extra, digest=digest)


def _read_metadata(value: Any) -> dict[str, Any]:
    """The metadata of a line; what is no object is kept under the name that it has there."""
    if value in (None, "", [], {}):
        return {}
    cleaned = _clean(value if isinstance(value, dict) else {"metadata": value})
    if fault := find_fault(cleaned) or check_size(cleaned):
        raise DocumentError(f"its metadata {fault}")
    return dict(cleaned)


def _clean(value: Any) -> Any:
    """A JSON value, of bounded depth, whose texts a database stores."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): _clean(inner) for key, inner in value.items()}
    return [_clean(inner) for inner in value] if isinstance(value, list) else value
