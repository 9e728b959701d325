"""Bi-encoder: texts to unit vectors, many requests in one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trireme.encode.row_queue import RowQueue
from trireme.encode.session import Session
from trireme.encode.tokenizer import Row, Tokenizer
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


Answer = list[Embedding] | Exception


class TextEncoder:
    """Embeds texts with one session. Thread-safe; the rows of all callers share micro-batches."""

    def __init__(self, tokenizer: Tokenizer, session: Session, spec: EncoderSpec) -> None:
        self._tokenizer = tokenizer
        # At once for a micro-batch: row by row this would take longer than a GPU needs for short texts.
        self.queue = RowQueue(session, spec.max_batch_tokens, _normalize if spec.normalize else None)
        self.spec = spec

    def embed(
        self, requests: Sequence[EmbedRequest]
    ) -> tuple[list[list[Embedding] | TriremeError], BatchStats]:
        """One answer per request, in order: its embeddings, or the error of that request alone. Blocks.

        A request that fails its checks joins no micro-batch. Raises what the session raises.
        """
        answers, rows = self._read(requests)
        good = [position for position, answer in enumerate(answers) if answer is None]
        vectors, stats = self.queue.run([row for position in good for row in rows[position]])
        taken = 0
        for position in good:
            count = len(rows[position])
            answers[position] = _answer(requests[position], rows[position], vectors[taken : taken + count])
            taken += count
        return [answer for answer in answers if answer is not None], stats

    def submit(self, requests: Sequence[EmbedRequest], done: Callable[[int, Answer], None]) -> None:
        """Calls `done` once for each request with its position and answer, perhaps from other threads.

        What is no TriremeError is what the session raised. Tokenizes; does not wait for runs.
        """
        answers, rows = self._read(requests)
        for position, request in enumerate(requests):
            answer = answers[position]
            if answer is not None:
                done(position, answer)
                continue

            def finish(
                outputs: FloatArray | Exception,
                _: BatchStats,
                position: int = position,
                request: EmbedRequest = request,
            ) -> None:
                if isinstance(outputs, Exception):
                    done(position, outputs)
                else:
                    done(position, _answer(request, rows[position], outputs))

            try:
                self.queue.submit(rows[position], finish)
            except TriremeError as error:
                done(position, error)

    def _read(
        self, requests: Sequence[EmbedRequest]
    ) -> tuple[list[list[Embedding] | TriremeError | None], list[list[Row]]]:
        """The error of each request that is wrong, None for the others, and the rows of each."""
        errors: list[list[Embedding] | TriremeError | None] = []
        prompted: list[str] = []
        for request in requests:
            try:
                self._check(request)
            except TriremeError as error:
                errors.append(error)
                continue
            prompt = self.spec.query_prompt if request.input_type == "query" else self.spec.passage_prompt
            prompted += [prompt + text for text in request.texts]
            errors.append(None)
        encoded = iter(self._tokenizer.encode_texts(prompted))
        rows = [
            [] if error is not None else [next(encoded) for _ in request.texts]
            for request, error in zip(requests, errors, strict=True)
        ]
        return errors, rows

    def _check(self, request: EmbedRequest) -> None:
        for text in request.texts:
            check_text("text", text, self.spec.max_text_bytes)
        wanted = request.dimensions
        if wanted is not None and not 1 <= wanted <= self.spec.dimensions:
            raise InvalidInputError(f"dimensions must be from 1 to {self.spec.dimensions}, got {wanted}")


def _answer(request: EmbedRequest, rows: Sequence[Row], vectors: FloatArray) -> list[Embedding]:
    if request.dimensions is not None and rows:
        vectors = _normalize(vectors[:, : request.dimensions])
    return [
        Embedding(vector, len(row.ids), row.truncated_tokens)
        for vector, row in zip(vectors, rows, strict=True)
    ]


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
