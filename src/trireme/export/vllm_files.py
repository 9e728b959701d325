"""Checkpoints as files of engine vllm: their weights as they are, a config.json, and what stands behind pooling.

A language model's answers are read by us, off the state of a row's last token: two rows of its head, in float32.
Heads of sequence classifiers, and layers behind pooling in the form of sentence-transformers, are run by vLLM.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from trireme.artifacts.parity_texts import PAIRS, TEXTS
from trireme.checkpoints.config import CONFIG_FILE, WEIGHTS_FILE, read_json
from trireme.checkpoints.gpu_families import NO_FP16_ON_GPU, POOLED_ON_GPU, SCORED_ON_GPU
from trireme.checkpoints.source import link_file
from trireme.checkpoints.tensors import INDEX_FILE, TensorFiles
from trireme.encode.pooling_files import POOLINGS, PoolingConfig, PoolingFiles, write_pooling_files
from trireme.encode.session import TokenBatch
from trireme.errors import UnsupportedError
from trireme.export.checkpoint import Checkpoint
from trireme.export.decoders import LastTokenScorer
from trireme.export.graph import Graph, PooledEncoder
from trireme.export.measure import compare_tokens, fill_pairs, open_tokenizer, open_torch
from trireme.export.parity import run_rows
from trireme.export.sentence_files import MODULES_FILE
from trireme.export.weights import DenseBlock
from trireme.types import FloatArray

# Of layers behind pooling, by the names of torch's modules; vLLM takes a layer by the type of its module.
_ACTIVATIONS = ("Identity", "Tanh", "ReLU")
_DENSE_TYPE = "sentence_transformers.models.Dense"
# Keys of config.json by which vLLM would make another head of a checkpoint's own, round it, or look for a function
# that is not asked for.
_OTHER_HEADS = ("classifier_from_token", "method", "is_original_qwen3_reranker", "head_dtype")
_FUNCTIONS = ("sentence_transformers", "sbert_ce_default_activation_function")
# Families that vLLM runs in one direction whatever config.json says; those whose head must be their table of words.
_ONE_WAY = ("gemma", "gemma2")
_TIED = ("gemma", "gemma2")


def check_vllm(checkpoint: Checkpoint, precision: str) -> None:
    """Raises UnsupportedError, naming what to use instead, for a checkpoint that engine vllm does not serve."""
    if obstacle := _find_obstacle(checkpoint, precision) or _find_unknown_end(checkpoint):
        raise UnsupportedError(f"engine vllm does not serve {checkpoint.folder}: {obstacle}")


def write_vllm(
    graph: Graph,
    checkpoint: Checkpoint,
    precision: str,
    folder: Path,
    bounds: Mapping[str, float],
    *,
    texts: Sequence[str] = TEXTS,
) -> None:
    """Writes weights, config.json and our own files (pooling_files) into `folder`, which holds the tokenizer.

    bounds: those of PoolingConfig that a start on a GPU must keep, for `texts`, of a reranker for pairs.
    Runs the original on the CPU. Raises UnsupportedError, and GateError where the tokenizer differs.
    """
    check_vllm(checkpoint, precision)
    for name, origin in _find_weights(checkpoint).items():
        link_file(origin, folder / name)
    _write_config(checkpoint, folder)
    _write_layers(graph, folder)
    compare_tokens(checkpoint, folder)
    rows = _find_rows(checkpoint, folder, texts)
    ids = np.array([token for row in rows for token in row], np.int64)
    files = PoolingFiles(
        describe_pooling(graph, checkpoint, precision, bounds),
        TokenBatch(ids, np.zeros_like(ids), np.array([len(row) for row in rows], np.int64)),
        run_rows(open_torch(graph), rows),
        tuple(len(passages) for _, passages in PAIRS) if checkpoint.kind == "cross_encoder" else (),
        _read_answers(graph, checkpoint),
    )
    write_pooling_files(folder, files)


def describe_pooling(
    graph: Graph, checkpoint: Checkpoint, precision: str, bounds: Mapping[str, float]
) -> PoolingConfig:
    """What pooling.json says of the checkpoint."""
    module = graph.module
    scorer = module if isinstance(module, LastTokenScorer) else None
    head = {"text_encoder": "", "cross_encoder": "score"}.get(checkpoint.kind, "labels")
    return PoolingConfig(
        pooling="lasttoken" if head else checkpoint.pooling,
        precision=precision,
        max_length=checkpoint.max_length,
        vocabulary=graph.vocabulary,
        truncate=checkpoint.truncate,
        task="classify" if head and checkpoint.answers is None else "embed",
        head=head,
        softcap=scorer.softcap if scorer else 0.0,
        padding=scorer.padding if scorer else None,
        **bounds,
    )


def _read_answers(graph: Graph, checkpoint: Checkpoint) -> FloatArray | None:
    """Rows [1 or 2, H] of a language model's head; None for another head, which is vLLM's."""
    module = graph.module
    if checkpoint.answers is None or not isinstance(module, LastTokenScorer):
        return None
    weight: FloatArray = module.head.weight.detach().float().numpy()
    return weight


def _write_layers(graph: Graph, folder: Path) -> None:
    """The layers behind pooling, where there are any: modules.json, and a folder for each, as vLLM wants them."""
    module = graph.module
    blocks = [block for block in module.dense] if isinstance(module, PooledEncoder) else []
    listed = []
    for number, block in enumerate(blocks):
        assert isinstance(block, DenseBlock)  # noqa: S101 - for the type checker
        place = folder / f"{number}_Dense"
        place.mkdir()
        linear = block.linear
        said = {
            "in_features": linear.in_features,
            "out_features": linear.out_features,
            "bias": linear.bias is not None,
            "activation_function": f"torch.nn.modules.{block.activation}",
        }
        (place / CONFIG_FILE).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        tensors = {f"linear.{name}": value for name, value in linear.state_dict().items()}
        save_file(tensors, place / WEIGHTS_FILE)
        # The library leaves it to its owner alone; a server may run as somebody else.
        (place / WEIGHTS_FILE).chmod(0o644)
        listed.append({"idx": number, "name": str(number), "path": place.name, "type": _DENSE_TYPE})
    if listed:
        (folder / MODULES_FILE).write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")


def _find_rows(checkpoint: Checkpoint, folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """What a start is compared by: texts, or of a reranker the pairs of the gate, as tokens."""
    pairs = [(query, passage) for query, passages in PAIRS for passage in passages]
    is_reranker = checkpoint.kind == "cross_encoder"
    if is_reranker and checkpoint.template:
        return fill_pairs(checkpoint, folder, pairs)
    tokenizer = open_tokenizer(folder, checkpoint.max_length)
    tokenizer.no_padding()
    inputs: list[Any] = list(pairs if is_reranker else texts)
    # A tokenizer that adds no token of its own may make none of a text; such a row is never run.
    return [encoded.ids for encoded in tokenizer.encode_batch(inputs) if encoded.ids]


def _find_obstacle(checkpoint: Checkpoint, precision: str) -> str:
    """What is in the way and what to do; "" for nothing."""
    model_type = checkpoint.family.model_type
    if checkpoint.kind not in ("text_encoder", "cross_encoder", "classifier"):
        return "it makes neither vectors nor scores of texts; use engine onnx"
    if checkpoint.outputs != ("dense",):
        return (
            "it has other outputs than a vector of the text; name dense alone in outputs, or use engine onnx"
        )
    if checkpoint.kind != "text_encoder" and checkpoint.family.layers is not None:
        return f"rerankers and classifiers of {model_type} run faster on engine torch; use that"
    if model_type not in (POOLED_ON_GPU if checkpoint.kind == "text_encoder" else SCORED_ON_GPU):
        what = "" if checkpoint.kind == "text_encoder" else " that scores texts"
        return f"vLLM has no model of its own{what} for model_type {model_type!r}; use engine onnx"
    if precision == "fp16" and model_type in NO_FP16_ON_GPU:
        return f"float16 cannot hold the states of {model_type}; use precision bf16"
    return _find_unlike(checkpoint, read_json(checkpoint.transformer_dir / CONFIG_FILE))


def _find_unlike(checkpoint: Checkpoint, config: Mapping[str, Any]) -> str:
    """What vLLM's class of the family would do otherwise, or not at all; "" for nothing."""
    model_type = checkpoint.family.model_type
    is_two_way = not config.get("is_causal", True) or bool(config.get("use_bidirectional_attention"))
    if checkpoint.family.is_causal and is_two_way:
        if checkpoint.kind != "text_encoder":
            return "its tokens see those behind them, and its score is read off the last one; use engine onnx"
        if model_type in _ONE_WAY:
            return f"vLLM's {model_type} lets no token see those behind it; use engine onnx"
    if model_type in _TIED and not config.get("tie_word_embeddings", True):
        return f"vLLM's {model_type} needs tie_word_embeddings; use engine onnx"
    if checkpoint.kind != "text_encoder" and checkpoint.answers is None and not _has_prefix(checkpoint):
        return (
            "the names of its weights do not begin with model., as vLLM needs beside a head; use engine onnx"
        )
    return ""


def _has_prefix(checkpoint: Checkpoint) -> bool:
    """Whether the encoder's weights are named as those of a model with a head."""
    files = [path for path in _find_weights(checkpoint).values() if path.suffix == ".safetensors"]
    names = TensorFiles(checkpoint.transformer_dir, files).entries
    return any(name.startswith(f"{checkpoint.family.prefix}.") for name in names)


def _find_unknown_end(checkpoint: Checkpoint) -> str:
    """What of pooling, or of what stands behind it, is not known; "" for nothing."""
    if checkpoint.kind != "text_encoder":
        return ""
    if checkpoint.pooling not in POOLINGS:
        return f"vLLM has no pooling {checkpoint.pooling!r}, only {', '.join(POOLINGS)}; use engine onnx"
    for layer in checkpoint.dense:
        if layer.activation not in _ACTIVATIONS:
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


def _name_architecture(checkpoint: Checkpoint) -> str:
    """As vLLM's registry has it."""
    model_type = checkpoint.family.model_type
    if checkpoint.kind == "text_encoder":
        return POOLED_ON_GPU[model_type]
    head = "ForSequenceClassification" if checkpoint.answers is None else "ForCausalLM"
    return SCORED_ON_GPU[model_type] + head


def _write_config(checkpoint: Checkpoint, folder: Path) -> None:
    """The checkpoint's own, with the architecture that vLLM runs, and no code of its own."""
    config = read_json(checkpoint.transformer_dir / CONFIG_FILE)
    for key in ("auto_map", *_OTHER_HEADS, *_FUNCTIONS):
        config.pop(key, None)
    config["architectures"] = [_name_architecture(checkpoint)]
    if checkpoint.family.first_position == "after padding":
        # vLLM asks for it, and transformers 5 leaves it out.
        config["position_embedding_type"] = "absolute"
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
