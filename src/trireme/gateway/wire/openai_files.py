"""OpenAI's wire of files and vector stores, over documents and collections.

A file is one document, and its id says where that is: collection and document. What the sender said of an upload
stands in the id of its document, so that nothing has to be remembered. An id is no secret and opens nothing: the
tenant is the key's.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trireme.errors import InvalidInputError, NotFoundError, UnsupportedError
from trireme.gateway.forms import Form
from trireme.gateway.uploads import DocumentState, Upload
from trireme.gateway.wire.documents import file_of, form_metadata, with_suffix
from trireme.ingest.catalog import JobNumbers
from trireme.types import CollectionInfo

PREFIX = "file-"
PURPOSES = ("assistants", "user_data")
FORM_FIELDS = ("file", "purpose", "title", "metadata", "collection")
COLLECTION_HEADER = "x-trireme-collection"
# Of an id: names of 512 and 2,048 bytes at most stand in it.
_ID_LENGTH = 8192
_STATUSES = {"stored": "processed", "waiting": "uploaded", "dead": "error"}
# Unix seconds and bytes as hexadecimal digits, first letter of the purpose, random digits, name.
_UPLOADED = re.compile(r"upload\.([0-9a-f]{1,12})\.([0-9a-f]{1,12})\.([au])\.[0-9a-f]{16}/(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FileRef:
    """Where a file's document is."""

    collection: str
    document: str


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the sender of a file said of it. bytes and created_at (Unix seconds) are 0 where nobody knows."""

    name: str
    purpose: str = "assistants"
    bytes: int = 0
    created_at: int = 0


def encode_file_id(ref: FileRef) -> str:
    """The id of a file."""
    raw = json.dumps([ref.collection, ref.document], ensure_ascii=False, separators=(",", ":")).encode()
    return PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_file_id(text: str) -> FileRef:
    """What an id says. Raises NotFoundError for text that is no id of ours."""
    unknown = NotFoundError(f"no file {text[:80]!r}; an id comes from POST /v1/files")
    if not text.startswith(PREFIX) or len(text) > _ID_LENGTH:
        raise unknown
    body = text[len(PREFIX) :]
    try:
        values = json.loads(base64.b64decode(body + "=" * (-len(body) % 4), b"-_", validate=True))
        collection, document = values
        ref = FileRef(collection, document)
        # Base64 and JSON have several ways to say one thing; an id has one.
        is_ours = isinstance(values, list) and encode_file_id(ref) == text
    except (ValueError, TypeError, RecursionError):
        raise unknown from None
    if not is_ours or not isinstance(collection, str) or not isinstance(document, str):
        raise unknown
    return ref


def new_document_id(facts: FileFacts) -> str:
    """An id for the document of a new file. Two files of one name are two documents, as OpenAI has it."""
    said = f"{facts.created_at:x}.{facts.bytes:x}.{facts.purpose[0]}"
    return f"upload.{said}.{secrets.token_hex(8)}/{facts.name}"


def read_facts(document: str) -> FileFacts:
    """What `new_document_id` made an id of; of any other document its id is the name."""
    found = _UPLOADED.fullmatch(document)
    if found is None:
        return FileFacts(document)
    created, size, letter, name = found.groups()
    purpose = next(one for one in PURPOSES if one[0] == letter)
    return FileFacts(name, purpose, int(size, 16), int(created, 16))


def read_file_upload(form: Form, headers: Mapping[str, str], now: int) -> tuple[Upload, str | None]:
    """The file of a form, and the collection of the field or the header. now: Unix seconds.

    Renames the file to the suffix that says how it is read. Raises InvalidInputError, and UnsupportedError for a
    purpose that needs more than documents.
    """
    file = file_of(form, FORM_FIELDS)
    purpose = form.fields.get("purpose", "")
    if not purpose:
        raise InvalidInputError(f"purpose is missing; send one of: {', '.join(PURPOSES)}", "purpose")
    if purpose not in PURPOSES:
        raise UnsupportedError(
            f"purpose {purpose[:80]!r} is not supported; send one of: {', '.join(PURPOSES)}"
        )
    key = new_document_id(FileFacts(file.name, purpose, file.size, now))
    metadata = form_metadata(form.fields)
    # The document's own batch: by it a job that failed is found again.
    upload = Upload(with_suffix(file), file.name, key, form.fields.get("title", ""), metadata, batch=key)
    return upload, form.fields.get("collection", headers.get(COLLECTION_HEADER))


def file_body(ref: FileRef, state: DocumentState, error: str = "") -> dict[str, Any]:
    """A file as the API shows it. Raises NotFoundError for one whose document is not there."""
    if state == "absent":
        raise missing_file(ref)
    facts = read_facts(ref.document)
    return {
        "id": encode_file_id(ref),
        "object": "file",
        "bytes": facts.bytes,
        "created_at": facts.created_at,
        "filename": facts.name,
        "purpose": facts.purpose,
        "status": _STATUSES[state],
        "status_details": error or None,
    }


def missing_file(ref: FileRef) -> NotFoundError:
    """The error of a file that is not there, or not any more."""
    name = read_facts(ref.document).name[:200]
    return NotFoundError(f"no file {name!r} in collection {ref.collection!r}; it was deleted")


def deleted_file_body(file_id: str) -> dict[str, Any]:
    """The answer to DELETE /v1/files/{id}."""
    return {"id": file_id, "object": "file", "deleted": True}


def refuse_content() -> UnsupportedError:
    """The error of GET /v1/files/{id}/content."""
    return UnsupportedError("the bytes of a file are not kept, its passages are: POST /v1/search finds them")


def refuse_list() -> UnsupportedError:
    """The error of GET /v1/files."""
    return UnsupportedError("files are not listed; keep the id that POST /v1/files answers")


def refuse_attach() -> UnsupportedError:
    """The error of POST /v1/vector_stores/{id}/files."""
    return UnsupportedError(
        "a file is in one vector store from its upload on: POST /v1/files with the field collection, or the header"
        f" {COLLECTION_HEADER}"
    )


def refuse_create() -> UnsupportedError:
    """The error of POST /v1/vector_stores."""
    return UnsupportedError(
        "a vector store is a collection, which comes to be with its first document: POST /v1/files"
    )


def store_body(info: CollectionInfo, jobs: JobNumbers) -> dict[str, Any]:
    """A collection as a vector store. What is not kept of it (times, bytes, its number of files) is null.

    passages is a field of ours.
    """
    unfinished = jobs.waiting + jobs.running
    return {
        "id": info.collection,
        "object": "vector_store",
        "name": info.collection,
        "status": "in_progress" if unfinished else "completed",
        "created_at": None,
        "usage_bytes": None,
        "file_counts": {
            "in_progress": unfinished,
            "completed": None,
            "failed": jobs.dead,
            "cancelled": None,
            "total": None,
        },
        "metadata": None,
        "passages": info.passages,
    }


def page_of(names: Sequence[str], query: Mapping[str, str]) -> tuple[list[str], bool]:
    """The stores of one page, by name, and whether more follow. query: limit (1 to 100, 20 if not given) and after.

    Raises InvalidInputError for any other parameter.
    """
    for name in query:
        if name not in ("limit", "after", "tenant"):
            raise InvalidInputError(
                f"unknown parameter {name[:80]!r}; known: limit, after, tenant (stores go by name)", name[:80]
            )
    limit = query.get("limit", "20")
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 9 and 1 <= int(limit) <= 100):
        raise InvalidInputError(f"limit must be 1 to 100, got {limit[:20]!r}", "limit")
    left = [name for name in sorted(names) if name > query.get("after", "")]
    return left[: int(limit)], len(left) > int(limit)


def page_body(stores: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """The answer to GET /v1/vector_stores."""
    return {
        "object": "list",
        "data": list(stores),
        "first_id": stores[0]["id"] if stores else None,
        "last_id": stores[-1]["id"] if stores else None,
        "has_more": has_more,
    }
