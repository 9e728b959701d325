"""Random checkpoints of a given shape as safetensors, for measuring speed and memory; their text means nothing.

Needs torch, safetensors, and for bnb-nf4 and bnb-int8 bitsandbytes and a GPU. Layers are written as they are made,
so memory holds one layer at a time.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

SIDE_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
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
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in SIDE_FILES:
        if (arguments.shape / name).exists():
            shutil.copy(arguments.shape / name, arguments.out / name)
    (arguments.out / "config.json").write_text(json.dumps(config, indent=1))
    torch.manual_seed(0)
    index: dict[str, str] = {}
    for number, part in enumerate(_parts(config)):
        tensors: dict[str, torch.Tensor] = {}
        for name, shape in part.items():
            make = QUANTIZERS.get(arguments.method) if name.endswith("proj.weight") else None
            tensors |= make(name, shape) if make else {name: _random(shape)}
        file = f"model-{number:05d}.safetensors"
        on_cpu = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        save_file(on_cpu, arguments.out / file, {"format": "pt"})
        index |= dict.fromkeys(tensors, file)
    document = {"metadata": {}, "weight_map": index}
    (arguments.out / "model.safetensors.index.json").write_text(json.dumps(document))


def _parts(config: dict[str, Any]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Names and shapes of a Llama's weights, one layer at a time."""
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv_heads = (
        config[key] * config["head_dim"] for key in ("num_attention_heads", "num_key_value_heads")
    )
    yield {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    if not config.get("tie_word_embeddings"):
        yield {"lm_head.weight": (vocabulary, hidden)}
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        yield {
            f"{name}input_layernorm.weight": (hidden,),
            f"{name}post_attention_layernorm.weight": (hidden,),
            f"{name}self_attn.q_proj.weight": (heads, hidden),
            f"{name}self_attn.k_proj.weight": (kv_heads, hidden),
            f"{name}self_attn.v_proj.weight": (kv_heads, hidden),
            f"{name}self_attn.o_proj.weight": (hidden, heads),
            f"{name}mlp.gate_proj.weight": (inner, hidden),
            f"{name}mlp.up_proj.weight": (inner, hidden),
            f"{name}mlp.down_proj.weight": (hidden, inner),
        }


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _random(shape: tuple[int, ...]) -> torch.Tensor:
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    return torch.randn(shape, dtype=torch.bfloat16, device=_device()) * 0.02


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
