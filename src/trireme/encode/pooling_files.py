"""What lies beside a checkpoint that engine vllm serves: pooling.json and pooling.tensors. Needs no torch.

pooling.json says how the states of a row become its vector. pooling.tensors is a safetensors file: the layers
behind pooling, `dense.N.weight|bias`, and rows of tokens with what the original makes of them,
`probe.ids|lengths|vectors`: an engine that runs on a GPU alone is compared with them where there is one,
at its start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.encode.session import TokenBatch
from trireme.errors import ArtifactError
from trireme.types import FloatArray

POOLING_FILE = "pooling.json"
# Not .safetensors: vLLM takes each of those in a folder for weights of the model.
TENSORS_FILE = "pooling.tensors"
POOLING_FORMAT_VERSION = 1
POOLINGS = ("mean", "cls", "lasttoken")
PRECISIONS = ("fp16", "bf16")


def _relu(rows: FloatArray) -> FloatArray:
    return np.maximum(rows, 0.0)


def _keep(rows: FloatArray) -> FloatArray:
    return rows


# By the names of torch's modules.
DENSE_ACTIVATIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "Identity": _keep,
    "Tanh": np.tanh,
    "ReLU": _relu,
}


@dataclass(frozen=True, slots=True)
class PoolingConfig:
    """What a checkpoint's own files do not say to vLLM.

    max_length: tokens of the longest row. vocabulary: rows of the table of words. dense: activations of the layers
    behind pooling. truncate: dimensions kept of their output, 0 for all. cosine_min, cosine_mean: what the probe's
    vectors must at least agree with the original's.
    """

    pooling: str
    precision: str
    max_length: int
    vocabulary: int
    dense: tuple[str, ...] = ()
    truncate: int = 0
    cosine_min: float = 0.0
    cosine_mean: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolingFiles:
    """The two files, read. Layers are (weight [out, in], bias [out]); `vectors` [rows, D] are those of `probe`."""

    config: PoolingConfig
    layers: tuple[tuple[FloatArray, FloatArray], ...]
    probe: TokenBatch
    vectors: FloatArray

    def finish(self, pooled: FloatArray) -> FloatArray:
        """Vectors [rows, D] of pooled states [rows, H], not normalized."""
        for (weight, bias), activation in zip(self.layers, self.config.dense, strict=True):
            pooled = DENSE_ACTIVATIONS[activation](pooled @ weight.T + bias)
        return pooled[:, : self.config.truncate] if self.config.truncate else pooled

    def compare(self, found: FloatArray) -> tuple[float, float]:
        """Smallest and mean cosine of the probe's vectors to those of the original. Raises ArtifactError below the
        bounds; NaN is below every one."""
        cosines = (_unit(found) * _unit(self.vectors)).sum(1)
        least, mean = float(cosines.min()), float(cosines.mean())
        if not (least >= self.config.cosine_min and mean >= self.config.cosine_mean):
            raise ArtifactError(
                f"vectors are too far from the original's: cosine {least:.6f} at least and {mean:.6f} on average,"
                f" not {self.config.cosine_min} and {self.config.cosine_mean}; use another engine or precision, or"
                " set min_cosine and mean_cosine in the recipe and build the model again"
            )
        return least, mean


def write_pooling_files(
    folder: Path,
    config: PoolingConfig,
    layers: Mapping[str, npt.NDArray[Any]],
    probe: TokenBatch,
    vectors: FloatArray,
) -> None:
    """Writes both files into `folder`. layers: tensors by their names, `dense.N.weight` and `dense.N.bias`."""
    from safetensors.numpy import save_file

    tensors = {
        **{name: np.ascontiguousarray(value, np.float32) for name, value in layers.items()},
        "probe.ids": probe.ids.astype(np.int32),
        "probe.lengths": probe.lengths.astype(np.int32),
        "probe.vectors": np.ascontiguousarray(vectors, np.float32),
    }
    save_file(tensors, folder / TENSORS_FILE)
    # The library leaves it to its owner alone; a server may run as somebody else.
    (folder / TENSORS_FILE).chmod(0o644)
    document = {"format_version": POOLING_FORMAT_VERSION, **asdict(config)}
    (folder / POOLING_FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def read_pooling_files(folder: Path) -> PoolingFiles:
    """Both files of `folder`. Raises ArtifactError for one that is missing, damaged or of another version."""
    config = _read_config(folder / POOLING_FILE)
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(folder / TENSORS_FILE)
        layers = tuple(_take_layer(tensors, number) for number in range(len(config.dense)))
        ids = tensors["probe.ids"].astype(np.int64)
        probe = TokenBatch(ids, np.zeros_like(ids), tensors["probe.lengths"].astype(np.int64))
        return PoolingFiles(config, layers, probe, np.array(tensors["probe.vectors"], np.float32))
    except (OSError, SafetensorError, KeyError) as error:
        raise ArtifactError(f"cannot load {TENSORS_FILE}: {error}; build the model again") from error


def _take_layer(tensors: Mapping[str, npt.NDArray[Any]], number: int) -> tuple[FloatArray, FloatArray]:
    """Copies, as the file may change while it is served; a bias of zeros where there is none."""
    weight = np.array(tensors[f"dense.{number}.weight"], np.float32)
    return weight, np.array(tensors.get(f"dense.{number}.bias", np.zeros(len(weight))), np.float32)


def _read_config(path: Path) -> PoolingConfig:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format_version", None) != POOLING_FORMAT_VERSION:
            raise ValueError(f"it is not of format version {POOLING_FORMAT_VERSION}")
        config = PoolingConfig(**{**document, "dense": tuple(document["dense"])})
        if unknown := [what for what, is_known in _known_values(config) if not is_known]:
            raise ValueError(f"it names an unknown {unknown[0]}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"cannot load {path.name}: {error}; build the model again") from error
    return config


def _known_values(config: PoolingConfig) -> Iterator[tuple[str, bool]]:
    yield "pooling", config.pooling in POOLINGS
    yield "precision", config.precision in PRECISIONS
    yield "dense activation", all(name in DENSE_ACTIVATIONS for name in config.dense)


def _unit(rows: FloatArray) -> FloatArray:
    scaled: FloatArray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled
