"""The model runner port: rows of tokens in, one output per row out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trireme.encode.batching import RunCost
from trireme.errors import ArtifactError, InvalidInputError
from trireme.types import FloatArray

Feeds = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Rows one behind the other: `ids` and `type_ids` int64 [tokens], `lengths` int64 [rows], sum = tokens."""

    ids: npt.NDArray[np.int64]
    type_ids: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    # Tokens of each row, from its first, that its tokens see; None: all. int64 [rows].
    seen: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """threads: within an operator, 0 for the engine's choice. `device_id`: of a CUDA device, None for the CPU.

    max_length: tokens of the longest row, which padding must not pass; 0 where it may. instances: how many
    sessions share the machine's cores. gpu_memory_utilization: how much of the card's memory engine vllm may take.
    """

    threads: int = 0
    device_id: int | None = None
    max_length: int = 0
    instances: int = 1
    gpu_memory_utilization: float = 0.9

    @property
    def cores(self) -> int:
        """This session's share of the cores that the process may use."""
        return max(1, len(os.sched_getaffinity(0)) // self.instances)


class Session(Protocol):
    """Runs a graph. Blocks; thread-safe."""

    @property
    def input_names(self) -> Sequence[str]:
        """Names of the graph's inputs: input_ids, attention_mask, token_type_ids."""

    @property
    def cost(self) -> RunCost:
        """What a run costs: how rows are best put together."""

    @property
    def streams(self) -> int:
        """How many runs go on side by side; more wait for one another."""

    def run(self, batch: TokenBatch) -> FloatArray:
        """The graph's first output, float32 [rows, ...]."""


class NamedSession(Session, Protocol):
    """A session of a graph whose outputs have names: several of them, or one of each token."""

    @property
    def output_names(self) -> Sequence[str]:
        """Names of the graph's outputs."""

    def run_named(self, batch: TokenBatch, names: Sequence[str]) -> dict[str, FloatArray]:
        """The outputs of these names, float32 [rows, ...]; those of tokens are [rows, width, ...], padding too."""


def close_session(session: Session) -> None:
    """Ends what a session has outside of this process; most have nothing. Blocks; idempotent."""
    close = getattr(session, "close", None)
    if close is not None:
        close()


def check_rows(lengths: npt.NDArray[np.int64], positions: int) -> int:
    """The tokens of the longest row. Raises InvalidInputError for no rows, an empty one, or one too long."""
    if len(lengths) == 0 or int(lengths.min()) < 1:
        raise InvalidInputError("a batch has rows, and a row has tokens")
    longest = int(lengths.max())
    if longest > positions:
        raise InvalidInputError(f"a row has {longest} tokens, the model has {positions} positions")
    return longest


def check_inputs(names: Sequence[str], file: str) -> list[str]:
    """The names of a graph's inputs, in order. Raises ArtifactError for one that `pad_rows` does not make."""
    for name in names:
        if name not in ("input_ids", "attention_mask", "token_type_ids"):
            raise ArtifactError(f"{file} wants an input {name!r}, which nothing gives; build the model again")
    return list(names)


def pad_rows(batch: TokenBatch, cost: RunCost) -> Feeds:
    """input_ids, attention_mask, token_type_ids [rows, width] int64."""
    rows, width = len(batch.lengths), cost.width(int(batch.lengths.max()))
    inside = np.arange(width) < batch.lengths[:, None]
    ids, types = np.zeros((rows, width), np.int64), np.zeros((rows, width), np.int64)
    ids[inside], types[inside] = batch.ids, batch.type_ids
    seen = inside if batch.seen is None else np.arange(width) < batch.seen[:, None]
    return {"input_ids": ids, "attention_mask": seen.astype(np.int64), "token_type_ids": types}
