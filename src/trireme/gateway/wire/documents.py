"""Our own wire of documents and jobs: /v1/documents, /v1/jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from trireme.documents.load import SUFFIXES
from trireme.errors import DocumentError, InvalidInputError
from trireme.gateway.forms import Form, FormFile
from trireme.gateway.uploads import SubmittedText, Upload
from trireme.ingest.queue import Published
from trireme.ingest.submitted import read_metadata

# Of one request, which is one transaction.
MOST_TEXTS = 500
FILE_FIELDS = ("file", "document_id", "title", "metadata", "collection")
# How a file without a known suffix is read, by the type that it was sent with.
_SUFFIX_OF = {
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/html": ".html",
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
}


class _Text(msgspec.Struct, forbid_unknown_fields=True):
    document_id: str
    text: str
    title: str | None = None
    metadata: dict[str, Any] | None = None


class _OneText(_Text, forbid_unknown_fields=True):
    collection: str | None = None


class _Texts(msgspec.Struct, forbid_unknown_fields=True):
    documents: list[_Text]
    collection: str | None = None


def read_texts(body: Mapping[str, Any]) -> tuple[list[SubmittedText], str | None]:
    """The texts of a JSON body, one or a list under "documents", and the collection that it names.

    Raises InvalidInputError that names the field.
    """
    if "documents" in body:
        many = _convert(body, _Texts)
        if not 1 <= len(many.documents) <= MOST_TEXTS:
            raise InvalidInputError(
                f"documents must have 1 to {MOST_TEXTS} values, got {len(many.documents)}; send several requests",
                "documents",
            )
        return [_submitted(one) for one in many.documents], many.collection
    one = _convert(body, _OneText)
    return [_submitted(one)], one.collection


def read_upload(form: Form) -> tuple[Upload, str | None]:
    """The file of a form with what goes with it, and the collection that it names. Its id: document_id, or name.

    Renames the file to the suffix that says how it is read. Raises InvalidInputError that names the field.
    """
    file = file_of(form, FILE_FIELDS)
    fields = form.fields
    metadata = form_metadata(fields)
    key = fields.get("document_id") or file.name
    upload = Upload(with_suffix(file), file.name, key, fields.get("title", ""), metadata)
    return upload, fields.get("collection")


def file_of(form: Form, known: Iterable[str]) -> FormFile:
    """The file of a form that has no other fields than `known`. Raises InvalidInputError."""
    known = tuple(known)
    for name in form.fields:
        if name not in known:
            raise InvalidInputError(
                f"unknown field {name[:80]!r}; known fields: {', '.join(known)}", name[:80]
            )
    if form.file is None:
        hint = "; send it as a file, with a filename" if "file" in form.fields else ""
        raise InvalidInputError(f"the form has no file under the field 'file'{hint}", "file")
    if form.file.field != "file":
        raise InvalidInputError(
            f"the file must be under the field 'file', not {form.file.field[:80]!r}", form.file.field[:80]
        )
    return form.file


def with_suffix(file: FormFile) -> Path:
    """The file's path, renamed to the suffix by which it is read: its name's, or its type's.

    Raises InvalidInputError for a kind of file that nobody reads.
    """
    suffix = Path(file.name).suffix.lower()
    if suffix not in SUFFIXES:
        suffix = _SUFFIX_OF.get(file.content_type.partition(";")[0].strip(), "") if not suffix else ""
    if not suffix:
        raise InvalidInputError(f"cannot read {file.name}: known files are {', '.join(SUFFIXES)}", "file")
    return file.path.rename(file.path.with_suffix(suffix))


def form_metadata(fields: Mapping[str, str]) -> dict[str, Any]:
    """The field "metadata" of a form, a JSON object. Raises InvalidInputError."""
    try:
        return read_metadata(fields.get("metadata", ""))
    except DocumentError as error:
        raise InvalidInputError(str(error).removeprefix("its "), "metadata") from None


def published_body(rows: Iterable[Published]) -> dict[str, Any]:
    """The answer to POST /v1/documents. Raises InvalidInputError where nothing came of any document."""
    rows = list(rows)
    if not any(row.job for row in rows):
        first = rows[0]
        raise InvalidInputError(first.error if len(rows) == 1 else f"documents[0]: {first.error}")
    data = [
        {
            "document_id": row.document,
            "job_id": row.job or None,
            "state": "waiting" if row.job else "refused",
            "error": row.error or None,
        }
        for row in rows
    ]
    return {"object": "list", "data": data}


def _submitted(one: _Text) -> SubmittedText:
    return SubmittedText(one.document_id, one.text, one.title or "", one.metadata or {})


def _convert(body: Mapping[str, Any], kind: type[Any]) -> Any:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        field = place.rstrip("`").lstrip(".")
        raise InvalidInputError(f"{field or 'the body'}: {text}", field) from None
