"""Random checkpoints of a given shape as safetensors, for measuring speed and memory; their text means nothing.

Needs torch, safetensors, and for bnb-nf4 and bnb-int8 bitsandbytes and a GPU. Layers are written as they are made,
so memory holds one layer at a time.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.generation.random_llm import SPREAD, list_parts, write_parts

NF4 = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "load_in_8bit": False,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_storage": "uint8",
    "llm_int8_skip_modules": ["lm_head"],
}
INT8 = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": False,
    "load_in_8bit": True,
    "llm_int8_threshold": 6.0,
    "llm_int8_skip_modules": ["lm_head"],
}
CONFIGS = {"bf16": None, "bnb-nf4": NF4, "bnb-int8": INT8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=Path, required=True, help="a folder with config.json and tokenizer")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--method", choices=tuple(CONFIGS), required=True)
    arguments = parser.parse_args()
    config = json.loads((arguments.shape / "config.json").read_text())
    config.pop("quantization_config", None)
    config["dtype"] = "bfloat16"
    if stated := CONFIGS[arguments.method]:
        config["quantization_config"] = stated
    torch.manual_seed(0)
    write_parts(arguments.out, config, arguments.shape, _make_parts(config, arguments.method), save_file)


def _make_parts(config: dict[str, Any], method: str) -> Iterator[dict[str, torch.Tensor]]:
    for part in list_parts(config):
        tensors: dict[str, torch.Tensor] = {}
        for name, shape in part.items():
            quantize = QUANTIZERS.get(method) if name.endswith("proj.weight") else None
            tensors |= quantize(name, shape) if quantize else {name: _random(shape)}
        yield {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def _random(shape: tuple[int, ...]) -> torch.Tensor:
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.randn(shape, dtype=torch.bfloat16, device=device) * SPREAD


def _quantized_nf4(name: str, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """A weight as transformers saves it with bitsandbytes: packed bytes and the parts of its quant_state."""
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(_random(shape), quant_type="nf4", compress_statistics=True)
    parts = {f"{name}.{key}": value for key, value in state.as_dict(packed=True).items()}
    return {name: packed, **parts}


def _quantized_int8(name: str, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """A weight as transformers saves it for LLM.int8(): rows of int8, each row's largest value, the layout."""
    from bitsandbytes.functional import int8_vectorwise_quant

    rows, scales, _ = int8_vectorwise_quant(_random(shape).half())
    stem = name.removesuffix("weight")
    layout = torch.zeros((), dtype=torch.uint8)
    return {name: rows, f"{stem}SCB": scales, f"{stem}weight_format": layout}


QUANTIZERS = {"bnb-nf4": _quantized_nf4, "bnb-int8": _quantized_int8}


if __name__ == "__main__":
    main()
