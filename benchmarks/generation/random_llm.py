"""Write a checkpoint of random weights in the shape of a known model, to measure an engine's speed."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.report import PROJECT
from benchmarks.common.script import make_parser, run_script
from trireme.errors import InvalidInputError

SIDE_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)
SEED = 1
SPREAD = 0.02
GROUP = 128
# One draw of so many numbers fills every tensor, each from another place in it.
DRAW = 1 << 22

# The vocabulary is the tokenizer's, unless it is given.
SHAPES: dict[str, dict[str, Any]] = {
    "0.4b": {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": True,
    },
    "8b": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": False,
    },
}
COMMON = {
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "torch_dtype": "float16",
    "use_cache": True,
}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}

Tensors = dict[str, npt.NDArray[Any]]


def count_tokens(tokenizer: Path) -> int:
    """Tokens of a folder's tokenizer.json. Raises InvalidInputError when it is not there."""
    try:
        document = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    except OSError:
        raise InvalidInputError(f"{tokenizer / 'tokenizer.json'} is missing; name a --tokenizer") from None
    added = max((token["id"] + 1 for token in document.get("added_tokens", [])), default=0)
    return max(len(document["model"]["vocab"]), added)


def list_parts(config: dict[str, Any]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Names and shapes of a decoder's weights: what is outside of the layers, then layer by layer."""
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    heads, keys = (head * config[key] for key in ("num_attention_heads", "num_key_value_heads"))
    outside: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    outside["model.norm.weight"] = (hidden,)
    if not config.get("tie_word_embeddings"):
        outside["lm_head.weight"] = (vocabulary, hidden)
    yield outside
    for index in range(config["num_hidden_layers"]):
        layer: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (hidden,),
            "post_attention_layernorm.weight": (hidden,),
            "self_attn.q_proj.weight": (heads, hidden),
            "self_attn.k_proj.weight": (keys, hidden),
            "self_attn.v_proj.weight": (keys, hidden),
            "self_attn.o_proj.weight": (hidden, heads),
            "mlp.gate_proj.weight": (inner, hidden),
            "mlp.up_proj.weight": (inner, hidden),
            "mlp.down_proj.weight": (hidden, inner),
        }
        if config["model_type"] == "qwen2":
            layer |= {
                f"self_attn.{n}_proj.bias": (size,) for n, size in (("q", heads), ("k", keys), ("v", keys))
            }
        yield {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}


def write_parts(
    out: Path, config: dict[str, Any], side_files: Path, parts: Iterable[Tensors], save: Callable[..., None]
) -> None:
    """Writes config.json, a file for each part with the index of all, and what of `side_files` is there."""
    out.mkdir(parents=True, exist_ok=True)
    places: dict[str, str] = {}
    for number, tensors in enumerate(parts):
        name = f"model-{number:05d}.safetensors"
        save(tensors, out / name, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, name)
    index = {"metadata": {}, "weight_map": places}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    (out / "config.json").write_text(json.dumps(config, indent=1))
    for file_name in SIDE_FILES:
        if (side_files / file_name).is_file():
            shutil.copy(side_files / file_name, out)


def write_checkpoint(out: Path, config: dict[str, Any], tokenizer: Path) -> None:
    """Writes the checkpoint that `config` describes into the folder `out`."""
    from safetensors.numpy import save_file

    write_parts(out, config, tokenizer, RandomWeights(config).parts(), save_file)


class RandomWeights:
    """Tensors in float16, or linear layers as AWQ stores them; the same seed gives the same numbers."""

    def __init__(self, config: dict[str, Any]) -> None:
        rng = np.random.default_rng(SEED)
        self.config = config
        self.floats = (rng.standard_normal(DRAW, np.float32) * SPREAD).astype(np.float16)
        self.integers = rng.integers(-(2**31), 2**31, DRAW, np.int32)
        self.start = 0

    def parts(self) -> Iterator[Tensors]:
        """As `list_parts` names them."""
        is_quantized = "quantization_config" in self.config
        for part in list_parts(self.config):
            tensors: Tensors = {}
            for name, shape in part.items():
                if name.endswith("norm.weight"):
                    tensors[name] = np.ones(shape, np.float16)
                elif is_quantized and name.endswith("proj.weight"):
                    tensors |= self._quantized(name.removesuffix("weight"), *shape)
                else:
                    tensors[name] = self._take(self.floats, *shape)
            yield tensors

    def _quantized(self, stem: str, rows: int, columns: int) -> Tensors:
        groups = columns // GROUP
        return {
            f"{stem}qweight": self._take(self.integers, columns, rows // 8),
            f"{stem}qzeros": np.full((groups, rows // 8), 0x77777777, np.int32),
            # Sixteen even steps have a spread of 4.6: the result's is SPREAD.
            f"{stem}scales": np.full((groups, rows), SPREAD / 4.6, np.float16),
        }

    def _take(self, source: npt.NDArray[Any], *shape: int) -> npt.NDArray[Any]:
        # A prime step, so that no two tensors start alike.
        self.start = (self.start + 1_000_003) % DRAW
        return np.resize(np.roll(source, self.start), shape)


def work(options: argparse.Namespace, _words: list[str]) -> None:
    """Raises InvalidInputError where the folder is there already."""
    if options.out.exists():
        raise InvalidInputError(f"{options.out} exists; name a new folder")
    config = {**COMMON, **SHAPES[options.shape]}
    config["vocab_size"] = options.vocabulary or count_tokens(options.tokenizer)
    if options.layers:
        config["num_hidden_layers"] = options.layers
    if options.quantization == "awq":
        config["quantization_config"] = AWQ
    write_checkpoint(options.out, config, options.tokenizer)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=Path, help="the folder to write; it must not exist")
    default = PROJECT / "model_repository" / "llm" / "1"
    parser.add_argument(
        "--tokenizer", type=Path, default=default, help="a folder; default: the built default LLM"
    )
    parser.add_argument("--vocabulary", type=int, help="rows of the embedding; default: the tokenizer's")
    parser.add_argument("--layers", type=int, help="decoder layers; default: the shape's")
    parser.add_argument("--quantization", choices=("none", "awq"), default="none")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
