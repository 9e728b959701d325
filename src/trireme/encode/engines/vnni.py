"""Sessions of packed encoders in int8 on the CPU, by kernels of our own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.encode.batching import RunCost
from trireme.encode.packed.config import PACKED_CONFIG_FILE, PACKED_WEIGHTS_FILE, PackedConfig, read_config
from trireme.encode.packed.cpu_kernels import PackedRows, VnniEncoder, open_kernels
from trireme.encode.packed.residual import ResidualRanker
from trireme.encode.session import SessionOptions, TokenBatch, check_rows
from trireme.errors import ArtifactError, InvalidInputError
from trireme.types import FloatArray


def _relu(rows: FloatArray) -> FloatArray:
    return np.maximum(rows, 0.0)


_ACTIVATIONS: dict[str, Callable[[FloatArray], FloatArray]] = {"tanh": np.tanh, "relu": _relu}


class VnniSession:
    """A packed encoder of a version folder: rows without padding, one thread a run, a run on each core."""

    cost = RunCost(call_tokens=0, pads=False)

    def __init__(self, folder: Path, options: SessionOptions) -> None:
        """`options.threads`: how many runs go on side by side, 0 for one per core of its share.

        Raises ArtifactError for files it cannot read, UnavailableError where the kernels are not compiled.
        """
        library = open_kernels()
        config, weights = _read(folder)
        self._encoder = VnniEncoder(library, config, weights)
        self._config = config
        self._dense = [
            (*_take_dense(weights, number), activation) for number, activation in enumerate(config.dense)
        ]
        self._ranker = config.residual and ResidualRanker(self._encoder, config.residual, weights)
        self.input_names = ["input_ids", *(["token_type_ids"] if config.has_segments else [])]
        self.streams = options.threads or options.cores

    def run(self, batch: TokenBatch) -> FloatArray:
        """Pooled rows, logits or scores: float32 [rows, ...].

        Raises InvalidInputError for an empty row, one longer than the position table, or an id beyond its table.
        """
        rows = self._pack(batch)
        if self._ranker:
            return self._ranker.adjust(rows)
        hidden = self._encoder.embed(rows)
        self._encoder.run(hidden, rows, 0, self._encoder.layers)
        pooled = pool_rows(hidden, rows.offsets, self._config.pooling)
        for weight, bias, activation in self._dense:
            pooled = pooled @ weight.T + bias
            if activation:
                pooled = _ACTIVATIONS[activation](pooled)
        return pooled[:, 0] if self._config.is_score else pooled

    def _pack(self, batch: TokenBatch) -> PackedRows:
        encoder, types = self._encoder, batch.type_ids
        if not self._config.has_segments:
            types = np.zeros_like(batch.ids)
        longest = check_rows(batch.lengths, encoder.positions)
        # The kernels check nothing.
        for name, found, entries in (
            ("id", batch.ids, encoder.vocabulary),
            ("segment", types, encoder.segments),
        ):
            if int(found.min()) < 0 or int(found.max()) >= entries:
                raise InvalidInputError(f"a token's {name} is not within 0 to {entries - 1}")
        offsets = np.zeros(len(batch.lengths) + 1, np.int32)
        np.cumsum(batch.lengths, out=offsets[1:])
        return PackedRows(batch.ids.astype(np.int32), types.astype(np.int32), offsets, longest)


def pool_rows(hidden: FloatArray, offsets: npt.NDArray[np.int32], mode: str) -> FloatArray:
    """States [T, H] -> one row of H per row of tokens. Modes as in sentence-transformers' Pooling."""
    starts = offsets[:-1]
    if mode in ("cls", "lasttoken"):
        picked: FloatArray = hidden[starts if mode == "cls" else offsets[1:] - 1]
        return picked
    if mode == "max":
        most: FloatArray = np.maximum.reduceat(hidden, starts, axis=0)
        return most
    lengths = np.diff(offsets).astype(np.float32)
    if mode == "weightedmean":
        place = np.arange(len(hidden)) - np.repeat(starts, np.diff(offsets))
        hidden = hidden * (place + 1)[:, None].astype(np.float32)
        lengths = lengths * (lengths + 1) / 2
    elif mode == "mean_sqrt_len_tokens":
        lengths = np.sqrt(lengths)
    mean: FloatArray = np.add.reduceat(hidden, starts, axis=0) / lengths[:, None]
    return mean


def _take_dense(weights: dict[str, npt.NDArray[Any]], number: int) -> tuple[FloatArray, FloatArray]:
    """Copies of weight and bias, zero where there is none: the files may change while they are served."""
    name = f"dense.{number}"
    if f"{name}.weight" not in weights:
        raise ArtifactError(f"the weights hold no '{name}.weight'; build the model again")
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias", 0.0)
    return np.array(weight, np.float32), np.array(bias, np.float32)


def _read(folder: Path) -> tuple[PackedConfig, dict[str, npt.NDArray[Any]]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    config = read_config(folder / PACKED_CONFIG_FILE)
    if config.precision != "int8":
        raise ArtifactError(f"engine vnni runs int8, the model is {config.precision}; build it again")
    try:
        return config, load_file(folder / PACKED_WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"cannot load {PACKED_WEIGHTS_FILE}: {error}; build the model again") from error
