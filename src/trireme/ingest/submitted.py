"""Documents as requests bring them: checked, and with a digest of all that their passages depend on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from trireme.documents.chunk import CHUNKER_VERSION
from trireme.errors import DocumentError
from trireme.ingest.queue import check_text
from trireme.metadata import find_fault, read_json
from trireme.types import Document


def read_metadata(text: str) -> dict[str, Any]:
    """Metadata given as JSON text; blank text is none. Raises DocumentError."""
    try:
        found = read_json(check_text(text, "metadata").strip() or "{}")
    except ValueError:
        raise DocumentError("its metadata is not JSON") from None
    if not isinstance(found, dict):
        raise DocumentError('its metadata must be a JSON object, such as {"page": 3}')
    return found


def text_document(
    key: str, text: str, title: str, extra: Mapping[str, Any], most_bytes: int | None = None
) -> Document:
    """A document of one text. extra: its metadata, whose "source" wins over the id.

    Raises DocumentError for a text that is blank or has more than `most_bytes` bytes, or that cannot be stored.
    """
    if not check_text(text).strip():
        raise DocumentError("its text is empty")
    if most_bytes is not None and len(text.encode()) > most_bytes:
        raise DocumentError(f"its text has more than {most_bytes} bytes; use: trireme ingest")
    _check_extra(extra)
    source = _source(extra, key)
    digest = _digest(text, title, extra, source)
    return Document(key, title, (text,), source, extra=dict(extra), digest=digest)


def file_document(loaded: Document, key: str, title: str, extra: Mapping[str, Any]) -> Document:
    """A loaded file under the id `key`. What the request says wins over what the file says of itself.

    title: "" keeps the file's. Raises DocumentError for metadata that cannot be stored. Does not read the parts.
    """
    _check_extra(extra)
    extra = {**loaded.extra, **extra}
    title = title or loaded.title
    source = _source(extra, loaded.source)
    digest = _digest(loaded.digest, title, extra, source)
    return dataclasses.replace(loaded, id=key, title=title, source=source, extra=extra, digest=digest)


def _check_extra(extra: Mapping[str, Any]) -> None:
    if fault := find_fault(dict(extra)):
        raise DocumentError(f"its metadata {fault}")


def _source(extra: Mapping[str, Any], default: str) -> str:
    return default if extra.get("source") is None else str(extra["source"])


def _digest(content: str, title: str, extra: Mapping[str, Any], source: str) -> str:
    return sha256(json.dumps([CHUNKER_VERSION, content, title, dict(extra), source]).encode()).hexdigest()
