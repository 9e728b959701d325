"""Tensors to checked Python values and back. Shapes below include Triton's batch dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt

from trireme.artifacts.contracts import OVER_LENGTH
from trireme.errors import InvalidInputError
from trireme.triton.wire import BULK_ID
from trireme.types import FloatArray, Hit, OverLength, SparseVector


def read_tensor(pb: Any, request: Any, name: str) -> npt.NDArray[Any] | None:
    """The request's input as an array, or None where an optional one was not sent.

    Raises InvalidInputError for a batch of no rows, which Triton lets pass.
    """
    tensor = pb.get_input_tensor_by_name(request, name)
    if tensor is None:
        return None
    values: npt.NDArray[Any] = tensor.as_numpy()
    if values.ndim and values.shape[0] == 0:
        raise InvalidInputError(f"{name} has shape {list(values.shape)}, which is no row; send at least one")
    return values


def read_strings(pb: Any, request: Any, name: str) -> list[list[str]]:
    """A STRING tensor [batch, n] as rows of text. Raises InvalidInputError for what is not UTF-8."""
    tensor = read_tensor(pb, request, name)
    if tensor is None:
        raise InvalidInputError(f"input {name} is missing")
    return [[decode(name, value) for value in row] for row in tensor.reshape(tensor.shape[0], -1)]


def read_scalar(pb: Any, request: Any, name: str) -> Any | None:
    """The one value of an optional [1, 1] input, text decoded, or None where it was not sent."""
    tensor = read_tensor(pb, request, name)
    if tensor is None:
        return None
    if tensor.size != 1:
        raise InvalidInputError(f"{name} must hold one value, got shape {list(tensor.shape)}")
    value = tensor.reshape(-1)[0]
    return decode(name, value) if isinstance(value, bytes | str) else value.item()


def read_over_length(pb: Any, request: Any) -> OverLength | None:
    """What becomes of texts that are too long, None where the request does not say.

    Raises InvalidInputError for another word, and for several that differ.
    """
    if read_tensor(pb, request, OVER_LENGTH) is None:
        return None
    said = {word for row in read_strings(pb, request, OVER_LENGTH) for word in row}
    if len(said) > 1:
        raise InvalidInputError(f"{OVER_LENGTH} differs within one request; send one request for each")
    word = said.pop()
    if word not in get_args(OverLength):
        known = ", ".join(get_args(OverLength))
        raise InvalidInputError(f"{OVER_LENGTH} must be one of {known}, got {word[:40]!r}")
    return cast("OverLength", word)


def is_bulk(request: Any) -> bool:
    """Whether the request says that it may wait behind all others: a worker's."""
    # Only requests of Triton's stub have an id.
    request_id = getattr(request, "request_id", None)
    try:
        return request_id is not None and request_id() == BULK_ID
    except UnicodeDecodeError:
        # Over HTTP an id may be any bytes.
        return False


def decode(name: str, value: bytes | str) -> str:
    """UTF-8 bytes as text. Raises InvalidInputError naming the input and the first bad byte."""
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{name} is not valid UTF-8: bad byte at {error.start}; send UTF-8") from None


def read_top_k(top_k: int | None, default: int, maximum: int) -> int:
    """A checked top_k. Raises InvalidInputError outside 1..maximum."""
    if top_k is None:
        return default
    if not 1 <= top_k <= maximum:
        raise InvalidInputError(f"top_k must be from 1 to {maximum}, got {top_k}")
    return top_k


def string_tensor(pb: Any, name: str, rows: Sequence[Sequence[str]]) -> Any:
    """A STRING output [batch, n]; every row has the same length, which may be zero."""
    width = len(rows[0]) if rows else 0
    values = np.empty((len(rows), width), dtype=object)
    for i, row in enumerate(rows):
        values[i, :] = [text.encode() for text in row]
    return pb.Tensor(name, values)


def float_tensor(pb: Any, name: str, rows: Sequence[FloatArray]) -> Any:
    """An FP32 output [batch, n]; every row has the same length, which may be zero."""
    return pb.Tensor(name, np.stack(rows).astype(np.float32, copy=False))


def pad_weights(rows: Sequence[SparseVector]) -> dict[str, npt.NDArray[Any]]:
    """sparse_indices and sparse_weights [batch, n] of the longest: short rows end with index -1 and weight 0."""
    longest = max(len(row.indices) for row in rows)
    indices = np.full((len(rows), longest), -1, np.int32)
    weights = np.zeros((len(rows), longest), np.float32)
    for place, row in enumerate(rows):
        indices[place, : len(row.indices)], weights[place, : len(row.indices)] = row.indices, row.weights
    return {"sparse_indices": indices, "sparse_weights": weights}


def pad_vectors(rows: Sequence[FloatArray]) -> dict[str, npt.NDArray[Any]]:
    """token_vectors [batch, n, D] of the longest, short rows end with zeros; and vector_count [batch, 1]."""
    vectors = np.zeros((len(rows), max(map(len, rows)), rows[0].shape[1]), np.float32)
    for place, row in enumerate(rows):
        vectors[place, : len(row)] = row
    return {"token_vectors": vectors, "vector_count": np.array([[len(row)] for row in rows], np.int32)}


def hit_tensors(pb: Any, hits: Sequence[Hit], **numbers: Sequence[float]) -> list[Any]:
    """id, text, metadata and score, each [1, len(hits)], and outputs of further numbers, one for each hit."""
    tensors = [
        string_tensor(pb, "id", [[hit.id for hit in hits]]),
        string_tensor(pb, "text", [[hit.text for hit in hits]]),
        string_tensor(pb, "metadata", [[hit.metadata for hit in hits]]),
        float_tensor(pb, "score", [np.array([hit.score for hit in hits], np.float32)]),
    ]
    for name, values in numbers.items():
        tensors.append(float_tensor(pb, name, [np.array(values, np.float32)]))
    return tensors
