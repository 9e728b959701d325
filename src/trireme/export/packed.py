"""Checkpoints as files of the packed encoders (engines torch and vnni): fused weights and a small config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trireme.encode.packed.bert import DTYPES
from trireme.encode.packed.config import CONFIG_FILE, WEIGHTS_FILE, PackedConfig, ResidualConfig, write_config
from trireme.encode.packed.cpu_kernels import find_misfit
from trireme.errors import UnsupportedError
from trireme.export.checkpoint import OFFSET_FAMILIES, Checkpoint, read_with_defaults
from trireme.export.graph import Graph, PooledEncoder, SequenceClassifier
from trireme.export.sentence_files import DenseLayer
from trireme.export.weights import DenseBlock

FILES = (WEIGHTS_FILE, CONFIG_FILE)
# What a byte holds on either side of zero.
BYTE = 127.0

_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
_DENSE_ACTIVATIONS = {"Identity": "", "Tanh": "tanh", "ReLU": "relu"}
_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads")
_BERT = {
    "layers": "encoder.layer",
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "output_norm": "output.LayerNorm",
}
_DISTILBERT = {
    "layers": "transformer.layer",
    "qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "out": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
    "output_norm": "output_layer_norm",
}
# Layers between the first token's state and the logits, with their activations.
_HEADS = {
    "bert": (("bert.pooler.dense", "tanh"), ("classifier", "")),
    "distilbert": (("pre_classifier", "relu"), ("classifier", "")),
    "roberta": (("classifier.dense", "tanh"), ("classifier.out_proj", "")),
    "xlm-roberta": (("classifier.dense", "tanh"), ("classifier.out_proj", "")),
}


def write_packed(graph: Graph, checkpoint: Checkpoint, precision: str, folder: Path) -> None:
    """Writes FILES into `folder`. Raises UnsupportedError for what the packed encoder cannot run."""
    module = graph.module
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
        dense = [(_linear(states, name), activation) for name, activation in _HEADS[checkpoint.family]]
    else:
        _write_residual(module, checkpoint, precision, folder)
        return
    config = _packed_config(encoder.config, checkpoint, precision)
    weights = _encoder_weights(encoder.state_dict(), checkpoint, encoder.config)
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
    stated = AutoConfig.from_pretrained(str(checkpoint.transformer_dir), local_files_only=True)
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

    save_file({name: value.contiguous() for name, value in weights.items()}, folder / WEIGHTS_FILE)
    # The library leaves it to its owner alone; a server may run as somebody else.
    (folder / WEIGHTS_FILE).chmod(0o644)
    write_config(folder / CONFIG_FILE, config)


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
    config = read_with_defaults(checkpoint.transformer_dir)
    is_distil = checkpoint.family == "distilbert"
    sizes = ("dim", "hidden_dim", "n_heads") if is_distil else _SIZES
    if misfit := find_misfit(*(int(config[name]) for name in sizes)):
        return misfit
    stated = config.get("activation" if is_distil else "hidden_act", "gelu")
    unknown = _find_unknown(stated, config.get("position_embedding_type") or "absolute")
    return unknown or _find_unknown_end(checkpoint.dense, checkpoint.truncate)


def _find_unknown_end(dense: Sequence[DenseLayer], truncate: int) -> str:
    """What behind pooling no packed encoder knows; "" for nothing."""
    for layer in dense:
        if layer.activation not in _DENSE_ACTIVATIONS:
            return f"it has a Dense with the activation {layer.activation!r}"
        if layer.is_residual:
            return "it has a Dense with use_residual"
    return f"it has truncate_dim {truncate}" if truncate else ""


def _find_unknown(activation: str, position_embedding_type: str) -> str:
    """What of a model no packed encoder knows; "" for nothing."""
    if activation not in _ACTIVATIONS:
        return f"it has an activation {activation!r}"
    if position_embedding_type != "absolute":
        return f"it has a position_embedding_type {position_embedding_type!r}"
    return ""


def _packed_config(config: Any, checkpoint: Checkpoint, precision: str) -> dict[str, Any]:
    # DistilBERT has names of its own, and fixes the norm's epsilon in its code.
    is_distil = checkpoint.family == "distilbert"
    stated = config.activation if is_distil else config.hidden_act
    unknown = _find_unknown(stated, getattr(config, "position_embedding_type", "absolute"))
    if unknown:
        raise UnsupportedError(f"a packed encoder cannot run {checkpoint.folder}: {unknown}; use engine onnx")
    return {
        "precision": precision,
        "layers": config.n_layers if is_distil else config.num_hidden_layers,
        "heads": config.n_heads if is_distil else config.num_attention_heads,
        "norm_eps": 1e-12 if is_distil else config.layer_norm_eps,
        "activation": _ACTIVATIONS[stated],
        "has_segments": checkpoint.has_segments,
    }


def _encoder_weights(states: dict[str, Tensor], checkpoint: Checkpoint, config: Any) -> dict[str, Tensor]:
    names = _DISTILBERT if checkpoint.family == "distilbert" else _BERT
    word = states["embeddings.word_embeddings.weight"]
    # Positions of these families begin after the padding index.
    skipped = int(config.pad_token_id) + 1 if checkpoint.family in OFFSET_FAMILIES else 0
    segment = states.get("embeddings.token_type_embeddings.weight", torch.zeros(1, word.shape[1]))
    weights = {
        "embeddings.word": word,
        "embeddings.position": states["embeddings.position_embeddings.weight"][skipped:],
        "embeddings.segment": segment if checkpoint.has_segments else segment[:1],
        **_prefixed("embeddings.norm", _linear(states, "embeddings.LayerNorm")),
    }
    layers = config.n_layers if checkpoint.family == "distilbert" else config.num_hidden_layers
    for number in range(layers):
        source, target = f"{names['layers']}.{number}", f"layers.{number}"
        parts = [_linear(states, f"{source}.{name}") for name in names["qkv"]]
        fused = {name: torch.cat([part[name] for part in parts]) for name in ("weight", "bias")}
        weights |= _prefixed(f"{target}.qkv", fused)
        for part in ("out", "attention_norm", "up", "down", "output_norm"):
            weights |= _prefixed(f"{target}.{part}", _linear(states, f"{source}.{names[part]}"))
    return weights


def _linear(states: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    parts = {part: states.get(f"{name}.{part}") for part in ("weight", "bias")}
    return {part: value for part, value in parts.items() if value is not None}


def _prefixed(name: str, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{part}": value for part, value in parts.items()}


def _dense_layer(block: DenseBlock) -> tuple[dict[str, Tensor], str]:
    return dict(block.linear.state_dict()), _DENSE_ACTIVATIONS[block.activation]
