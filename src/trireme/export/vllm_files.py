"""Checkpoints as files of engine vllm: their weights as they are, a config.json, and what stands behind pooling."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.artifacts.parity_texts import TEXTS
from trireme.checkpoints.config import CONFIG_FILE, WEIGHTS_FILE, read_json
from trireme.checkpoints.gpu_families import NO_FP16_ON_GPU, POOLED_ON_GPU
from trireme.checkpoints.source import link_file
from trireme.checkpoints.tensors import INDEX_FILE
from trireme.encode.pooling_files import DENSE_ACTIVATIONS, POOLINGS, PoolingConfig, write_pooling_files
from trireme.encode.session import TokenBatch
from trireme.errors import UnsupportedError
from trireme.export.checkpoint import Checkpoint
from trireme.export.graph import Graph, PooledEncoder
from trireme.export.measure import compare_tokens, open_tokenizer, open_torch
from trireme.export.parity import run_texts
from trireme.export.weights import DenseBlock


def check_vllm(checkpoint: Checkpoint, precision: str) -> None:
    """Raises UnsupportedError, naming what to use instead, for a checkpoint that engine vllm does not serve."""
    if obstacle := _find_obstacle(checkpoint, precision) or _find_unknown_end(checkpoint):
        raise UnsupportedError(f"engine vllm does not serve {checkpoint.folder}: {obstacle}")


def write_vllm(
    graph: Graph,
    checkpoint: Checkpoint,
    precision: str,
    folder: Path,
    least: Mapping[str, float],
    *,
    texts: Sequence[str] = TEXTS,
) -> None:
    """Writes weights, config.json, pooling.json and pooling.tensors into `folder`, which holds the tokenizer.

    least: cosine_min and cosine_mean of a start on a GPU, for `texts`. Runs the original on the CPU. Raises
    UnsupportedError, and GateError where the tokenizer differs.
    """
    check_vllm(checkpoint, precision)
    for name, origin in _find_weights(checkpoint).items():
        link_file(origin, folder / name)
    _write_config(checkpoint, folder)
    compare_tokens(checkpoint, folder)
    tokenizer = open_tokenizer(folder, checkpoint.max_length)
    vectors = run_texts(open_torch(graph), tokenizer, texts)
    tokenizer.no_padding()
    rows = [encoded.ids for encoded in tokenizer.encode_batch(list(texts))]
    ids = np.array([token for row in rows for token in row], np.int64)
    probe = TokenBatch(ids, np.zeros_like(ids), np.array([len(row) for row in rows], np.int64))
    write_pooling_files(
        folder, describe_pooling(graph, checkpoint, precision, least), collect_layers(graph), probe, vectors
    )


def describe_pooling(
    graph: Graph, checkpoint: Checkpoint, precision: str, least: Mapping[str, float]
) -> PoolingConfig:
    """What pooling.json says of the checkpoint."""
    return PoolingConfig(
        pooling=checkpoint.pooling,
        precision=precision,
        max_length=checkpoint.max_length,
        vocabulary=graph.vocabulary,
        dense=tuple(layer.activation for layer in checkpoint.dense),
        truncate=checkpoint.truncate,
        **least,
    )


def collect_layers(graph: Graph) -> dict[str, npt.NDArray[Any]]:
    """Weights of the layers behind pooling, by the names that they have in pooling.tensors."""
    module = graph.module
    blocks = module.dense if isinstance(module, PooledEncoder) else ()
    return {
        f"dense.{number}.{name}": value.numpy()
        for number, block in enumerate(blocks)
        if isinstance(block, DenseBlock)
        for name, value in block.linear.state_dict().items()
    }


def _find_obstacle(checkpoint: Checkpoint, precision: str) -> str:
    """What is in the way and what to do; "" for nothing."""
    model_type = checkpoint.family.model_type
    if checkpoint.kind != "text_encoder":
        return "it makes no vectors of texts; use engine torch or onnx"
    if checkpoint.outputs != ("dense",):
        return (
            "it has other outputs than a vector of the text; name dense alone in outputs, or use engine onnx"
        )
    if model_type not in POOLED_ON_GPU:
        return f"vLLM has no model of its own for model_type {model_type!r}; use engine onnx"
    if precision == "fp16" and model_type in NO_FP16_ON_GPU:
        return f"float16 cannot hold the states of {model_type}; use precision bf16"
    return ""


def _find_unknown_end(checkpoint: Checkpoint) -> str:
    """What of pooling, or of what stands behind it, is not known; "" for nothing."""
    if checkpoint.pooling not in POOLINGS:
        return f"vLLM has no pooling {checkpoint.pooling!r}, only {', '.join(POOLINGS)}; use engine onnx"
    for layer in checkpoint.dense:
        if layer.activation not in DENSE_ACTIVATIONS:
            return f"it has a Dense with the activation {layer.activation!r}; use engine onnx"
        if layer.is_residual:
            return "it has a Dense with use_residual; use engine onnx"
    return ""


def _find_weights(checkpoint: Checkpoint) -> dict[str, Path]:
    """The files of the weights, and of their index, by the names that vLLM looks for."""
    folder, variant = checkpoint.transformer_dir, checkpoint.variant
    whole = folder / (f"model.{variant}.safetensors" if variant else WEIGHTS_FILE)
    if whole.is_file():
        return {WEIGHTS_FILE: whole}
    index = folder / (f"{WEIGHTS_FILE}.index.{variant}.json" if variant else INDEX_FILE)
    names = set(read_json(index)["weight_map"].values())
    if outside := [name for name in names if Path(name).name != name]:
        raise UnsupportedError(f"{index} names {outside[0]!r}, which is not in {folder}")
    return {INDEX_FILE: index, **{name: folder / name for name in sorted(names)}}


def _write_config(checkpoint: Checkpoint, folder: Path) -> None:
    """The checkpoint's own, with the architecture whose states are pooled, and no code of its own."""
    config = read_json(checkpoint.transformer_dir / CONFIG_FILE)
    config.pop("auto_map", None)
    config["architectures"] = [POOLED_ON_GPU[checkpoint.family.model_type]]
    if checkpoint.family.first_position == "after padding":
        # vLLM asks for it, and transformers 5 leaves it out.
        config["position_embedding_type"] = "absolute"
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
