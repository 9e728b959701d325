"""Bi-encoder: texts to unit vectors, many requests in one run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import numpy as np

from trireme.encode.outputs import OutputRunner, Parts, ask, check_vectors, join_windows
from trireme.encode.row_queue import Pending, RowQueue
from trireme.encode.session import NamedSession, Session, close_session
from trireme.encode.tokenizer import Row, Tokenizer
from trireme.errors import InvalidInputError, OverLengthError
from trireme.types import Embedding, EncoderOutput, FloatArray, InputType, OverLength, TokenRules

# What one text may cost where it is split, in texts of the model's own length.
MOST_WINDOWS = 256
# And what the texts of one request may be split into: others wait for all of it.
MOST_WINDOWS_OF_ALL = 2048


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts of one request, each with its input type. None of `dimensions` and `over_length` is the model's own.

    outputs: those that are made, of the model's; None: all of them.
    """

    texts: Sequence[str]
    input_types: Sequence[InputType]
    dimensions: int | None = None
    over_length: OverLength | None = None
    outputs: frozenset[EncoderOutput] | None = None


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What the server must know of an embedding model; from its manifest."""

    dimensions: int
    normalize: bool
    query_prompt: str
    passage_prompt: str
    max_batch_tokens: int
    max_text_bytes: int
    # Of requests that do not say what becomes of a text that is longer than the model reads.
    over_length: OverLength = "truncate"
    # See RowQueue.
    max_attention: float = math.inf
    outputs: tuple[EncoderOutput, ...] = ("dense",)
    # Of models with other outputs than dense.
    rules: TokenRules = field(default_factory=TokenRules)


class WindowCount:
    """Counts the windows that the texts of one request are split into."""

    def __init__(self) -> None:
        self._left = MOST_WINDOWS_OF_ALL

    def add(self, rows: list[Row]) -> list[Row]:
        """The windows of one text as they are. Raises OverLengthError once there are too many in all."""
        self._left -= len(rows)
        if self._left < 0:
            raise OverLengthError(
                f"over_length split makes at most {MOST_WINDOWS_OF_ALL} windows of the texts of one request, and"
                " these are more; send fewer at once"
            )
        return rows


class TextEncoder:
    """Embeds texts with one session. Thread-safe; the rows of all callers share micro-batches."""

    def __init__(self, tokenizer: Tokenizer, session: Session, spec: EncoderSpec) -> None:
        rules = spec.rules
        self._tokenizers = {
            "query": tokenizer.cut_at(rules.query_length) if rules.query_length else tokenizer,
            "passage": tokenizer.cut_at(rules.passage_length) if rules.passage_length else tokenizer,
        }
        self._is_parted = spec.outputs != ("dense",)
        if self._is_parted:
            run = OutputRunner(cast("NamedSession", session), spec.outputs, rules).run
            self.queue = RowQueue(session, spec.max_batch_tokens, run=run, max_attention=spec.max_attention)
        else:
            # At once for a micro-batch: row by row this would take longer than a GPU needs for short texts.
            finish = _normalize if spec.normalize else None
            self.queue = RowQueue(session, spec.max_batch_tokens, finish, max_attention=spec.max_attention)
        self._session = session
        self.spec = spec

    def close(self) -> None:
        """Runs what waits, then ends the threads and what the session has outside of this process. Idempotent."""
        self.queue.close()
        close_session(self._session)

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
        windows = self._encode(request)
        for position, rows in enumerate(windows):
            if not rows[0].ids:
                with named_row(position, len(windows)):
                    raise InvalidInputError("text holds no token that the model knows; send words or signs")
        embeddings: Callable[..., list[Embedding]] = _parted_embeddings if self._is_parted else _embeddings
        make = partial(embeddings, windows, dimensions=request.dimensions, normalize=self.spec.normalize)
        if self._is_parted:
            windows = self._ask(windows, request)
            if "multi" in (request.outputs or self.spec.outputs):
                # An answer's rows are as long as its longest.
                longest = max((sum(len(row.ids) for row in rows) for rows in windows), default=0)
                check_vectors(len(windows) * longest, self.spec.rules)
        every = [row for rows in windows for row in rows]
        tokens = sum(len(row.ids) for row in every)
        return Pending(self.queue.submit(every), make, tokens)

    def _encode(self, request: EmbedRequest) -> list[list[Row]]:
        """The rows of each text: one, or its windows where it is split."""
        known = {"query": self.spec.query_prompt, "passage": self.spec.passage_prompt}
        prompts = [known[kind] for kind in request.input_types]
        texts = [prompt + text for prompt, text in zip(prompts, request.texts, strict=True)]
        policy = request.over_length or self.spec.over_length
        windows = [[row] for row in self._tokenize(texts, request.input_types)]
        count = WindowCount()
        for position, (row,) in enumerate(windows):
            if row.truncated_tokens and policy != "truncate":
                with named_row(position, len(windows)):
                    check_length("text", row, policy)
                    tokenizer = self._tokenizers[request.input_types[position]]
                    split = tokenizer.split_text(request.texts[position], prompts[position])
                    windows[position] = count.add(split)
        return windows

    def _tokenize(self, texts: Sequence[str], kinds: Sequence[InputType]) -> list[Row]:
        """One row of each text, cut at what is read of its kind."""
        if self._tokenizers["query"] is self._tokenizers["passage"]:
            return self._tokenizers["query"].encode_texts(texts)
        return [
            self._tokenizers[kind].encode_texts([text])[0] for text, kind in zip(texts, kinds, strict=True)
        ]

    def _ask(self, windows: list[list[Row]], request: EmbedRequest) -> list[list[Row]]:
        outputs = request.outputs or frozenset(self.spec.outputs)
        return [
            [ask(row, outputs, kind, self.spec.rules) for row in rows]
            for rows, kind in zip(windows, request.input_types, strict=True)
        ]

    def _check(self, request: EmbedRequest) -> None:
        for position, text in enumerate(request.texts):
            with named_row(position, len(request.texts)):
                check_text("text", text, self.spec.max_text_bytes)
        if missing := sorted((request.outputs or frozenset()).difference(self.spec.outputs)):
            raise InvalidInputError(
                f"this model makes no {missing[0]} output; it makes {', '.join(self.spec.outputs)}"
            )
        wanted = request.dimensions
        if wanted is not None and "dense" not in self.spec.outputs:
            raise InvalidInputError("this model makes no vector of a text; leave dimensions out")
        if wanted is not None and not 1 <= wanted <= self.spec.dimensions:
            raise InvalidInputError(f"dimensions must be from 1 to {self.spec.dimensions}, got {wanted}")


def _embeddings(
    windows: Sequence[Sequence[Row]], vectors: FloatArray, *, dimensions: int | None, normalize: bool
) -> list[Embedding]:
    if len(vectors) > len(windows):
        vectors = _pool(windows, vectors)
        vectors = _normalize(vectors) if normalize else vectors
    if dimensions is not None and windows:
        vectors = _normalize(vectors[:, :dimensions])
    return [
        Embedding(vector, sum(len(row.ids) for row in rows), sum(row.truncated_tokens for row in rows))
        for vector, rows in zip(vectors, windows, strict=True)
    ]


def _parted_embeddings(
    windows: Sequence[Sequence[Row]], parts: Sequence[Parts], *, dimensions: int | None, normalize: bool
) -> list[Embedding]:
    """As `_embeddings`, from the parts of each row. `windows` has the rows as they were tokenized."""
    found, start = [], 0
    for rows in windows:
        tokens = [row.own_tokens or 1 for row in rows]
        whole = join_windows(parts[start : start + len(rows)], tokens)
        start += len(rows)
        vector = whole.vector
        if vector is None:
            vector = np.zeros(0, np.float32)
        elif normalize or dimensions is not None:
            vector = _normalize(vector[:dimensions])
        counts = sum(len(row.ids) for row in rows), sum(row.truncated_tokens for row in rows)
        found.append(Embedding(vector, *counts, whole.sparse, whole.token_vectors))
    return found


def _pool(windows: Sequence[Sequence[Row]], vectors: FloatArray) -> FloatArray:
    """One vector for each text [texts, D]: the mean of its windows' [rows, D], by the tokens that each has."""
    starts = np.cumsum([0, *map(len, windows[:-1])])
    weights = np.array([row.own_tokens or 1 for rows in windows for row in rows], np.float32)[:, None]
    pooled: FloatArray = np.add.reduceat(vectors * weights, starts) / np.add.reduceat(weights, starts)
    return pooled


def check_length(what: str, row: Row, policy: OverLength) -> None:
    """Raise OverLengthError for a text of which `row` lost a part that it must not, or one too long to split."""
    read, given = len(row.ids), len(row.ids) + row.truncated_tokens
    if row.truncated_tokens and policy == "error":
        raise OverLengthError(
            f"{what} has {given} tokens, the model reads {read}; send less, or over_length truncate or split"
        )
    if policy == "split" and given > MOST_WINDOWS * read:
        raise OverLengthError(
            f"{what} has {given} tokens, over_length split reads at most {MOST_WINDOWS * read}; send it in parts"
        )


@contextmanager
def named_row(position: int, rows: int) -> Iterator[None]:
    """Within it a wrong input is named by its row, where the request has several."""
    try:
        yield
    except InvalidInputError as error:
        raise (error if rows == 1 else type(error)(f"row {position}: {error}")) from None


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
