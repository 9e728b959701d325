"""How many bytes a causal language model's weights and KV cache take, by arithmetic over its config. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trireme.errors import UnsupportedError

# (inputs, outputs) of a projection.
Linear = tuple[int, int]

# Weights of one scale, and entries of the code table, in NF4.
_NF4_BLOCK, _NF4_CODES = 64, 16


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of one model. `linears` are those of one decoder block; `kept` counts the parameters outside of all
    projections (embeddings, output layer, norms, biases); `cached` the numbers one token leaves in the KV cache.
    """

    name: str
    layers: int
    hidden_size: int
    vocab_size: int
    max_positions: int
    linears: tuple[Linear, ...]
    kept: int
    cached: int

    @property
    def all_linears(self) -> tuple[Linear, ...]:
        """The projections of every block."""
        return self.linears * self.layers

    @property
    def parameters(self) -> int:
        """All of them; embeddings that are tied to the output layer count once."""
        return self.kept + sum(inputs * outputs for inputs, outputs in self.all_linears)

    def cache_bytes(self, tokens: int) -> int:
        """The KV cache of so many tokens, in 16 bits."""
        return 2 * self.cached * tokens


def read_shape(name: str, config: Mapping[str, Any]) -> ModelShape:
    """The sizes that the config.json of a Llama, Mistral, Qwen2 or Qwen3 states.

    Raises UnsupportedError naming a key that is missing or no number.
    """
    hidden, inner, layers, heads, vocab, positions = (
        _read_number(name, config, key)
        for key in (
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "vocab_size",
            "max_position_embeddings",
        )
    )
    kind = config.get("model_type")
    head = _read_number(name, config, "head_dim", hidden // heads)
    queries, keys = heads * head, _read_number(name, config, "num_key_value_heads", heads) * head
    biased = 0
    if kind == "qwen2" or config.get("attention_bias"):
        biased += queries + 2 * keys + (hidden if kind != "qwen2" else 0)
    if config.get("mlp_bias"):
        biased += 2 * inner + hidden
    norms = 2 * hidden + (2 * head if kind == "qwen3" else 0)
    embedded = vocab * hidden * (1 if config.get("tie_word_embeddings", False) else 2)
    attention = ((hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden))
    return ModelShape(
        name=name,
        layers=layers,
        hidden_size=hidden,
        vocab_size=vocab,
        max_positions=positions,
        linears=(*attention, (hidden, inner), (hidden, inner), (inner, hidden)),
        kept=embedded + hidden + layers * (norms + biased),
        cached=layers * 2 * keys,
    )


def stored_bytes(linears: Iterable[Linear], kept: int, method: str, bits: int, group: int) -> int:
    """Bytes of all tensors of a checkpoint that build/quantize_llm.py writes from bfloat16 weights, to the byte.

    `kept` parameters stay in 16 bits. `fp8`, which that script does not write, is one byte a weight and one float32
    scale for each projection, as vLLM makes it at load.
    """
    return 2 * kept + sum(_projection_bytes(*linear, method, bits, group) for linear in linears)


def _projection_bytes(inputs: int, outputs: int, method: str, bits: int, group: int) -> int:
    weights = inputs * outputs
    if method == "none":
        return 2 * weights
    if method == "fp8":
        return weights + 4
    if method == "bnb-int8":
        # A float32 scale for each output, and one byte that names the layout.
        return weights + 4 * outputs + 1
    if method == "bnb-nf4":
        shape = {
            "quant_type": "nf4",
            "blocksize": _NF4_BLOCK,
            "dtype": "bfloat16",
            "shape": [outputs, inputs],
        }
        scales = -(-weights // _NF4_BLOCK)
        return -(-weights // 2) + 4 * scales + 4 * _NF4_CODES + len(json.dumps(shape))
    groups = inputs // group
    packed = (weights + groups * outputs) * bits // 8 + 2 * groups * outputs
    # GPTQ states the group of each input in 32 bits.
    return packed + (4 * inputs if method == "gptq" else 0)


def _read_number(name: str, config: Mapping[str, Any], key: str, otherwise: int | None = None) -> int:
    """`otherwise`: where the key is null or not there."""
    value = config.get(key)
    if value is None:
        value = otherwise
    if type(value) is not int or value < 1:
        raise UnsupportedError(f"the config of {name} has no number under {key!r}")
    return value


def _shape(name: str, sizes: tuple[int, int, int, int, int], **more: Any) -> ModelShape:
    """Hidden and inner size, layers, heads, vocabulary; a Llama of eight key-value heads but for `more`."""
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    stated = dict(zip(keys, sizes, strict=True))
    return read_shape(name, {**stated, "num_key_value_heads": 8, "max_position_embeddings": 32_768, **more})


_TIED = {"tie_word_embeddings": True}
_QWEN3 = {"model_type": "qwen3", "head_dim": 128}
# The published sizes; tests compare them with the published numbers of parameters.
PUBLIC_SHAPES = (
    _shape("0.1B (SmolLM2)", (576, 1536, 30, 9, 49_152), num_key_value_heads=3, **_TIED),
    _shape("1B (Llama 3.2)", (2048, 8192, 16, 32, 128_256), **_TIED),
    _shape("3B (Llama 3.2)", (3072, 8192, 28, 24, 128_256), **_TIED),
    _shape("8B (Llama 3.1)", (4096, 14_336, 32, 32, 128_256)),
    _shape("14B (Qwen3)", (5120, 17_408, 40, 40, 151_936), **_QWEN3),
    _shape("32B (Qwen3)", (5120, 25_600, 64, 64, 151_936), **_QWEN3),
    _shape("70B (Llama 3.1)", (8192, 28_672, 80, 64, 128_256)),
)
