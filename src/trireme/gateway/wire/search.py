"""Our own search: POST /v1/search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from trireme.errors import InvalidInputError
from trireme.gateway.wire.shapes import shape
from trireme.metadata import find_fault, read_json
from trireme.passage_text import document_of
from trireme.providers.models import SearchCall
from trireme.types import Hit


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    query: Annotated[str, msgspec.Meta(min_length=1)]
    collection: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    filter: dict[str, Any] | None = None
    mode: Literal["dense", "text", "sparse", "hybrid"] | None = None
    rerank: bool | None = None
    model: Annotated[str, msgspec.Meta(min_length=1)] | None = None


def read_search(body: Mapping[str, Any], *, tenant: str, user: str, collection: str) -> SearchCall:
    """A decoded body, for a key's tenant and user. collection: of a body that names none.

    Raises InvalidInputError that names the field.
    """
    asked = shape(body, _Body)
    return SearchCall(
        query=asked.query,
        tenant=tenant,
        collection=asked.collection or collection,
        user=user,
        model=asked.model or "search",
        top_k=asked.top_k,
        filter=write_filter(asked.filter or {}, "filter"),
        mode=asked.mode,
        rerank_depth=0 if asked.rerank is False else None,
    )


def write_search(call: SearchCall, hits: Sequence[Hit], degraded: Sequence[str] = ()) -> dict[str, Any]:
    """The passages, best first. degraded: what was left out under load; without any it is not said."""
    passages = [
        {
            "id": hit.id,
            "document_id": document_of(hit.id, hit.metadata),
            "text": hit.text,
            "metadata": read_metadata(hit.metadata),
            "score": hit.score,
        }
        for hit in hits
    ]
    said: dict[str, Any] = {"model": call.model, "collection": call.collection, "passages": passages}
    return said | ({"degraded": list(degraded)} if degraded else {})


def read_metadata(text: str) -> dict[str, Any]:
    """A passage's metadata, empty where it is no JSON object."""
    try:
        found = read_json(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def write_filter(wanted: Mapping[str, Any], field: str) -> str:
    """The JSON text of a filter, "" for one that lets all through. Raises InvalidInputError."""
    if not wanted:
        return ""
    if fault := find_fault(dict(wanted)):
        raise InvalidInputError(f"{field} {fault}", field)
    return msgspec.json.encode(wanted).decode()
