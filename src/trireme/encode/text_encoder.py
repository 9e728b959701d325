"""Bi-encoder: texts to unit vectors, many requests in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trireme.encode.runner import run_rows
from trireme.encode.session import Session
from trireme.encode.tokenizer import Tokenizer
from trireme.errors import InvalidInputError, TriremeError
from trireme.types import BatchStats, Embedding, FloatArray, InputType


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts of one request. `dimensions` None keeps the model's own."""

    texts: Sequence[str]
    input_type: InputType
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
    """Embeds texts with one session. Blocks; holds no state between calls."""

    def __init__(self, tokenizer: Tokenizer, session: Session, spec: EncoderSpec) -> None:
        self._tokenizer = tokenizer
        self._session = session
        self.spec = spec

    def embed(
        self, requests: Sequence[EmbedRequest]
    ) -> tuple[list[list[Embedding] | TriremeError], BatchStats]:
        """One answer per request, in order: its embeddings, or the error of that request alone.

        All rows of all requests share micro-batches; a request that fails its checks joins none.
        """
        answers: list[list[Embedding] | TriremeError] = []
        prompted: list[str] = []
        for request in requests:
            try:
                self._check(request)
            except TriremeError as error:
                answers.append(error)
                continue
            prompt = self.spec.query_prompt if request.input_type == "query" else self.spec.passage_prompt
            prompted += [prompt + text for text in request.texts]
            answers.append([])
        rows = self._tokenizer.encode_texts(prompted)
        vectors, stats = run_rows(self._session, rows, self.spec.max_batch_tokens)
        # All at once: row by row this would take longer than a GPU needs for short texts.
        if self.spec.normalize and len(vectors):
            vectors = _normalize(vectors)
        taken = 0
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, TriremeError):
                continue
            for _ in request.texts:
                vector = vectors[taken]
                if request.dimensions is not None:
                    vector = _normalize(vector[: request.dimensions])
                answer.append(Embedding(vector, len(rows[taken].ids), rows[taken].truncated_tokens))
                taken += 1
        return answers, stats

    def _check(self, request: EmbedRequest) -> None:
        for text in request.texts:
            check_text("text", text, self.spec.max_text_bytes)
        wanted = request.dimensions
        if wanted is not None and not 1 <= wanted <= self.spec.dimensions:
            raise InvalidInputError(f"dimensions must be from 1 to {self.spec.dimensions}, got {wanted}")


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
