"""Encoders with several outputs of a text: one vector, weights of words, a vector of each token.

A graph's outputs are told apart by their names; only those that somebody asks for are taken from a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from trireme.encode.runner import make_batch
from trireme.encode.session import NamedSession
from trireme.encode.tokenizer import Row
from trireme.errors import ArtifactError, InvalidInputError
from trireme.types import EncoderOutput, FloatArray, InputType, SparseVector, TokenRules

# Names of a graph's outputs: [B, D]; of a token's weight [B, L]; of weights of all words [B, V]; [B, L, D].
EMBEDDING, TOKEN_WEIGHTS, TERM_WEIGHTS, TOKEN_VECTORS = (
    "embedding",
    "token_weights",
    "term_weights",
    "token_vectors",
)
# What each output of an encoder may be made of.
_MADE_OF: dict[EncoderOutput, tuple[str, ...]] = {
    "dense": (EMBEDDING,),
    "sparse": (TOKEN_WEIGHTS, TERM_WEIGHTS),
    "multi": (TOKEN_VECTORS,),
}
# Of the vectors of tokens of one request: they are in memory until its last row has run.
MOST_VECTOR_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class AskedRow(Row):
    """A row of which `outputs` are asked for, and whose first `seen` tokens are seen; 0: all of them."""

    outputs: frozenset[EncoderOutput] = frozenset()
    input_type: InputType = "passage"
    seen: int = 0


@dataclass(frozen=True, slots=True)
class Parts:
    """What was made of a row, or of all windows of a text: those outputs that were asked for."""

    vector: FloatArray | None = None
    sparse: SparseVector | None = None
    token_vectors: FloatArray | None = None


class OutputRunner:
    """Makes the outputs of rows, each row those that it is asked for. Thread-safe as its session is."""

    def __init__(self, session: NamedSession, outputs: Sequence[EncoderOutput], rules: TokenRules) -> None:
        """Raises ArtifactError for an output that the graph has nothing for."""
        self._session, self._rules = session, rules
        self._names: dict[EncoderOutput, str] = {}
        for output in outputs:
            found = [name for name in _MADE_OF[output] if name in session.output_names]
            if not found:
                raise ArtifactError(f"the graph has no output for {output}; build the model again")
            self._names[output] = found[0]

    def run(self, rows: Sequence[Row]) -> list[Parts]:
        """The parts of each row. A row that is not asked for anything has all."""
        asked = [row if isinstance(row, AskedRow) else _ask_all(row, self._names) for row in rows]
        batch = make_batch(rows)
        if any(row.seen for row in asked):
            batch = replace(batch, seen=np.array([row.seen or len(row.ids) for row in asked], np.int64))
        wanted = frozenset[EncoderOutput]().union(*(row.outputs for row in asked))
        names = {output: self._names[output] for output in self._names if output in wanted}
        found = self._session.run_named(batch, list(names.values()))
        return [self._take(row, place, names, found) for place, row in enumerate(asked)]

    def _take(
        self, row: AskedRow, place: int, names: dict[EncoderOutput, str], found: dict[str, FloatArray]
    ) -> Parts:
        tokens = len(row.ids)
        vector = sparse = vectors = None
        if "dense" in row.outputs:
            vector = found[names["dense"]][place]
        if "sparse" in row.outputs:
            weights = found[names["sparse"]][place]
            is_vocabulary = names["sparse"] == TERM_WEIGHTS
            sparse = (
                weigh_terms(weights)
                if is_vocabulary
                else weigh_tokens(row.ids, weights[:tokens], self._rules.unweighted)
            )
        if "multi" in row.outputs:
            # A copy: what padding and other rows had does not stay in memory with it.
            vectors = found[names["multi"]][place][:tokens][keep_tokens(row, self._rules)]
        return Parts(vector, sparse, vectors)


def weigh_terms(weights: FloatArray) -> SparseVector:
    """The words whose weight is above 0, of the weights [V] of all words."""
    indices = np.flatnonzero(weights > 0)
    return SparseVector(indices.astype(np.int32), weights[indices].astype(np.float32))


def weigh_tokens(ids: Sequence[int], weights: FloatArray, unweighted: Sequence[int]) -> SparseVector:
    """Weights [n] of tokens by their ids: of equal ones the largest; none of those at 0 or `unweighted`."""
    tokens = np.asarray(ids, np.int32)
    kept = (weights > 0) & ~np.isin(tokens, np.asarray(unweighted, np.int32))
    return _largest(tokens[kept], weights[kept])


def keep_tokens(row: AskedRow, rules: TokenRules) -> npt.NDArray[np.bool_]:
    """Which tokens of a row have a vector."""
    skips = rules.query_skips if row.input_type == "query" else rules.passage_skips
    ids = np.asarray(row.ids)
    kept: npt.NDArray[np.bool_] = ~np.isin(ids, np.asarray(skips, np.int64))
    if rules.skips_first:
        kept[0] = False
    return kept


def ask(row: Row, outputs: frozenset[EncoderOutput], input_type: InputType, rules: TokenRules) -> AskedRow:
    """The row with what is asked of it, a query filled up as the model's rules say."""
    is_filled = input_type == "query" and "multi" in outputs
    missing = max(0, rules.expansion_length - len(row.ids)) if is_filled else 0
    return AskedRow(
        [*row.ids, *[rules.expansion_token] * missing],
        [*row.type_ids, *[0] * missing],
        row.truncated_tokens,
        row.own_tokens,
        outputs,
        input_type,
        len(row.ids) if missing and not rules.expansion_attends else 0,
    )


def check_vectors(tokens: int, rules: TokenRules) -> None:
    """Raises InvalidInputError where the vectors of so many tokens are more than one request may have."""
    size = tokens * rules.vector_size * np.dtype(np.float32).itemsize
    if size > MOST_VECTOR_BYTES:
        raise InvalidInputError(
            f"vectors of {tokens} tokens take {size} bytes, the limit of a request is {MOST_VECTOR_BYTES}; send"
            " fewer texts at once, or shorter ones"
        )


def join_windows(parts: Sequence[Parts], tokens: Sequence[int]) -> Parts:
    """The parts of a text from those of its windows: the mean by their `tokens`, each word's largest weight, all
    vectors in order."""
    if len(parts) == 1:
        return parts[0]
    vectors = [part.vector for part in parts if part.vector is not None]
    weights = [part.sparse for part in parts if part.sparse is not None]
    tokenwise = [part.token_vectors for part in parts if part.token_vectors is not None]
    return Parts(
        np.average(vectors, axis=0, weights=tokens).astype(np.float32) if vectors else None,
        reduce(_add, weights) if weights else None,
        np.concatenate(tokenwise) if tokenwise else None,
    )


def _add(one: SparseVector, other: SparseVector) -> SparseVector:
    return _largest(
        np.concatenate([one.indices, other.indices]), np.concatenate([one.weights, other.weights])
    )


def _largest(indices: npt.NDArray[np.int32], weights: FloatArray) -> SparseVector:
    """The largest weight of each index."""
    if not len(indices):
        return SparseVector(np.zeros(0, np.int32), np.zeros(0, np.float32))
    order = np.argsort(indices, kind="stable")
    found, starts = np.unique(indices[order], return_index=True)
    return SparseVector(found, np.maximum.reduceat(weights[order], starts).astype(np.float32))


def _ask_all(row: Row, outputs: dict[EncoderOutput, str]) -> AskedRow:
    return AskedRow(row.ids, row.type_ids, row.truncated_tokens, row.own_tokens, frozenset(outputs))
