"""Reads what a causal language model's folder says of itself: architecture, sizes, tensors. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trireme.checkpoints.config import check_weights, read_config
from trireme.checkpoints.tensors import TensorFiles
from trireme.errors import UnsupportedError

# Decoder blocks of q/k/v/o and gate/up/down projections: what both quantizers and both engines know.
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


@dataclass(frozen=True, slots=True)
class CausalLM:
    """A checkpoint folder, read and found supported. `linears` are (inputs, outputs) of every projection."""

    folder: Path
    architecture: str
    layers: int
    hidden_size: int
    vocab_size: int
    max_positions: int
    parameters: int
    weight_bytes: int
    # Name in safetensors: F32, F16 or BF16; of the largest share of the weights.
    dtype: str
    linears: tuple[tuple[int, int], ...]

    @property
    def linear_parameters(self) -> int:
        """Parameters of the projections inside the decoder blocks, the ones that are quantized."""
        return sum(inputs * outputs for inputs, outputs in self.linears)


def read_causal_lm(folder: Path) -> CausalLM:
    """What `folder` says of itself.

    Raises UnsupportedError naming the file or architecture that is in the way: a pickle, code of its own,
    an unknown architecture, a checkpoint that is quantized already.
    """
    config = read_config(folder)
    check_weights(folder)
    architecture = _check_config(folder, config)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise UnsupportedError(f"{folder} holds no tokenizer.json or tokenizer.model")
    tensors = TensorFiles(folder).entries
    if not tensors:
        raise UnsupportedError(f"{folder} holds safetensors without any tensor")
    sizes: dict[str, int] = {}
    for entry in tensors.values():
        sizes[entry.dtype] = sizes.get(entry.dtype, 0) + math.prod(entry.shape)
    return CausalLM(
        folder=folder,
        architecture=architecture,
        layers=int(config["num_hidden_layers"]),
        hidden_size=int(config["hidden_size"]),
        vocab_size=int(config["vocab_size"]),
        max_positions=int(config["max_position_embeddings"]),
        parameters=sum(sizes.values()),
        weight_bytes=sum(entry.size for entry in tensors.values()),
        dtype=max(sizes, key=lambda name: sizes[name]),
        linears=tuple(
            (entry.shape[1], entry.shape[0])
            for name, entry in sorted(tensors.items())
            if _is_projection(name, entry.shape)
        ),
    )


def check_groups(model: CausalLM, group_size: int, outputs_multiple: int) -> None:
    """Raises UnsupportedError when a projection's inputs or outputs are no multiple of what is asked for."""
    for inputs, outputs in model.linears:
        if inputs % group_size:
            raise UnsupportedError(
                f"a projection of {model.folder} has {inputs} inputs, no multiple of group_size {group_size};"
                " choose a smaller group_size"
            )
        if outputs % outputs_multiple:
            raise UnsupportedError(
                f"a projection of {model.folder} has {outputs} outputs, no multiple of {outputs_multiple};"
                " choose a method of bitsandbytes"
            )


def _check_config(folder: Path, config: dict[str, Any]) -> str:
    architecture = str((config.get("architectures") or [config.get("model_type", "none")])[0])
    if architecture not in ARCHITECTURES:
        raise UnsupportedError(
            f"architecture {architecture!r} is not supported; supported: {', '.join(ARCHITECTURES)}"
        )
    if (stated := config.get("quantization_config")) is not None:
        method = stated.get("quant_method", "some method") if isinstance(stated, dict) else "some method"
        raise UnsupportedError(f"{folder} is quantized already ({method}); name the float checkpoint")
    for key in ("num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings"):
        if not isinstance(config.get(key), int):
            raise UnsupportedError(f"{folder / 'config.json'} has no number under {key!r}")
    return architecture


def _is_projection(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and ".layers." in name and name.endswith("_proj.weight")
