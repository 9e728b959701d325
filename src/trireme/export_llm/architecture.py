"""What config.json says of a causal language model, checked key by key. No library of models is asked.

The families share one block: RMS norms, rotary positions, grouped-query attention, a gated MLP. They differ
in biases, in norms of the heads, and in the defaults of keys that config.json leaves out; those are the
defaults of the configuration classes of transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trireme.checkpoints.config import CONFIG_FILE
from trireme.checkpoints.families import LLM_FAMILIES, LlmFamily
from trireme.errors import UnsupportedError

# What an error says of a model that only vLLM runs.
ON_GPU = "; on a GPU vLLM runs others (--target gpu)"
ROPE_TYPES = ("default", "linear", "llama3")

_WINDOW = 4096


class NoOwnGraphError(UnsupportedError):
    """A model that our own graph has no form for; another exporter may have one."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions. `factor` stretches them (linear, llama3); the last three are llama3's."""

    kind: str
    theta: float
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 1.0
    original_positions: int = 0


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes and switches of one model. `positions` is the longest context in tokens."""

    family: str
    vocabulary: int
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_epsilon: float
    rope: Rope
    positions: int
    is_tied: bool
    has_qkv_bias: bool
    has_output_bias: bool
    has_mlp_bias: bool
    has_head_norms: bool


def read_architecture(config: dict[str, Any], max_model_len: int | None = None) -> Architecture:
    """The model of a config.json. `max_model_len` is the longest context it is to serve, in tokens.

    That must be within the window of sliding attention, where there is one.
    Raises UnsupportedError naming the key that is missing, NoOwnGraphError for one that this export does not know.
    """
    family = LLM_FAMILIES.get(str(config.get("model_type")))
    if family is None:
        raise NoOwnGraphError(
            f"model_type {config.get('model_type')!r} is not supported;"
            f" supported: {', '.join(LLM_FAMILIES)}{ON_GPU}"
        )
    if config.get("hidden_act", "silu") != "silu":
        raise NoOwnGraphError(f"hidden_act {config['hidden_act']!r} is not supported; supported: silu")
    heads, hidden = read_size(config, "num_attention_heads"), read_size(config, "hidden_size")
    found = Architecture(
        family=family.model_type,
        vocabulary=read_size(config, "vocab_size"),
        hidden=hidden,
        inner=read_size(config, "intermediate_size"),
        layers=read_size(config, "num_hidden_layers"),
        heads=heads,
        kv_heads=_kv_heads(config, family, heads),
        head_dim=int(config.get("head_dim") or family.head_dim or hidden // heads),
        norm_epsilon=float(config.get("rms_norm_eps", 1e-6)),
        rope=_read_rope(config),
        positions=read_size(config, "max_position_embeddings"),
        is_tied=bool(config.get("tie_word_embeddings", False)),
        has_qkv_bias=_has_bias(config, family.qkv_bias, "attention_bias"),
        has_output_bias=_has_bias(config, family.output_bias, "attention_bias"),
        has_mlp_bias=_has_bias(config, family.mlp_bias, "mlp_bias"),
        has_head_norms=family.has_head_norms,
    )
    if heads % found.kv_heads or found.head_dim % 2:
        raise UnsupportedError(
            f"{heads} heads of {found.head_dim} do not divide into {found.kv_heads} key-value heads"
        )
    length = max_model_len or found.positions
    if length > found.positions:
        raise UnsupportedError(
            f"max_model_len {length} is above the checkpoint's {found.positions} positions"
        )
    _check_window(config, family, length)
    return found


def _has_bias(config: dict[str, Any], rule: str, key: str) -> bool:
    return rule == "always" or (rule == "stated" and bool(config.get(key, False)))


def _check_window(config: dict[str, Any], family: LlmFamily, length: int) -> None:
    window = _sliding_window(config, family)
    if window is not None and length > window:
        raise NoOwnGraphError(
            f"the checkpoint's attention slides over {window} tokens, which is not supported past them:"
            f" set max_model_len to at most {window}"
        )


def _sliding_window(config: dict[str, Any], family: LlmFamily) -> int | None:
    """The window of attention in tokens; None where every layer sees everything."""
    is_switched_on = family.window == "switched" and config.get("use_sliding_window", False)
    window: int | None = config.get("sliding_window", _WINDOW)
    return window if family.window == "always" or is_switched_on else None


def _kv_heads(config: dict[str, Any], family: LlmFamily, heads: int) -> int:
    if config.get("num_key_value_heads") is None and not family.needs_kv_heads:
        return heads
    return read_size(config, "num_key_value_heads")


def _read_rope(config: dict[str, Any]) -> Rope:
    """rope_parameters (transformers 5) or rope_theta and rope_scaling (before)."""
    given = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    kind = given.get("rope_type") or given.get("type") or "default"
    if kind not in ROPE_TYPES:
        raise NoOwnGraphError(
            f"rope_type {kind!r} is not supported; supported: {', '.join(ROPE_TYPES)}{ON_GPU}"
        )
    if config.get("partial_rotary_factor", given.get("partial_rotary_factor", 1.0)) != 1.0:
        raise NoOwnGraphError("partial_rotary_factor is not supported; only models that turn whole heads are")
    theta = float(given.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    if kind == "default":
        return Rope(kind, theta)
    try:
        factor = float(given["factor"])
        if kind == "linear":
            return Rope(kind, theta, factor)
        return Rope(
            kind,
            theta,
            factor,
            float(given["low_freq_factor"]),
            float(given["high_freq_factor"]),
            int(given["original_max_position_embeddings"]),
        )
    except KeyError as error:
        raise UnsupportedError(f"rope_type {kind!r} lacks the key {error}") from None


def read_size(config: dict[str, Any], key: str) -> int:
    """A whole number above 0 of a config.json. Raises UnsupportedError naming the key."""
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise UnsupportedError(f"{CONFIG_FILE} must set {key} to a whole number above 0, it is {value!r}")
    return value
