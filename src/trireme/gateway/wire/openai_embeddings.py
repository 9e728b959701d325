"""OpenAI's embeddings: POST /v1/embeddings."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from trireme.errors import InvalidInputError
from trireme.gateway.wire.lengths import Truncate, read_over_length
from trireme.gateway.wire.shapes import shape
from trireme.providers.models import Embedded
from trireme.types import InputType, OverLength

# OpenAI's: inputs of one request, tokens of one input, tokens of all inputs that come as tokens.
MOST_INPUTS = 2048
MOST_TOKENS = 8192
MOST_TOKENS_IN_ALL = 300_000
MOST_DIMENSIONS = 2**31 - 1
# Cohere's and Voyage's words stand beside ours.
INPUT_TYPES: dict[str, InputType] = {
    "query": "query",
    "search_query": "query",
    "passage": "passage",
    "document": "passage",
    "search_document": "passage",
}

_Ids = list[Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]]


@dataclass(frozen=True, slots=True)
class EmbeddingsCall:
    """Inputs, in order, are `texts`, or `tokens`: ids of the model's own vocabulary. One of the two is empty.

    over_length: what becomes of an input that is longer than the model reads; None: what the model does, but no
    input may lose its end.
    """

    model: str
    texts: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    dimensions: int | None = None
    encoding: Literal["float", "base64"] = "float"
    input_type: InputType | None = None
    over_length: OverLength | None = None


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    model: Annotated[str, msgspec.Meta(min_length=1)]
    input: Any
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=MOST_DIMENSIONS)] | None = None
    # Who asks is known by the key.
    user: str | None = None
    input_type: str | None = None
    over_length: OverLength | None = None
    truncate: Truncate | None = None
    truncate_prompt_tokens: int | None = None


def read_embeddings(body: Mapping[str, Any]) -> EmbeddingsCall:
    """A decoded body. `input_type` and `over_length` are ours. Raises InvalidInputError that names the field."""
    asked = shape(body, _Body)
    texts, tokens = _read_input(asked.input)
    return EmbeddingsCall(
        model=asked.model,
        texts=texts,
        tokens=tokens,
        dimensions=asked.dimensions,
        encoding=asked.encoding_format or "float",
        input_type=read_input_type(asked.input_type, "input_type"),
        over_length=read_over_length(asked.over_length, asked.truncate, asked.truncate_prompt_tokens),
    )


def write_embeddings(call: EmbeddingsCall, embedded: Embedded) -> dict[str, Any]:
    """The answer, in the order of the inputs. Raises InvalidInputError where an input was cut and must not be."""
    if call.over_length != "truncate":
        _check_whole(embedded)
    vectors = np.ascontiguousarray(embedded.vectors, "<f4")
    values: list[Any] = (
        [base64.b64encode(row).decode() for row in vectors] if call.encoding == "base64" else vectors.tolist()
    )
    tokens = int(embedded.tokens.sum())
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": value} for index, value in enumerate(values)
        ],
        "model": call.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def read_input_type(given: str | None, field: str) -> InputType | None:
    """What the texts are. Raises InvalidInputError that lists what is known."""
    if given is None:
        return None
    if given not in INPUT_TYPES:
        raise InvalidInputError(f"{field} must be one of {', '.join(INPUT_TYPES)}, got {given[:40]!r}", field)
    return INPUT_TYPES[given]


def _read_input(given: Any) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Texts, or tokens."""
    inputs = given if isinstance(given, list) else [given]
    if not inputs:
        raise InvalidInputError("input is empty; send at least one text", "input")
    if isinstance(inputs[0], int) and not isinstance(inputs[0], bool):
        return (), (_check_tokens(inputs, "input"),)
    if len(inputs) > MOST_INPUTS:
        raise InvalidInputError(
            f"input has {len(inputs)} values; send at most {MOST_INPUTS} in one request", "input"
        )
    if isinstance(inputs[0], list):
        tokens = tuple(_check_tokens(row, f"input[{place}]") for place, row in enumerate(inputs))
        if (count := sum(map(len, tokens))) > MOST_TOKENS_IN_ALL:
            raise InvalidInputError(
                f"input has {count} tokens; send at most {MOST_TOKENS_IN_ALL} in one request", "input"
            )
        return (), tokens
    for place, text in enumerate(inputs):
        where = f"input[{place}]" if isinstance(given, list) else "input"
        if not isinstance(text, str):
            raise InvalidInputError(f"{where} must be a text, or tokens where all inputs are tokens", where)
        if not text:
            raise InvalidInputError(f"{where} is empty; send at least one character", where)
    return tuple(inputs), ()


def _check_tokens(row: Any, place: str) -> tuple[int, ...]:
    ids = shape(row, _Ids, place)
    if not 1 <= len(ids) <= MOST_TOKENS:
        raise InvalidInputError(f"{place} has {len(ids)} tokens; send 1 to {MOST_TOKENS}", place)
    return tuple(ids)


def _check_whole(embedded: Embedded) -> None:
    cut = np.flatnonzero(embedded.truncated)
    if cut.size:
        first = int(cut[0])
        read, lost = int(embedded.tokens[first]), int(embedded.truncated[first])
        raise InvalidInputError(
            f"input[{first}] has {read + lost} tokens, but the model reads {read}; send less, or truncate: true to"
            " drop the rest",
            "input",
        )
