"""Write a checkpoint of random weights in the shape of a known model, to measure an engine's speed."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.errors import InvalidInputError, TriremeError

PROJECT = Path(__file__).resolve().parent.parent
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
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


def main() -> None:
    """Writes config.json, the tokenizer's files, and one safetensors file per layer with its index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=Path, help="the folder to write; it must not exist")
    parser.add_argument("--tokenizer", type=Path, default=PROJECT / "defaults" / "llm", help="a folder")
    parser.add_argument("--vocabulary", type=int, help="rows of the embedding; default: the tokenizer's")
    parser.add_argument("--layers", type=int, help="decoder layers; default: the shape's")
    parser.add_argument("--quantization", choices=("none", "awq"), default="none")
    given = parser.parse_args()
    if given.out.exists():
        raise InvalidInputError(f"{given.out} exists; name a new folder")
    config = {**COMMON, **SHAPES[given.shape]}
    config["vocab_size"] = given.vocabulary or count_tokens(given.tokenizer)
    if given.layers:
        config["num_hidden_layers"] = given.layers
    if given.quantization == "awq":
        config["quantization_config"] = AWQ
    write_checkpoint(given.out, config, given.tokenizer)


def count_tokens(tokenizer: Path) -> int:
    """Tokens of a folder's tokenizer.json. Raises InvalidInputError when it is not there."""
    try:
        document = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    except OSError:
        raise InvalidInputError(f"{tokenizer / 'tokenizer.json'} is missing; name a --tokenizer") from None
    added = max((token["id"] + 1 for token in document.get("added_tokens", [])), default=0)
    return max(len(document["model"]["vocab"]), added)


def write_checkpoint(out: Path, config: dict[str, Any], tokenizer: Path) -> None:
    """Writes the checkpoint that `config` describes into the new folder `out`."""
    from safetensors.numpy import save_file

    out.mkdir(parents=True)
    weights = RandomWeights(config)
    places: dict[str, str] = {}
    for number, tensors in enumerate(weights.parts()):
        name = f"model-{number:05d}.safetensors"
        save_file(tensors, out / name, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, name)
    index = {"metadata": {}, "weight_map": places}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    (out / "config.json").write_text(json.dumps(config, indent=1))
    for file_name in TOKENIZER_FILES:
        if (tokenizer / file_name).is_file():
            shutil.copy(tokenizer / file_name, out)


class RandomWeights:
    """Tensors in float16, or linear layers as AWQ stores them; the same seed gives the same numbers."""

    def __init__(self, config: dict[str, Any]) -> None:
        rng = np.random.default_rng(SEED)
        self.config = config
        self.floats = (rng.standard_normal(DRAW, np.float32) * SPREAD).astype(np.float16)
        self.integers = rng.integers(-(2**31), 2**31, DRAW, np.int32)
        self.start = 0

    def parts(self) -> Iterator[Tensors]:
        """The embedding and head, then layer by layer."""
        config = self.config
        vocabulary, hidden = config["vocab_size"], config["hidden_size"]
        outside = {"model.embed_tokens.weight": self._floats(vocabulary, hidden)}
        outside["model.norm.weight"] = np.ones(hidden, np.float16)
        if not config["tie_word_embeddings"]:
            outside["lm_head.weight"] = self._floats(vocabulary, hidden)
        yield outside
        for index in range(config["num_hidden_layers"]):
            yield {f"model.layers.{index}.{name}": tensor for name, tensor in self._layer().items()}

    def _layer(self) -> Tensors:
        config = self.config
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
        shapes = {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        norms = ("input_layernorm", "post_attention_layernorm")
        tensors: Tensors = {f"{name}.weight": np.ones(hidden, np.float16) for name in norms}
        for name, shape in shapes.items():
            tensors |= {f"{name}.{part}": values for part, values in self._linear(*shape).items()}
        if config["model_type"] == "qwen2":
            for name in ("q_proj", "k_proj", "v_proj"):
                tensors[f"self_attn.{name}.bias"] = self._floats(shapes[f"self_attn.{name}"][0])
        return tensors

    def _linear(self, rows: int, columns: int) -> Tensors:
        if "quantization_config" not in self.config:
            return {"weight": self._floats(rows, columns)}
        groups = columns // GROUP
        # Sixteen even steps have a spread of 4.6: the result's is SPREAD.
        scales = np.full((groups, rows), SPREAD / 4.6, np.float16)
        middle = np.full((groups, rows // 8), 0x77777777, np.int32)
        return {"qweight": self._take(self.integers, columns, rows // 8), "qzeros": middle, "scales": scales}

    def _floats(self, *shape: int) -> npt.NDArray[Any]:
        return self._take(self.floats, *shape)

    def _take(self, source: npt.NDArray[Any], *shape: int) -> npt.NDArray[Any]:
        # A prime step, so that no two tensors start alike.
        self.start = (self.start + 1_000_003) % DRAW
        return np.resize(np.roll(source, self.start), shape)


if __name__ == "__main__":
    try:
        main()
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
