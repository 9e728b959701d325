"""text-embeddings-inference's own endpoints: POST /embed, /rerank, /predict and GET /info."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from trireme.errors import InvalidInputError, OverLengthError, TooLargeError, TriremeError
from trireme.gateway.statuses import retry_headers, status_of
from trireme.gateway.surface import Failure
from trireme.gateway.wire.lengths import read_over_length
from trireme.gateway.wire.openai_embeddings import read_input_type
from trireme.gateway.wire.ranking import RerankCall, best_first
from trireme.gateway.wire.shapes import shape
from trireme.providers.models import Embedded, Reranked, ServedModel
from trireme.types import Classified, InputType, OverLength

# Texts of one request.
MOST_TEXTS = 2048
_TYPES = {400: "Empty", 413: "Validation", 422: "Validation", 429: "Overloaded", 503: "Unhealthy"}

_Direction = Literal["Left", "Right", "left", "right"]


class EmptyError(InvalidInputError):
    """There is nothing to work on: 400, as text-embeddings-inference has it."""


@dataclass(frozen=True, slots=True)
class EmbedCall:
    """Texts to embed. model "": the default one. over_length: what becomes of a text that is longer than the model
    reads; None: what the model does, but no text may lose its end."""

    texts: tuple[str, ...]
    model: str = ""
    over_length: OverLength | None = None
    input_type: InputType | None = None
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class RankCall:
    """What /rerank asks beside the neutral call."""

    call: RerankCall
    is_raw: bool = False


@dataclass(frozen=True, slots=True)
class PredictCall:
    """Texts to classify. is_batch: they came as a batch, and their answers go as one. over_length: as EmbedCall."""

    texts: tuple[str, ...]
    model: str = ""
    is_batch: bool = False
    over_length: OverLength | None = "error"


class _Common(msgspec.Struct, forbid_unknown_fields=True):
    # Ours: text-embeddings-inference serves one model.
    model: str = ""
    truncate: bool | None = None
    over_length: OverLength | None = None
    truncation_direction: _Direction | None = None


class _Embed(_Common, forbid_unknown_fields=True, kw_only=True):
    inputs: str | list[str]
    normalize: bool | None = None
    prompt_name: str | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None


class _Rerank(_Common, forbid_unknown_fields=True, kw_only=True):
    query: str
    texts: list[str]
    raw_scores: bool | None = None
    return_text: bool | None = None


class _Predict(_Common, forbid_unknown_fields=True, kw_only=True):
    inputs: str | list[str | list[str]]
    raw_scores: bool | None = None


def read_embed(body: Mapping[str, Any]) -> EmbedCall:
    """A decoded body of /embed. Raises InvalidInputError that names the field, TooLargeError for too many texts."""
    asked = shape(body, _Embed)
    _check_direction(asked)
    if asked.normalize is False:
        raise InvalidInputError(
            "normalize: vectors of this server have unit length; leave it out", "normalize"
        )
    texts = _check_texts([asked.inputs] if isinstance(asked.inputs, str) else asked.inputs, "inputs")
    input_type = read_input_type(asked.prompt_name, "prompt_name")
    return EmbedCall(texts, asked.model, _over_length(asked), input_type, asked.dimensions)


def write_embed(call: EmbedCall, embedded: Embedded) -> list[list[float]]:
    """The answer. Raises TooLargeError where a text was cut and must not be."""
    cut = np.flatnonzero(embedded.truncated)
    if cut.size and call.over_length != "truncate":
        read = int(embedded.tokens[cut[0]])
        given = read + int(embedded.truncated[cut[0]])
        raise TooLargeError(
            f"Input validation error: inputs[{cut[0]}] has {given} tokens, but the model reads {read}; send"
            " less, or truncate: true"
        )
    vectors: list[list[float]] = embedded.vectors.tolist()
    return vectors


def read_rerank(body: Mapping[str, Any]) -> RankCall:
    """A decoded body of /rerank. Raises as `read_embed`."""
    asked = shape(body, _Rerank)
    _check_direction(asked)
    if not asked.query:
        raise EmptyError("query is empty; send at least one character", "query")
    texts = _check_texts(asked.texts, "texts", takes_empty=True)
    call = RerankCall(asked.query, texts, asked.model, None, bool(asked.return_text), _over_length(asked))
    return RankCall(call, bool(asked.raw_scores))


def write_rerank(asked: RankCall, reranked: Reranked) -> list[dict[str, Any]]:
    """The answer, best first. Raises TooLargeError where a text was cut and must not be."""
    cut = np.flatnonzero(reranked.truncated)
    if cut.size and asked.call.over_length != "truncate":
        raise TooLargeError(
            f"Input validation error: query and texts[{cut[0]}] have {int(reranked.truncated[cut[0]])} tokens more"
            " than the model reads; send less, or truncate: true"
        )
    call = asked.call
    return [
        {
            "index": one.index,
            **({"text": call.documents[one.index]} if call.return_documents else {}),
            "score": one.relevance,
        }
        for one in best_first(reranked.scores, raw=asked.is_raw)
    ]


def read_predict(body: Mapping[str, Any]) -> PredictCall:
    """A decoded body of /predict: a text, ["text"], or a batch [["text"], ["text"]]. Raises as `read_embed`.

    A list of two texts is a pair there, not a batch, and no classifier here reads pairs.
    """
    asked = shape(body, _Predict)
    _check_direction(asked)
    if asked.raw_scores:
        raise InvalidInputError("raw_scores: classifiers here give probabilities; leave it out", "raw_scores")
    given = asked.inputs
    is_batch = isinstance(given, list) and bool(given) and isinstance(given[0], list)
    rows = given if isinstance(given, list) and is_batch else [[given] if isinstance(given, str) else given]
    texts = []
    for place, row in enumerate(rows):
        where = f"inputs[{place}]" if is_batch else "inputs"
        texts.append(_read_row(row, where))
    # Classifiers do not say what they cut: one must be told not to.
    over_length = _over_length(asked) or "error"
    return PredictCall(_check_texts(texts, "inputs"), asked.model, is_batch, over_length)


def write_predict(call: PredictCall, classified: Sequence[Classified]) -> list[Any]:
    """The labels of the text, best first; of a batch, one such list for each text.

    Raises TooLargeError where a text was cut and must not be, as far as a classifier says it that was not told.
    """
    for place, one in enumerate(classified):
        if one.truncated_tokens and call.over_length != "truncate":
            raise TooLargeError(
                f"Input validation error: inputs[{place}] has {one.truncated_tokens} tokens more than the model"
                " reads; send less, or truncate: true"
            )
    rows = [
        [
            {"score": score, "label": label}
            for label, score in zip(one.labels, one.score.tolist(), strict=True)
        ]
        for one in classified
    ]
    return rows if call.is_batch else rows[0]


def write_info(model: ServedModel, version: str, most_requests: int) -> dict[str, Any]:
    """What /info says of one model. What we do not know of it is left out."""
    kinds = {"embed": "embedding", "rerank": "reranker", "classify": "classifier"}
    return {
        "model_id": model.name,
        "model_sha": None,
        "model_type": {kinds.get(model.ability, model.ability): {}},
        "max_concurrent_requests": most_requests,
        "max_client_batch_size": MOST_TEXTS,
        "auto_truncate": False,
        "version": version,
    }


def fail(error: TriremeError, request_id: str) -> Failure:
    """An error as text-embeddings-inference writes it."""
    status = status_of(error)
    if status == 400 and not isinstance(error, EmptyError):
        status = 422
    said = str(error)
    if isinstance(error, OverLengthError):
        status, said = 413, f"Input validation error: {said}"
    body = {"error": said, "error_type": _TYPES.get(status, "Backend")}
    return Failure(status, body, (("x-request-id", request_id), *retry_headers(error)))


def _read_row(row: Any, place: str) -> str:
    """One text, alone in its list."""
    if not isinstance(row, list) or any(not isinstance(one, str) for one in row):
        raise InvalidInputError(f"{place} must be a list of one text", place)
    if len(row) == 2:
        raise InvalidInputError(
            f"{place} is a pair of texts, and classifiers here read one; send a batch as [[text], [text]]",
            place,
        )
    if len(row) != 1:
        raise InvalidInputError(f"{place} must hold one text, got {len(row)}", place)
    return str(row[0])


def _over_length(asked: _Common) -> OverLength | None:
    """What the body asks for; truncate: false is what a body without it says."""
    return read_over_length(asked.over_length, asked.truncate or None)


def _check_direction(asked: _Common) -> None:
    if asked.truncation_direction in ("Left", "left"):
        raise InvalidInputError(
            "truncation_direction: models here lose the end of a text that is too long; leave it out",
            "truncation_direction",
        )


def _check_texts(texts: Sequence[str], field: str, *, takes_empty: bool = False) -> tuple[str, ...]:
    if not texts:
        raise EmptyError(f"{field} is empty; send at least one text", field)
    if len(texts) > MOST_TEXTS:
        raise TooLargeError(f"batch size {len(texts)} > maximum allowed batch size {MOST_TEXTS}")
    if not takes_empty and "" in texts:
        raise EmptyError(f"{field}[{list(texts).index('')}] is empty; send at least one character", field)
    return tuple(texts)
