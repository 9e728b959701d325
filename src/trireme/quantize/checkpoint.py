"""Reads what a causal language model's folder says of itself: architecture, sizes, tensors. No torch."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trireme.errors import UnsupportedError
from trireme.export.checkpoint import check_weights

# Decoder blocks of q/k/v/o and gate/up/down projections: what both quantizers and both engines know.
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
_DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1}
# A header beyond this is no checkpoint but a broken or hostile file.
_MOST_HEADER_BYTES = 100_000_000


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
    config = _read_json(folder / "config.json")
    check_weights(folder)
    architecture = _check_config(folder, config)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise UnsupportedError(f"{folder} holds no tokenizer.json or tokenizer.model")
    shapes = read_tensors(folder)
    if not shapes:
        raise UnsupportedError(f"{folder} holds safetensors without any tensor")
    sizes = {name: math.prod(shape) for name, (_, shape) in shapes.items()}
    dtypes: dict[str, int] = {}
    for name, (dtype, _) in shapes.items():
        dtypes[dtype] = dtypes.get(dtype, 0) + sizes[name]
    return CausalLM(
        folder=folder,
        architecture=architecture,
        layers=int(config["num_hidden_layers"]),
        hidden_size=int(config["hidden_size"]),
        vocab_size=int(config["vocab_size"]),
        max_positions=int(config["max_position_embeddings"]),
        parameters=sum(sizes.values()),
        weight_bytes=sum(sizes[name] * _DTYPE_BYTES.get(dtype, 4) for name, (dtype, _) in shapes.items()),
        dtype=max(dtypes, key=lambda name: dtypes[name]),
        linears=tuple(
            (shape[1], shape[0]) for name, (_, shape) in sorted(shapes.items()) if _is_projection(name, shape)
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


def read_tensors(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (dtype, shape) of every tensor in the folder's safetensors files, from their headers alone.

    Raises UnsupportedError naming a file whose header cannot be read.
    """
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(min(length, _MOST_HEADER_BYTES)))
        except (OSError, ValueError, struct.error):
            raise UnsupportedError(f"{path} is not a safetensors file; fetch it again") from None
        for name, entry in header.items():
            if name != "__metadata__":
                found[name] = (entry["dtype"], tuple(entry["shape"]))
    return found


def _check_config(folder: Path, config: dict[str, Any]) -> str:
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and "auto_map" in _read_json(path):
            raise UnsupportedError(f"{path} asks for code of its own (auto_map), which is never run")
    architecture = str((config.get("architectures") or [config.get("model_type", "none")])[0])
    if architecture not in ARCHITECTURES:
        raise UnsupportedError(
            f"architecture {architecture!r} is not supported; supported: {', '.join(ARCHITECTURES)}"
        )
    if "quantization_config" in config:
        method = config["quantization_config"].get("quant_method", "some method")
        raise UnsupportedError(f"{folder} is quantized already ({method}); name the float checkpoint")
    for key in ("num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings"):
        if not isinstance(config.get(key), int):
            raise UnsupportedError(f"{folder / 'config.json'} has no number under {key!r}")
    return architecture


def _is_projection(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and ".layers." in name and name.endswith("_proj.weight")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UnsupportedError(f"{path} is missing; name a folder with a Hugging Face checkpoint") from None
    except ValueError as error:
        raise UnsupportedError(f"{path} is not valid JSON: {error}") from None
