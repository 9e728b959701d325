"""What must be known, and can be checked without a GPU, of a checkpoint that vLLM is to run.

vLLM has its own code for families, rope kinds, mixtures of experts and quantizations; none of it is repeated here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trireme.checkpoints.config import CONFIG_FILE
from trireme.checkpoints.families import FAMILIES
from trireme.checkpoints.gpu_families import NATIVE_ON_GPU
from trireme.checkpoints.tensors import TensorEntry, TensorFiles
from trireme.errors import UnsupportedError
from trireme.export_llm.architecture import read_size

# What a quantization_config may name for vLLM 0.24, but for torchao, whose tensors are in no safetensors file.
# Measured here: awq, gptq and bitsandbytes.
GPU_METHODS = (
    "awq",
    "gptq",
    "auto-round",
    "bitsandbytes",
    "fp8",
    "fbgemm_fp8",
    "fp_quant",
    "compressed-tensors",
    "experts_int8",
    "inc",
    "modelopt",
    "modelopt_fp4",
    "modelopt_mixed",
    "modelopt_mxfp8",
    "mxfp4",
    "mxfp8",
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
    "embeddings.weight",
)
# Rope kinds whose factor does not lengthen the context that config.json states, in vLLM's reading.
_KEEPING = ("su", "longrope", "llama3")
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_EXPERT = re.compile(r"(?:^|\.)layers\.(\d+)\..*\bexperts\.(\d+)\.")
_SMALL_FLOATS = ("F8_E4M3", "F8_E5M2", "F4")


@dataclass(frozen=True, slots=True)
class GpuModel:
    """Tokens in the vocabulary, and the longest context in tokens."""

    vocabulary: int
    positions: int


def read_gpu_model(
    config: dict[str, Any], max_model_len: int | None = None, rows: int | None = None
) -> GpuModel:
    """The model of a config.json that vLLM is to run. Raises UnsupportedError naming the key in the way.

    A model around a text model (text_config) is read as that text model. rows: of its table of embeddings, for a
    config.json that leaves vocab_size out.
    """
    _check_architecture(config)
    text = text_config(config)
    positions = _read_positions(text, max_model_len)
    if max_model_len is not None and max_model_len > positions:
        raise UnsupportedError(
            f"max_model_len {max_model_len} is above the checkpoint's {positions} positions"
        )
    vocabulary = rows if rows is not None and "vocab_size" not in text else read_size(text, "vocab_size")
    return GpuModel(vocabulary, positions)


def find_own_code(config: dict[str, Any]) -> str:
    """What to do about the code that a config.json names; "" where vLLM has classes of its own for the model."""
    if config.get("model_type") in NATIVE_ON_GPU:
        return ""
    return "vLLM 0.24 has no class of its own for it: choose another model"


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


def find_embeddings(files: TensorFiles) -> TensorEntry | None:
    """The table of token embeddings; None where no tensor has a name that is known."""
    for ending in _TABLES:
        found = [name for name in files.entries if name == ending or name.endswith(f".{ending}")]
        if found:
            return files.entries[min(found, key=len)]
    return None


def check_tensors(files: TensorFiles, config: dict[str, Any]) -> None:
    """Raises UnsupportedError for a checkpoint of which something is not there.

    The table of embeddings has a row for each token, every layer has tensors, every layer with experts has all of
    them, and weights of 8 or 4 bits are said to be quantized.
    """
    text = text_config(config)
    table, tokens = find_embeddings(files), text.get("vocab_size")
    if table is not None and tokens is not None and table.shape[0] != tokens:
        raise UnsupportedError(f"{table.path} has {table.shape[0]} embeddings, but vocab_size is {tokens}")
    layers = {int(found[1]) for name in files.entries if (found := _LAYER.search(name))}
    count = text.get("num_hidden_layers") or text.get("n_layer") or 0
    if layers and (missing := set(range(count)) - layers):
        raise UnsupportedError(f"{files.folder} holds no tensor of layer {min(missing)} of {count}")
    _check_experts(files, text)
    _check_loader(files, config)
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
    if not isinstance(config.get("model_type"), str):
        raise UnsupportedError(f"{CONFIG_FILE} must name its model_type, it is {config.get('model_type')!r}")


def _read_positions(text: dict[str, Any], wanted: int | None) -> int:
    """The longest context as vLLM derives it: rope may make it longer than what is stated.

    wanted: max_model_len of the recipe, which counts where config.json leaves the length out.
    """
    family = str(text.get("model_type"))
    key = next((one for one in _POSITIONS if one in text), None)
    if key is None and (known := FAMILIES.get(family)) is not None:
        positions = known.sizes.positions[1]
    elif key is None and wanted is not None:
        return wanted
    elif key is None:
        raise UnsupportedError(f"{CONFIG_FILE} has no {_POSITIONS[0]}; say max_model_len in the recipe")
    else:
        positions = read_size(text, key)
    if family.startswith("gemma3"):
        # Stated with the factor in it.
        return positions
    for rope in _ropes(text):
        kind, factor = rope.get("rope_type") or rope.get("type"), rope.get("factor")
        original = rope.get("original_max_position_embeddings")
        base = original if kind == "yarn" and type(original) is int else positions
        if kind not in _KEEPING and isinstance(factor, int | float):
            return int(base * factor)
    return positions


def _ropes(text: dict[str, Any]) -> list[dict[str, Any]]:
    """Rotary parameters: one set, or one for each kind of layer."""
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    inner = [one for one in rope.values() if isinstance(one, dict)]
    return inner or [rope]


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


def _check_loader(files: TensorFiles, config: dict[str, Any]) -> None:
    """What vLLM 0.24 has a class for, and dies of when it loads it."""
    text = text_config(config)
    family, method = text.get("model_type"), (read_gpu_quantization(config) or {}).get("quant_method")
    whole = next((name for name in files.entries if name.endswith(".experts.down_proj")), None)
    if family == "gpt_oss" and method not in ("mxfp4", "quark") and whole is not None:
        raise UnsupportedError(
            f"{whole!r} is not in mxfp4, and vLLM 0.24 loads no other experts of gpt_oss: take a checkpoint"
            " in mxfp4, as it was published"
        )
    if family in ("gemma", "gemma2") and text.get("tie_word_embeddings") is False:
        raise UnsupportedError(
            f"{CONFIG_FILE}: tie_word_embeddings is false, and vLLM 0.24 runs {family} with tied embeddings alone:"
            " choose another checkpoint"
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
