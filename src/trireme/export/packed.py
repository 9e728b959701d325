"""Checkpoints as files of the packed encoders (engines torch and vnni): fused weights and a small config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trireme.checkpoints.config import read_json
from trireme.checkpoints.families import STATIC
from trireme.encode.packed.bert import DTYPES
from trireme.encode.packed.config import (
    PACKED_CONFIG_FILE,
    PACKED_WEIGHTS_FILE,
    PackedConfig,
    ResidualConfig,
    write_config,
)
from trireme.encode.packed.cpu_kernels import find_misfit
from trireme.errors import UnsupportedError
from trireme.export.checkpoint import Checkpoint
from trireme.export.graph import Graph, PooledEncoder, SequenceClassifier
from trireme.export.sentence_files import DenseLayer
from trireme.export.weights import DenseBlock

FILES = (PACKED_WEIGHTS_FILE, PACKED_CONFIG_FILE)
# What a byte holds on either side of zero.
BYTE = 127.0
_OUTPUTS = "it has other outputs than a vector of the text"

_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
_DENSE_ACTIVATIONS = {"Identity": "", "Tanh": "tanh", "ReLU": "relu"}


def write_packed(graph: Graph, checkpoint: Checkpoint, precision: str, folder: Path) -> None:
    """Writes FILES into `folder`. Raises UnsupportedError for what the packed encoder cannot run."""
    if checkpoint.outputs != ("dense",):
        raise UnsupportedError(
            f"a packed encoder cannot run {checkpoint.folder}: {_OUTPUTS}; use engine onnx or openvino"
        )
    module = graph.module
    encoder: Any
    if isinstance(module, PooledEncoder):
        encoder, pooling = module.encoder, module.pooling
        if unknown := _find_unknown_end(checkpoint.dense, checkpoint.truncate):
            raise UnsupportedError(
                f"a packed encoder cannot run {checkpoint.folder}: {unknown}; use engine onnx"
            )
        dense = [_dense_layer(part) for part in module.dense if isinstance(part, DenseBlock)]
    elif isinstance(module, SequenceClassifier):
        encoder, pooling = getattr(module.classifier, str(module.classifier.base_model_prefix)), "cls"
        states = module.classifier.state_dict()
        dense = [(_linear(states, name), activation) for name, activation in checkpoint.family.head or ()]
        if checkpoint.kind == "cross_encoder" and len(dense[-1][0]["weight"]) == 2:
            # The second label's logit less the first's, in one row.
            last = {name: (value[1] - value[0])[None] for name, value in dense[-1][0].items()}
            dense[-1] = (last, dense[-1][1])
    else:
        _write_residual(module, checkpoint, precision, folder)
        return
    stated: dict[str, Any] = encoder.config.to_dict()
    config = _packed_config(stated, checkpoint, precision)
    weights = _encoder_weights(encoder.state_dict(), checkpoint, stated)
    for number, (parts, _) in enumerate(dense):
        weights |= {f"dense.{number}.{name}": value for name, value in parts.items()}
    packed = PackedConfig(
        **config,
        pooling=pooling,
        dense=tuple(activation for _, activation in dense),
        is_score=checkpoint.kind == "cross_encoder",
    )
    made = quantize_weights(weights) if precision == "int8" else cast_weights(weights, DTYPES[precision])
    _write_files(made, packed, folder)


def _write_residual(module: Any, checkpoint: Checkpoint, precision: str, folder: Path) -> None:
    """The default reranker: its encoder, and what makes its scores beside it."""
    from transformers import AutoConfig

    from trireme.export.residual import encoder_name

    if precision != "int8":
        raise UnsupportedError("engine torch runs no reranker with an adapter; use openvino or onnx")
    stated = AutoConfig.from_pretrained(str(checkpoint.transformer_dir), local_files_only=True).to_dict()
    states = {encoder_name(name): value for name, value in module.encoder.state_dict().items()}
    own = {
        name.removeprefix("interaction."): value
        for name, value in module.state_dict().items()
        if not name.startswith("encoder.")
    }
    own["stem"] = own["stem"].to(torch.int32)
    settings = asdict(module.settings)
    residual = ResidualConfig(**{spec.name: settings[spec.name] for spec in fields(ResidualConfig)})
    packed = PackedConfig(
        **_packed_config(stated, checkpoint, precision),
        pooling="cls",
        is_score=True,
        residual=residual,
    )
    weights = quantize_weights(_encoder_weights(states, checkpoint, stated))
    _write_files(weights | _prefixed("residual", own), packed, folder)


def _write_files(weights: dict[str, Tensor], config: PackedConfig, folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in weights.items()}, folder / PACKED_WEIGHTS_FILE)
    # The library leaves it to its owner alone; a server may run as somebody else.
    (folder / PACKED_WEIGHTS_FILE).chmod(0o644)
    write_config(folder / PACKED_CONFIG_FILE, config)


def cast_weights(weights: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """All of `weights` in `dtype`."""
    return {name: value.to(dtype) for name, value in weights.items()}


def quantize_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The layers' matrices in int8 with a float32 scale per output; the words' table in fp16, the rest in fp32."""
    made = cast_weights(weights, torch.float32)
    made["embeddings.word"] = weights["embeddings.word"].half()
    for name, value in weights.items():
        if name.startswith("layers.") and value.dim() == 2:
            scale = value.float().abs().amax(1).clamp(min=1e-12) / BYTE
            made[name] = torch.round(value.float() / scale[:, None]).to(torch.int8)
            made[f"{name.removesuffix('.weight')}.scale"] = scale
    return made


def find_obstacle(checkpoint: Checkpoint) -> str:
    """Why engine vnni cannot run `checkpoint`; "" where it can. Reads its config.json."""
    if checkpoint.family is STATIC:
        return "it has a table of words and no layers"
    if checkpoint.outputs != ("dense",):
        return _OUTPUTS
    config = read_json(checkpoint.transformer_dir / "config.json")
    sizes = checkpoint.family.sizes.read(config)
    return (
        find_misfit(sizes.hidden, sizes.inner, sizes.heads)
        or _find_unknown(checkpoint, config)
        or _find_unknown_end(checkpoint.dense, checkpoint.truncate)
    )


def _find_unknown_end(dense: Sequence[DenseLayer], truncate: int) -> str:
    """What behind pooling no packed encoder knows; "" for nothing."""
    for layer in dense:
        if layer.activation not in _DENSE_ACTIVATIONS:
            return f"it has a Dense with the activation {layer.activation!r}"
        if layer.is_residual:
            return "it has a Dense with use_residual"
    return f"it has truncate_dim {truncate}" if truncate else ""


def _find_unknown(checkpoint: Checkpoint, config: Mapping[str, Any]) -> str:
    """What of a model no packed encoder knows; "" for nothing."""
    family = checkpoint.family
    if family.layers is None or (checkpoint.kind != "text_encoder" and family.head is None):
        return f"it has a model_type {family.model_type!r}"
    if family.embedding is not None and config.get(*family.embedding) != family.sizes.read(config).hidden:
        return f"its {family.embedding[0]} differs from its hidden size"
    activation = config.get(family.activation, "gelu")
    if activation not in _ACTIVATIONS:
        return f"it has an activation {activation!r}"
    position_embedding_type = config.get("position_embedding_type") or "absolute"
    if position_embedding_type != "absolute":
        return f"it has a position_embedding_type {position_embedding_type!r}"
    return ""


def _packed_config(config: Mapping[str, Any], checkpoint: Checkpoint, precision: str) -> dict[str, Any]:
    if unknown := _find_unknown(checkpoint, config):
        raise UnsupportedError(f"a packed encoder cannot run {checkpoint.folder}: {unknown}; use engine onnx")
    family = checkpoint.family
    sizes = family.sizes.read(config)
    fixed = family.layers.norm_eps if family.layers else None
    return {
        "precision": precision,
        "layers": sizes.layers,
        "heads": sizes.heads,
        "norm_eps": config["layer_norm_eps"] if fixed is None else fixed,
        "activation": _ACTIVATIONS[config[family.activation]],
        "has_segments": checkpoint.has_segments,
    }


def _encoder_weights(
    states: dict[str, Tensor], checkpoint: Checkpoint, config: Mapping[str, Any]
) -> dict[str, Tensor]:
    family = checkpoint.family
    names = family.layers
    assert names is not None  # noqa: S101 - _packed_config has refused it
    word = states["embeddings.word_embeddings.weight"]
    segment = states.get("embeddings.token_type_embeddings.weight", torch.zeros(1, word.shape[1]))
    position = states["embeddings.position_embeddings.weight"]
    weights = {
        "embeddings.word": word,
        "embeddings.position": position[family.skipped_positions(config) :],
        "embeddings.segment": segment if checkpoint.has_segments else segment[:1],
        **_prefixed("embeddings.norm", _linear(states, "embeddings.LayerNorm")),
    }
    for number in range(family.sizes.read(config).layers):
        source, target = f"{names.layers}.{number}", f"layers.{number}"
        parts = [_linear(states, f"{source}.{name}") for name in names.qkv]
        fused = {name: torch.cat([part[name] for part in parts]) for name in ("weight", "bias")}
        weights |= _prefixed(f"{target}.qkv", fused)
        for part in ("out", "attention_norm", "up", "down", "output_norm"):
            weights |= _prefixed(f"{target}.{part}", _linear(states, f"{source}.{getattr(names, part)}"))
    return weights


def _linear(states: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    parts = {part: states.get(f"{name}.{part}") for part in ("weight", "bias")}
    return {part: value for part, value in parts.items() if value is not None}


def _prefixed(name: str, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{part}": value for part, value in parts.items()}


def _dense_layer(block: DenseBlock) -> tuple[dict[str, Tensor], str]:
    return dict(block.linear.state_dict()), _DENSE_ACTIVATIONS[block.activation]
