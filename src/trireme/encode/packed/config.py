"""What the files of a packed encoder say beside their weights: packed.json. Needs no torch.

The weights, in model.safetensors, are named `embeddings.word|position|segment`, `embeddings.norm.weight|bias`,
`layers.N.qkv|out|up|down.weight|bias`, `layers.N.attention_norm|output_norm.weight|bias` and `dense.N.weight|bias`.
In int8 the linear layers' weights [out, in] have a `scale` [out] beside them. The default reranker's own weights
are named `residual.NAME`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from trireme.errors import ArtifactError

PACKED_CONFIG_FILE = "packed.json"
PACKED_WEIGHTS_FILE = "model.safetensors"
PACKED_FORMAT_VERSION = 1
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
POOLINGS = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
ACTIVATIONS = ("gelu", "gelu_tanh", "relu")
DENSE_ACTIVATIONS = ("", "tanh", "relu")


@dataclass(frozen=True, slots=True)
class ResidualConfig:
    """Of the default reranker: as in the settings of its adapter (trireme.export.residual)."""

    apart: int
    bound: float
    strength: float
    short_passage: float
    long_query: float
    saturation: float
    length_weight: float
    mean_length: float
    inner_weight: float


@dataclass(frozen=True, slots=True)
class PackedConfig:
    """What the weights do not say. `dense`: activations of the layers behind pooling, "" for none.

    is_score: the output is one number per row, [R], instead of [R, D]. `residual`: the output is the default
    reranker's score, which takes a prior.
    """

    precision: str
    layers: int
    heads: int
    norm_eps: float
    activation: str
    has_segments: bool
    pooling: str
    dense: tuple[str, ...] = ()
    is_score: bool = False
    residual: ResidualConfig | None = None


def write_config(path: Path, config: PackedConfig) -> None:
    """Writes packed.json."""
    document = {"format_version": PACKED_FORMAT_VERSION, **asdict(config)}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def read_config(path: Path) -> PackedConfig:
    """The config at `path`. Raises ArtifactError for a file that is missing, damaged or of another version."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format_version", None) != PACKED_FORMAT_VERSION:
            raise ValueError(f"it is not of format version {PACKED_FORMAT_VERSION}")
        residual = document.pop("residual", None)
        config = PackedConfig(
            **{**document, "dense": tuple(document["dense"])},
            residual=None if residual is None else ResidualConfig(**residual),
        )
        if unknown := [what for what, is_known in _known_values(config) if not is_known]:
            raise ValueError(f"it names an unknown {unknown[0]}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"cannot load {path.name}: {error}; build the model again") from error
    return config


def _known_values(config: PackedConfig) -> Iterator[tuple[str, bool]]:
    yield "precision", config.precision in PRECISIONS
    yield "activation", config.activation in ACTIVATIONS
    yield "pooling", config.pooling in POOLINGS
    yield "dense activation", all(name in DENSE_ACTIVATIONS for name in config.dense)
