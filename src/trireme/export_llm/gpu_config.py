"""What must be known, and can be checked without a GPU, of a checkpoint that vLLM is to run.

vLLM has its own code for families, rope kinds, mixtures of experts and quantizations; none of it is repeated here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trireme.checkpoints.config import CONFIG_FILE
from trireme.checkpoints.tensors import TensorEntry, TensorFiles
from trireme.errors import UnsupportedError
from trireme.export_llm.architecture import read_size

# Quantizations that vLLM 0.24 reads from safetensors. Measured here: awq, gptq and bitsandbytes.
GPU_METHODS = (
    "awq",
    "gptq",
    "bitsandbytes",
    "fp8",
    "fbgemm_fp8",
    "compressed-tensors",
    "modelopt",
    "mxfp4",
    "quark",
)
WRITES_TEXT = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
# Where a table of embeddings is, by the families' naming; the first is the Llama-likes'.
_TABLES = (
    "embed_tokens.weight",
    "wte.weight",
    "embed_in.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
)
# Rope kinds whose factor lengthens the context that config.json states, in vLLM's reading.
_LENGTHENING = ("linear", "dynamic")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_EXPERT = re.compile(r"(?:^|\.)layers\.(\d+)\..*\bexperts\.(\d+)\.")
_SMALL_FLOATS = ("F8_E4M3", "F8_E5M2", "F4")


@dataclass(frozen=True, slots=True)
class GpuModel:
    """Tokens in the vocabulary, and the longest context in tokens."""

    vocabulary: int
    positions: int


def read_gpu_model(config: dict[str, Any], max_model_len: int | None = None) -> GpuModel:
    """The model of a config.json that vLLM is to run. Raises UnsupportedError naming the key in the way.

    A model around a text model (text_config) is read as that text model.
    """
    _check_architecture(config)
    text = text_config(config)
    positions = _read_positions(text)
    if max_model_len is not None and max_model_len > positions:
        raise UnsupportedError(
            f"max_model_len {max_model_len} is above the checkpoint's {positions} positions"
        )
    return GpuModel(read_size(text, "vocab_size"), positions)


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config.json about the text model."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def read_gpu_quantization(config: dict[str, Any]) -> dict[str, Any] | None:
    """quantization_config, with its quant_method; None where the weights are as they were trained.

    Raises UnsupportedError for a method that vLLM does not read from safetensors.
    """
    stated = config.get("quantization_config") or text_config(config).get("quantization_config")
    older = config.get("compression_config")
    if not stated and older:
        # The name that compressed-tensors gave it at first.
        stated = {"quant_method": "compressed-tensors", **older}
    if not stated:
        return None
    if not isinstance(stated, dict) or stated.get("quant_method") not in GPU_METHODS:
        method = stated.get("quant_method") if isinstance(stated, dict) else stated
        raise UnsupportedError(
            f"quant_method {method!r} is not supported; supported: {', '.join(GPU_METHODS)}"
        )
    return stated


def find_embeddings(files: TensorFiles) -> TensorEntry:
    """The table of token embeddings. Raises UnsupportedError where there is none."""
    for ending in _TABLES:
        found = [name for name in files.entries if name == ending or name.endswith(f".{ending}")]
        if found:
            return files.entries[min(found, key=len)]
    raise UnsupportedError(f"{files.folder} holds no table of token embeddings ({', '.join(_TABLES)})")


def check_tensors(files: TensorFiles, config: dict[str, Any]) -> None:
    """Raises UnsupportedError for a checkpoint of which something is not there.

    The table of embeddings has a row for each token, every layer has tensors, every layer with experts has all of
    them, and weights of 8 or 4 bits are said to be quantized.
    """
    text = text_config(config)
    table, tokens = find_embeddings(files), read_size(text, "vocab_size")
    if table.shape[0] != tokens:
        raise UnsupportedError(f"{table.path} has {table.shape[0]} embeddings, but vocab_size is {tokens}")
    layers = {int(found[1]) for name in files.entries if (found := _LAYER.search(name))}
    count = text.get("num_hidden_layers") or text.get("n_layer") or 0
    if layers and (missing := set(range(count)) - layers):
        raise UnsupportedError(f"{files.folder} holds no tensor of layer {min(missing)} of {count}")
    _check_experts(files, text)
    small = next((name for name, entry in files.entries.items() if entry.dtype in _SMALL_FLOATS), None)
    if small is not None and read_gpu_quantization(config) is None:
        raise UnsupportedError(
            f"{small!r} is {files.entries[small].dtype}, but {CONFIG_FILE} has no quantization_config"
        )


def name_method(stated: dict[str, Any]) -> str:
    """A name for people, such as "gptq-int4 g128", "fp8" or "compressed-tensors int4 g128"."""
    method = str(stated["quant_method"])
    if method == "bitsandbytes":
        is_int8 = bool(stated.get("load_in_8bit"))
        return "bnb-int8" if is_int8 else f"bnb-{stated.get('bnb_4bit_quant_type', 'fp4')}"
    if method in ("awq", "gptq"):
        return f"{method}-int{stated.get('bits', 4)}{_group(stated.get('group_size', -1))}"
    if method != "compressed-tensors":
        return method
    groups = [
        one.get("weights") for one in (stated.get("config_groups") or {}).values() if isinstance(one, dict)
    ]
    kinds = [_name_weights(weights) for weights in groups if isinstance(weights, dict)]
    return " ".join((method, *dict.fromkeys(kinds)))


def _check_architecture(config: dict[str, Any]) -> None:
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UnsupportedError(f"{CONFIG_FILE} must name its architectures, they are {names!r}")
    if not names[0].endswith(WRITES_TEXT):
        raise UnsupportedError(f"architectures names {names[0]}, which writes no text")
    family = str(config.get("model_type"))
    if not _plain(names[0]).startswith(_plain(family.removesuffix("_text"))):
        raise UnsupportedError(f"model_type {family!r} is not that of the architecture {names[0]}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _read_positions(text: dict[str, Any]) -> int:
    """The longest context as vLLM derives it: rope may make it longer than what is stated."""
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type")
    factor = rope.get("factor")
    original = rope.get("original_max_position_embeddings")
    if kind == "yarn" and isinstance(factor, int | float) and type(original) is int:
        return int(original * factor)
    key = next((one for one in ("n_positions", "max_seq_len", "seq_length") if one in text), None)
    positions = read_size(
        text, "max_position_embeddings" if "max_position_embeddings" in text or not key else key
    )
    if kind in _LENGTHENING and isinstance(factor, int | float):
        return int(positions * factor)
    return positions


def _check_experts(files: TensorFiles, text: dict[str, Any]) -> None:
    count = next((text[key] for key in _EXPERTS if type(text.get(key)) is int), 0)
    held: dict[str, set[int]] = {}
    for name in files.entries:
        if found := _EXPERT.search(name):
            held.setdefault(found[1], set()).add(int(found[2]))
    for layer, experts in held.items():
        if missing := set(range(count)) - experts:
            raise UnsupportedError(
                f"{files.folder} holds no tensor of expert {min(missing)} of {count} in layer {layer}"
            )


def _name_weights(weights: dict[str, Any]) -> str:
    bits = weights.get("num_bits", 8)
    kind = "fp" if weights.get("type") == "float" else "int"
    return f"{kind}{bits}{_group(weights.get('group_size'))}"


def _group(size: Any) -> str:
    return f" g{size}" if isinstance(size, int) and size > 0 else ""


def check_index(names: Iterable[str], files: TensorFiles) -> None:
    """Raises UnsupportedError for a tensor that the index names and no file holds."""
    for name in names:
        files.entry(name)
