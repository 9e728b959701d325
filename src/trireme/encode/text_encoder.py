"""Bi-encoder: texts to unit vectors, many requests in one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from trireme.encode.row_queue import Pending, RowQueue
from trireme.encode.session import Session
from trireme.encode.tokenizer import Row, Tokenizer
from trireme.errors import InvalidInputError
from trireme.types import Embedding, FloatArray, InputType


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts of one request, each with its input type. `dimensions` None keeps the model's own."""

    texts: Sequence[str]
    input_types: Sequence[InputType]
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What the server must know of an embedding model; from its manifest."""

    dimensions: int
    normalize: bool
    query_prompt: str
    passage_prompt: str
    max_batch_tokens: int
    max_text_bytes: int


class TextEncoder:
    """Embeds texts with one session. Thread-safe; the rows of all callers share micro-batches."""

    def __init__(self, tokenizer: Tokenizer, session: Session, spec: EncoderSpec) -> None:
        self._tokenizer = tokenizer
        # At once for a micro-batch: row by row this would take longer than a GPU needs for short texts.
        self.queue = RowQueue(session, spec.max_batch_tokens, _normalize if spec.normalize else None)
        self.spec = spec

    def embed(
        self, texts: Sequence[str], input_type: InputType, dimensions: int | None = None
    ) -> list[Embedding]:
        """The embeddings of `texts`, in their order. Blocks; raises as `submit`, and what the session raises."""
        return self.submit(EmbedRequest(texts, [input_type] * len(texts), dimensions)).result()

    def submit(self, request: EmbedRequest) -> Pending[list[Embedding]]:
        """The embeddings of the request's texts, in their order. Tokenizes; does not wait for runs.

        Raises InvalidInputError, which names the row where there are several; then nothing of it is run.
        """
        self._check(request)
        prompts = {"query": self.spec.query_prompt, "passage": self.spec.passage_prompt}
        texts = [prompts[kind] + text for text, kind in zip(request.texts, request.input_types, strict=True)]
        rows = self._tokenizer.encode_texts(texts)
        for position, row in enumerate(rows):
            if not row.ids:
                with named_row(position, len(rows)):
                    raise InvalidInputError("text holds no token that the model knows; send words or signs")
        tokens = sum(len(row.ids) for row in rows)
        return Pending(self.queue.submit(rows), partial(_embeddings, request.dimensions, rows), tokens)

    def _check(self, request: EmbedRequest) -> None:
        for position, text in enumerate(request.texts):
            with named_row(position, len(request.texts)):
                check_text("text", text, self.spec.max_text_bytes)
        wanted = request.dimensions
        if wanted is not None and not 1 <= wanted <= self.spec.dimensions:
            raise InvalidInputError(f"dimensions must be from 1 to {self.spec.dimensions}, got {wanted}")


def _embeddings(dimensions: int | None, rows: Sequence[Row], vectors: FloatArray) -> list[Embedding]:
    if dimensions is not None and rows:
        vectors = _normalize(vectors[:, :dimensions])
    return [
        Embedding(vector, len(row.ids), row.truncated_tokens)
        for vector, row in zip(vectors, rows, strict=True)
    ]


@contextmanager
def named_row(position: int, rows: int) -> Iterator[None]:
    """Within it a wrong input is named by its row, where the request has several."""
    try:
        yield
    except InvalidInputError as error:
        raise (error if rows == 1 else InvalidInputError(f"row {position}: {error}")) from None


def check_text(name: str, text: str, max_bytes: int) -> None:
    """Raise InvalidInputError for a text that is blank or longer than `max_bytes` UTF-8 bytes."""
    if not text.strip():
        raise InvalidInputError(f"{name} is empty; send at least one visible character")
    check_size(name, text, max_bytes)


def check_size(name: str, text: str, max_bytes: int) -> None:
    """Raise InvalidInputError for a text longer than `max_bytes` UTF-8 bytes."""
    # A character has at most four bytes: the exact count is taken only near the limit.
    if len(text) * 4 > max_bytes and len(text.encode()) > max_bytes:
        raise InvalidInputError(f"{name} has {len(text.encode())} bytes, the limit is {max_bytes}; split it")


def _normalize(vectors: FloatArray) -> FloatArray:
    """Vectors [..., D] at unit length; of a shortened one too (Matryoshka truncation, arXiv:2205.13147)."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: FloatArray = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32, copy=False)
    return unit
