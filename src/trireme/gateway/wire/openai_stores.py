"""Searches of OpenAI's vector stores, which are our collections: POST /v1/vector_stores/{id}/search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from trireme.errors import InvalidInputError
from trireme.gateway.wire.ranking import to_relevance
from trireme.gateway.wire.search import read_metadata, write_filter
from trireme.gateway.wire.shapes import shape
from trireme.passage_text import document_of
from trireme.providers.models import SearchCall
from trireme.types import Hit

# OpenAI's own.
MOST_RESULTS = 50
DEFAULT_RESULTS = 10
MOST_QUERIES = 16
MOST_FILTERS = 64

# Of names in a passage's metadata that no document gave it.
_OURS = "trireme_"
# Of ranking_options.ranker: the order of the retriever stays.
NO_RANKER = "none"

_Filled = Annotated[str, msgspec.Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class StoreSearch:
    """One search for each query; their results become one page. threshold: relevance (0 to 1) at least."""

    calls: tuple[SearchCall, ...]
    most: int
    threshold: float


class _Ranking(msgspec.Struct, forbid_unknown_fields=True):
    ranker: str | None = None
    score_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    query: _Filled | Annotated[list[_Filled], msgspec.Meta(min_length=1, max_length=MOST_QUERIES)]
    max_num_results: Annotated[int, msgspec.Meta(ge=1, le=MOST_RESULTS)] | None = None
    filters: dict[str, Any] | None = None
    ranking_options: _Ranking | None = None
    rewrite_query: bool | None = None


class _Equal(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["eq"]
    key: str
    value: str | float | int | bool


class _All(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["and"]
    filters: list[dict[str, Any]]


def read_store_search(body: Mapping[str, Any], store: str, *, tenant: str, user: str) -> StoreSearch:
    """A decoded body; `store` is the collection. Raises InvalidInputError that names the field."""
    asked = shape(body, _Body)
    ranking = asked.ranking_options or _Ranking()
    if asked.rewrite_query:
        raise InvalidInputError(
            "rewrite_query: queries are searched as they are; leave it out", "rewrite_query"
        )
    if not (ranking.ranker in (None, "auto", NO_RANKER) or str(ranking.ranker).startswith("default")):
        raise InvalidInputError(
            f"ranking_options.ranker must be auto or none, got {str(ranking.ranker)[:40]!r}; leave it out",
            "ranking_options",
        )
    most = asked.max_num_results or DEFAULT_RESULTS
    wanted = write_filter(_read_filters(asked.filters) if asked.filters else {}, "filters")
    queries = [asked.query] if isinstance(asked.query, str) else asked.query
    depth = 0 if ranking.ranker == NO_RANKER else None
    calls = tuple(
        SearchCall(query, tenant, store, user=user, top_k=most, filter=wanted, rerank_depth=depth)
        for query in queries
    )
    return StoreSearch(calls, most, ranking.score_threshold or 0.0)


def write_page(
    search: StoreSearch, hits: Sequence[Sequence[Hit]], file_id_of: Callable[[str], str] = str
) -> dict[str, Any]:
    """The results of all queries on one page, best first, a passage once. hits: those of each call, in order.

    file_id_of: the id of a file by the id of its document.
    """
    best: dict[str, Hit] = {}
    for hit in (hit for found in hits for hit in found):
        if hit.id not in best or hit.score > best[hit.id].score:
            best[hit.id] = hit
    ordered = sorted(best.values(), key=lambda hit: -hit.score)
    scored = [(hit, float(to_relevance(hit.score))) for hit in ordered]
    rows = [_row(hit, score, file_id_of) for hit, score in scored if score >= search.threshold]
    return {
        "object": "vector_store.search_results.page",
        "search_query": [call.query for call in search.calls],
        "data": rows[: search.most],
        "has_more": False,
        "next_page": None,
    }


def _row(hit: Hit, score: float, file_id_of: Callable[[str], str]) -> dict[str, Any]:
    metadata = read_metadata(hit.metadata)
    document = document_of(hit.id, hit.metadata)
    return {
        "file_id": file_id_of(document),
        "filename": str(metadata.get("source") or document),
        "score": score,
        "attributes": dict(_attributes(metadata)),
        "content": [{"type": "text", "text": hit.text}],
    }


def _attributes(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str | float | bool]]:
    """Texts, numbers and flags, as OpenAI's attributes are; what is nested goes as JSON text."""
    for key, value in metadata.items():
        if key.startswith(_OURS) or value is None:
            continue
        is_flat = isinstance(value, str | int | float)
        yield key, value if is_flat else msgspec.json.encode(value).decode()


def _read_filters(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a passage's metadata must contain."""
    wanted: dict[str, Any] = {}
    waiting = [(given, "filters")]
    count = 0
    while waiting:
        one, place = waiting.pop()
        count += 1
        if count > MOST_FILTERS:
            raise InvalidInputError(
                f"filters has more than {MOST_FILTERS} comparisons; send fewer", "filters"
            )
        kind = one.get("type")
        if kind == "and":
            rows = shape(one, _All, place).filters
            waiting += [(row, f"{place}.filters[{number}]") for number, row in enumerate(rows)]
        elif kind == "eq":
            equal = shape(one, _Equal, place)
            if equal.key in wanted and wanted[equal.key] != equal.value:
                raise InvalidInputError(
                    f"{place}: {equal.key[:40]!r} cannot equal two values; leave one out", place
                )
            wanted[equal.key] = equal.value
        else:
            raise InvalidInputError(
                f"{place}.type must be eq or and, got {str(kind)[:40]!r}", f"{place}.type"
            )
    return wanted
