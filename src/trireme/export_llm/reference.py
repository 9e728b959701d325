"""The model in float32 numpy, straight from the checkpoint's own numbers: what the export is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trireme.checkpoints.lora import LoraAdapter
from trireme.export_llm.graph import Notice
from trireme.export_llm.quantization import PackedWeight
from trireme.export_llm.rope import inverse_frequencies
from trireme.export_llm.weights import EMBEDDING, FINAL_NORM, Weights
from trireme.types import FloatArray


def compute_logits(
    weights: Weights,
    prompts: Sequence[Sequence[int]],
    notice: Notice = lambda step: None,
    adapters: Sequence[LoraAdapter | None] = (),
) -> list[FloatArray]:
    """Logits [tokens, vocabulary] of each prompt. Blocks; holds one matrix at a time in memory.

    A layer is read once and all prompts go through it. adapters: of each prompt the LoRA that it is read with; ()
    for none. Raises UnsupportedError for a tensor that does not fit.
    """
    return _Reference(weights, prompts, adapters).run(notice)


class _Reference:
    """Rows of all prompts stand below each other; attention takes them apart."""

    def __init__(
        self,
        weights: Weights,
        prompts: Sequence[Sequence[int]],
        adapters: Sequence[LoraAdapter | None],
    ) -> None:
        self.weights = weights
        self.adapters = adapters
        self.model = weights.architecture
        self.ids = np.concatenate([np.asarray(prompt, np.int64) for prompt in prompts])
        self.bounds = np.cumsum([len(prompt) for prompt in prompts])[:-1]
        positions = np.concatenate([np.arange(len(prompt), dtype=np.float32) for prompt in prompts])
        angles = positions[:, None] * inverse_frequencies(self.model.rope, self.model.head_dim)
        self.cos = np.cos(angles)[:, None, :]
        self.sin = np.sin(angles)[:, None, :]

    def run(self, notice: Notice) -> list[FloatArray]:
        embedding = self.weights.array(f"{EMBEDDING}.weight", (self.model.vocabulary, self.model.hidden))
        states = embedding[self.ids].astype(np.float32)
        for index in range(self.model.layers):
            notice(f"layer {index + 1} of {self.model.layers}")
            prefix = f"model.layers.{index}"
            normed = self._norm(states, f"{prefix}.input_layernorm", self.model.hidden)
            states += self._attention(normed, prefix)
            normed = self._norm(states, f"{prefix}.post_attention_layernorm", self.model.hidden)
            gate = self._linear(normed, f"{prefix}.mlp.gate_proj")
            inner = gate * _sigmoid(gate) * self._linear(normed, f"{prefix}.mlp.up_proj")
            states += self._linear(inner, f"{prefix}.mlp.down_proj")
        states = self._norm(states, FINAL_NORM, self.model.hidden)
        return np.split(self._linear(states, self.weights.head), self.bounds)

    def _attention(self, states: FloatArray, prefix: str) -> FloatArray:
        model = self.model
        queries = self._heads(states, f"{prefix}.self_attn.q", model.heads)
        keys = self._heads(states, f"{prefix}.self_attn.k", model.kv_heads)
        values = self._linear(states, f"{prefix}.self_attn.v_proj")
        values = values.reshape(-1, model.kv_heads, model.head_dim)
        cut = [np.split(part, self.bounds) for part in (queries, keys, values)]
        mixed = np.concatenate([self._attend(*parts) for parts in zip(*cut, strict=True)])
        return self._linear(mixed, f"{prefix}.self_attn.o_proj")

    def _heads(self, states: FloatArray, prefix: str, count: int) -> FloatArray:
        """Queries or keys, turned by position: [tokens, count, head_dim]."""
        heads = self._linear(states, f"{prefix}_proj").reshape(-1, count, self.model.head_dim)
        if self.model.has_head_norms:
            heads = self._norm(heads, f"{prefix}_norm", self.model.head_dim)
        first, second = np.split(heads, 2, axis=-1)
        return np.concatenate(
            [first * self.cos - second * self.sin, second * self.cos + first * self.sin], axis=-1
        )

    def _attend(self, queries: FloatArray, keys: FloatArray, values: FloatArray) -> FloatArray:
        """One prompt: softmax(q k / sqrt(head_dim)) v over no later position, [tokens, heads * head_dim]."""
        model, tokens = self.model, len(queries)
        shared = model.heads // model.kv_heads
        grouped = queries.reshape(tokens, model.kv_heads, shared, model.head_dim)
        scores = np.einsum("qgrd,kgd->grqk", grouped, keys) * np.float32(model.head_dim**-0.5)
        scores[:, :, np.triu(np.ones((tokens, tokens), bool), 1)] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        shares = np.exp(scores)
        shares /= shares.sum(axis=-1, keepdims=True)
        mixed: FloatArray = np.einsum("grqk,kgd->qgrd", shares, values).reshape(tokens, -1)
        return mixed

    def _linear(self, states: FloatArray, prefix: str) -> FloatArray:
        weight = self.weights.linear(prefix)
        dense = weight.dense() if isinstance(weight, PackedWeight) else weight.astype(np.float32)
        product: FloatArray = states @ dense.T
        if self.adapters:
            product = np.concatenate(
                [
                    made if adapter is None else made + _update(adapter, prefix, read)
                    for made, read, adapter in zip(
                        np.split(product, self.bounds),
                        np.split(states, self.bounds),
                        self.adapters,
                        strict=True,
                    )
                ]
            )
        bias = self.weights.bias(prefix)
        return product if bias is None else product + bias.astype(np.float32)

    def _norm(self, states: FloatArray, prefix: str, size: int) -> FloatArray:
        mean = np.mean(states * states, axis=-1, keepdims=True)
        scaled: FloatArray = states / np.sqrt(mean + np.float32(self.model.norm_epsilon))
        return scaled * self.weights.norm(prefix, size)


def _update(adapter: LoraAdapter, prefix: str, states: FloatArray) -> FloatArray | float:
    """What the adapter adds to the layer's rows."""
    if prefix not in adapter.modules:
        return 0.0
    down, up = adapter.factors(prefix)
    added: FloatArray = states @ down.T @ up.T
    return added


def _sigmoid(values: FloatArray) -> FloatArray:
    # Written so that neither branch overflows.
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)
