"""BERT-like encoders over packed rows: every token of all rows in one matrix, no padding. Needs torch.

T is the tokens of all rows, R the rows, H the hidden size, D the length of the output row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional

from trireme.encode.packed.config import PACKED_CONFIG_FILE, PACKED_WEIGHTS_FILE, PackedConfig, read_config
from trireme.errors import ArtifactError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Tokens:
    """Packed rows on the model's device, all int32: per token its id, segment, and its row's first token and end.

    `offsets` [R + 1]: where rows begin, and the end of the last. `lengths` is on the host.
    """

    ids: Tensor
    type_ids: Tensor
    starts: Tensor
    ends: Tensor
    offsets: Tensor
    lengths: Sequence[int]


@dataclass(frozen=True, slots=True)
class Norm:
    """Weight and bias [H] of a LayerNorm."""

    weight: Tensor
    bias: Tensor
    eps: float


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Tables [entries, H]; `segment` has one row where the family knows no segments."""

    word: Tensor
    position: Tensor
    segment: Tensor
    norm: Norm


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights [out, in] and biases [out] of one layer; `qkv` has the three of attention one behind the other."""

    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    out_bias: Tensor
    attention_norm: Norm
    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor
    output_norm: Norm


class Operators(Protocol):
    """The steps between matrix products, which a device may run in kernels of its own."""

    def embed(self, tables: Embeddings, tokens: Tokens, dtype: torch.dtype) -> Tensor:
        """Sum of the three embeddings, normalized. [T, H]"""

    def attend(self, qkv: Tensor, tokens: Tokens, heads: int) -> Tensor:
        """Attention of every token to its own row: [T, 3H] -> [T, H]."""

    def expand(self, hidden: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
        """activation(hidden x weight + bias): [T, H] -> [T, 4H]."""

    def add_norm(self, hidden: Tensor, bias: Tensor, residual: Tensor, norm: Norm) -> Tensor:
        """norm(hidden + bias + residual), all [T, H] but the bias."""

    def pool(self, hidden: Tensor, tokens: Tokens, mode: str) -> Tensor:
        """One float32 row of H per row of tokens. [R, H]"""


class PackedBert:
    """The model; holds weights only, `operators` do the rest."""

    def __init__(self, config: PackedConfig, weights: dict[str, Tensor], operators: Operators) -> None:
        """`weights`: named as in packed.config, on the device they run on. Raises ArtifactError."""
        self.config = config
        self.operators = operators
        self.dtype = DTYPES[config.precision]
        taken = _Taker(weights, config.norm_eps)
        self._tables = Embeddings(
            taken["embeddings.word"],
            taken["embeddings.position"],
            taken["embeddings.segment"],
            taken.norm("embeddings.norm"),
        )
        self.hidden_size = self._tables.word.shape[1]
        self._layers = [taken.layer(f"layers.{i}") for i in range(config.layers)]
        # Few rows pass here: their precision costs nothing.
        self._dense = [
            (taken[f"dense.{i}.weight"].float(), taken.optional(f"dense.{i}.bias"), activation)
            for i, activation in enumerate(config.dense)
        ]

    @property
    def positions(self) -> int:
        """The longest row, in tokens."""
        return self._tables.position.shape[0]

    def encode(self, tokens: Tokens) -> Tensor:
        """States [T, H] after the last layer."""
        run = self.operators
        hidden = run.embed(self._tables, tokens, self.dtype)
        for layer in self._layers:
            attended = run.attend(
                functional.linear(hidden, layer.qkv, layer.qkv_bias), tokens, self.config.heads
            )
            attended = functional.linear(attended, layer.out)
            hidden = run.add_norm(attended, layer.out_bias, hidden, layer.attention_norm)
            expanded = run.expand(hidden, layer.up, layer.up_bias, self.config.activation)
            expanded = functional.linear(expanded, layer.down)
            hidden = run.add_norm(expanded, layer.down_bias, hidden, layer.output_norm)
        return hidden

    def finish(self, hidden: Tensor, tokens: Tokens) -> Tensor:
        """Pooling and the layers behind it: [T, H] -> float32 [R, D], or [R] for scores."""
        rows = self.operators.pool(hidden, tokens, self.config.pooling)
        for weight, bias, activation in self._dense:
            rows = functional.linear(rows, weight, bias)
            if activation:
                rows = torch.tanh(rows) if activation == "tanh" else torch.relu(rows)
        return rows[:, 0] if self.config.is_score else rows


class TorchOperators:
    """The steps in torch's own operators, on CPU and CUDA."""

    def embed(self, tables: Embeddings, tokens: Tokens, dtype: torch.dtype) -> Tensor:
        """Sum of the three embeddings, normalized. [T, H]"""
        place = torch.arange(len(tokens.ids), device=tokens.ids.device) - tokens.starts
        summed = tables.word[tokens.ids.long()].float() + tables.position[place].float()
        summed += tables.segment[tokens.type_ids.long()].float()
        return _normalize(summed, tables.norm).to(dtype)

    def attend(self, qkv: Tensor, tokens: Tokens, heads: int) -> Tensor:
        """Attention of every token to its own row: [T, 3H] -> [T, H]."""
        query, key, value = qkv.view(len(qkv), 3, heads, -1).unbind(1)
        if qkv.is_cuda and qkv.dtype != torch.float32:
            from torch.nn.attention.varlen import varlen_attn

            longest, offsets = max(tokens.lengths), tokens.offsets
            mixed = varlen_attn(query, key, value, offsets, offsets, longest, longest)
            return cast("Tensor", mixed).reshape(len(qkv), -1)
        parts = []
        pieces = (torch.split(part, list(tokens.lengths)) for part in (query, key, value))
        for row in zip(*pieces, strict=True):
            q, k, v = (part.transpose(0, 1) for part in row)
            parts.append(functional.scaled_dot_product_attention(q, k, v).transpose(0, 1))
        return torch.cat(parts).reshape(len(qkv), -1)

    def expand(self, hidden: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
        """activation(hidden x weight + bias): [T, H] -> [T, 4H]."""
        expanded = functional.linear(hidden, weight, bias)
        if activation == "relu":
            return torch.relu(expanded)
        # In 16 bits GELU is its tanh form, as in cuBLAS: the two differ by less than the numbers' rounding.
        is_exact = activation == "gelu" and hidden.dtype == torch.float32
        return functional.gelu(expanded, approximate="none" if is_exact else "tanh")

    def add_norm(self, hidden: Tensor, bias: Tensor, residual: Tensor, norm: Norm) -> Tensor:
        """norm(hidden + bias + residual), all [T, H] but the bias."""
        return _normalize(hidden.float() + bias.float() + residual.float(), norm).to(hidden.dtype)

    def pool(self, hidden: Tensor, tokens: Tokens, mode: str) -> Tensor:
        """One float32 row of H per row of tokens. [R, H]"""
        offsets = tokens.offsets.long()
        if mode in ("cls", "lasttoken"):
            return hidden[offsets[:-1] if mode == "cls" else offsets[1:] - 1].float()
        lengths = offsets.diff()
        states = hidden.float()
        if mode == "max":
            return torch.segment_reduce(states, "max", lengths=lengths, axis=0)
        scale = lengths.float()
        if mode == "weightedmean":
            place = torch.arange(len(hidden), device=hidden.device) - tokens.starts
            states = states * (place + 1)[:, None]
            scale = scale * (scale + 1) / 2
        elif mode == "mean_sqrt_len_tokens":
            scale = scale.sqrt()
        return torch.segment_reduce(states, "sum", lengths=lengths, axis=0) / scale[:, None]


def _normalize(summed: Tensor, norm: Norm) -> Tensor:
    return functional.layer_norm(summed, (summed.shape[1],), norm.weight.float(), norm.bias.float(), norm.eps)


class _Taker:
    """Weights by name; a missing one raises ArtifactError."""

    def __init__(self, weights: dict[str, Tensor], eps: float) -> None:
        self._weights, self._eps = weights, eps

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._weights:
            raise ArtifactError(f"{PACKED_WEIGHTS_FILE} holds no weight {name!r}; build the model again")
        return self._weights[name]

    def optional(self, name: str) -> Tensor | None:
        return self._weights[name].float() if name in self._weights else None

    def norm(self, name: str) -> Norm:
        return Norm(self[f"{name}.weight"], self[f"{name}.bias"], self._eps)

    def layer(self, name: str) -> Layer:
        return Layer(
            qkv=self[f"{name}.qkv.weight"],
            qkv_bias=self[f"{name}.qkv.bias"],
            out=self[f"{name}.out.weight"],
            out_bias=self[f"{name}.out.bias"],
            attention_norm=self.norm(f"{name}.attention_norm"),
            up=self[f"{name}.up.weight"],
            up_bias=self[f"{name}.up.bias"],
            down=self[f"{name}.down.weight"],
            down_bias=self[f"{name}.down.bias"],
            output_norm=self.norm(f"{name}.output_norm"),
        )


def read_packed(folder: Path, device: torch.device) -> tuple[PackedConfig, dict[str, Tensor]]:
    """Config and weights of a version folder, on `device`. Raises ArtifactError naming the file at fault."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_config(folder / PACKED_CONFIG_FILE)
    if config.precision not in DTYPES:
        raise ArtifactError(f"torch runs no {config.precision} of this kind; build the model again")
    try:
        weights = load_file(folder / PACKED_WEIGHTS_FILE, device=str(device))
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"cannot load {PACKED_WEIGHTS_FILE}: {error}; build the model again") from error
    return config, weights
