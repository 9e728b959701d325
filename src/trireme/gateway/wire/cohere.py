"""Cohere's reranking: POST /v2/rerank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from trireme.errors import InvalidInputError, TriremeError
from trireme.gateway.statuses import retry_headers, status_of
from trireme.gateway.surface import Failure
from trireme.gateway.wire.lengths import check_pairs, read_over_length
from trireme.gateway.wire.ranking import Document, RerankCall, best_first, read_documents
from trireme.gateway.wire.shapes import shape
from trireme.providers.models import Reranked
from trireme.types import OverLength

_Filled = Annotated[str, msgspec.Meta(min_length=1)]


class MalformedError(InvalidInputError):
    """A field is missing, unknown or of another type: 422, which clients tell from a 400."""


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    model: _Filled
    query: _Filled
    documents: list[str | Document]
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_tokens_per_doc: int | None = None
    priority: int | None = None
    # Of its embeddings, and of others' reranking after its form.
    truncate: Literal["NONE", "START", "END"] | None = None
    over_length: OverLength | None = None


def read_rerank(body: Mapping[str, Any]) -> RerankCall:
    """A decoded body. Raises MalformedError, and InvalidInputError for what no model of ours can do."""
    try:
        asked = shape(body, _Body)
    except InvalidInputError as error:
        raise MalformedError(str(error), error.param) from None
    documents = read_documents(asked.documents)
    for field, why in (
        ("max_tokens_per_doc", "the model's own length cuts documents"),
        ("priority", "all requests have the same"),
    ):
        if getattr(asked, field) is not None:
            raise InvalidInputError(f"{field} cannot be set: {why}; leave it out", field)
    over_length = read_over_length(asked.over_length, asked.truncate)
    return RerankCall(asked.query, documents, asked.model, asked.top_n, over_length=over_length)


def write_rerank(call: RerankCall, reranked: Reranked, request_id: str) -> dict[str, Any]:
    """The answer, best first. It warns of documents whose end the model did not read. Raises as `check_pairs`."""
    check_pairs(call.over_length, reranked.truncated)
    meta: dict[str, Any] = {"api_version": {"version": "2"}}
    if cut := int((reranked.truncated > 0).sum()):
        meta["warnings"] = [f"documents longer than the model reads: {cut}; it scored their beginning"]
    results = [
        {"index": one.index, "relevance_score": one.relevance}
        for one in best_first(reranked.scores, call.top_n)
    ]
    return {"id": request_id, "results": results, "meta": meta}


def fail(error: TriremeError, request_id: str) -> Failure:
    """An error as Cohere writes it."""
    status = 422 if isinstance(error, MalformedError) else status_of(error)
    return Failure(status, {"message": str(error), "id": request_id}, retry_headers(error))
