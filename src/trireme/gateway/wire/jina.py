"""Jina's reranking: POST /v1/rerank. vLLM's and LocalAI's clients speak it, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from trireme.errors import TriremeError
from trireme.gateway.statuses import retry_headers, status_of
from trireme.gateway.surface import Failure
from trireme.gateway.wire.lengths import check_pairs, read_over_length
from trireme.gateway.wire.ranking import Document, RerankCall, best_first, read_documents
from trireme.gateway.wire.shapes import shape
from trireme.providers.models import Reranked
from trireme.types import OverLength

_Filled = Annotated[str, msgspec.Meta(min_length=1)]


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    model: _Filled
    query: _Filled
    documents: list[str | Document]
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool | None = None
    user: str | None = None
    over_length: OverLength | None = None
    truncate: bool | None = None
    # vLLM's.
    truncate_prompt_tokens: int | None = None


def read_rerank(body: Mapping[str, Any]) -> RerankCall:
    """A decoded body. Documents come back unless return_documents is false. Raises InvalidInputError."""
    asked = shape(body, _Body)
    documents = read_documents(asked.documents)
    over_length = read_over_length(asked.over_length, asked.truncate, asked.truncate_prompt_tokens)
    returns = asked.return_documents is not False
    return RerankCall(asked.query, documents, asked.model, asked.top_n, returns, over_length)


def write_rerank(call: RerankCall, reranked: Reranked) -> dict[str, Any]:
    """The answer, best first. It has no usage: rerankers do not count their tokens. Raises as `check_pairs`."""
    check_pairs(call.over_length, reranked.truncated)
    results: list[dict[str, Any]] = []
    for one in best_first(reranked.scores, call.top_n):
        document = {"document": {"text": call.documents[one.index]}} if call.return_documents else {}
        results.append({"index": one.index, **document, "relevance_score": one.relevance})
    return {"model": call.model, "object": "list", "results": results}


def fail(error: TriremeError, request_id: str) -> Failure:
    """An error as Jina's server writes it."""
    return Failure(status_of(error), {"detail": str(error), "request_id": request_id}, retry_headers(error))
