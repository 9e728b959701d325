"""Builds an OpenVINO graph of a causal language model, operator by operator, from its checkpoint.

Inputs as OpenVINO GenAI expects them: input_ids, attention_mask, position_ids (int64 [batch, tokens]) and
beam_idx (int32 [batch]); output logits [batch, tokens, vocabulary] in float32. Keys and values of the past are
state; GenAI's continuous batching replaces them with pages of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trireme.checkpoints.lora import LoraAdapter
from trireme.export_llm.adapter_layers import AdapterLayers
from trireme.export_llm.architecture import Architecture
from trireme.export_llm.constants import ConstantStore
from trireme.export_llm.quantization import PackedWeight
from trireme.export_llm.rope import inverse_frequencies
from trireme.export_llm.rounding import Roundings
from trireme.export_llm.weights import EMBEDDING, FINAL_NORM, HEAD, Weights
from trireme.types import FloatArray

# The smallest float16: what a masked position's score gets.
MASKED = -65504.0

Notice = Callable[[str], None]


def build_graph(
    weights: Weights,
    store: ConstantStore,
    notice: Notice = lambda step: None,
    roundings: Roundings | None = None,
    adapters: Sequence[LoraAdapter] = (),
) -> Any:
    """The openvino.Model of `weights`; its constants live as long as `store`. Blocks; reads every tensor once.

    Float matrices are rounded as `roundings` say. `notice` hears which layer is read. adapters: see adapter_layers;
    they must fit. Raises UnsupportedError for a tensor that does not fit.
    """
    return _Graph(weights, store, roundings, adapters).build(notice)


class _Graph:
    """Nodes under construction. A method's tensor shapes: b batch, s new tokens, t past and new tokens."""

    def __init__(
        self,
        weights: Weights,
        store: ConstantStore,
        roundings: Roundings | None,
        adapters: Sequence[LoraAdapter],
    ) -> None:
        from openvino import opset15

        self.op = opset15
        self.weights = weights
        self.roundings = roundings
        self.model: Architecture = weights.architecture
        self.store = store
        self.sinks: list[Any] = []
        self.adapters = AdapterLayers(opset15, store, adapters) if adapters else None

    def build(self, notice: Notice) -> Any:
        import openvino

        self._make_inputs()
        embedding = self._stored(
            EMBEDDING, self.weights.array(f"{EMBEDDING}.weight", self._embedding_shape())
        )
        tokens = self.op.convert(self.ids, "i32")
        if self.adapters is not None:
            tokens = self._choose_adapter(self.adapters, tokens)
        states = self.op.gather(embedding, tokens, self._int(0))
        for index in range(self.model.layers):
            notice(f"layer {index + 1} of {self.model.layers}")
            states = self._layer(states, index)
        states = self._norm(states, FINAL_NORM, self.model.hidden)
        if self.model.is_tied:
            logits = self.op.matmul(states, embedding, False, True)
        else:
            logits = self._linear(states, self.weights.head)
        result = self.op.result(logits)
        result.output(0).set_names({"logits"})
        inputs = [self.ids, self.mask, self.positions, self.beam]
        model = openvino.Model([result], self.sinks, inputs, self.model.family)
        # Names are numbered across all graphs of a process; the same checkpoint must give the same file.
        for number, node in enumerate(model.get_ordered_ops()):
            if node.get_type_name() != "Parameter":
                node.set_friendly_name(f"{node.get_type_name()}_{number}")
        return model

    def _choose_adapter(self, adapters: AdapterLayers, ids: Any) -> Any:
        """Has each token see its prompt's mark; the tokens that the ids stand for, [b, s]."""
        op, index, size = self.op, self.model.layers, adapters.size
        tokens, numbers = adapters.split_ids(ids, self.model.vocabulary)
        queries, keys, values = (self._apart(part, 1, size) for part in adapters.look_back(numbers))
        keys = self._with_past(f"past_key_values.{index}.keypresent.{index}.key", keys, 1, size)
        values = self._with_past(f"past_key_values.{index}.valuepresent.{index}.value", values, 1, size)
        found = op.scaled_dot_product_attention(
            queries, keys, values, self.visible, self._float(1.0), causal=False
        )
        joined = op.transpose(found, self._ints(0, 2, 1, 3))
        adapters.choose(op.reshape(joined, self._ints(0, 0, size), True))
        return tokens

    def _embedding_shape(self) -> tuple[int, int]:
        return self.model.vocabulary, self.model.hidden

    def _make_inputs(self) -> None:
        self.ids = self._input("input_ids", [-1, -1], "i64")
        self.mask = self._input("attention_mask", [-1, -1], "i64")
        self.positions = self._input("position_ids", [-1, -1], "i64")
        self.beam = self._input("beam_idx", [-1], "i32")
        self.batch = self.op.gather(self.op.shape_of(self.ids, "i64"), self._ints(0), self._int(0))
        self.cos, self.sin = self._rotations()
        self.visible = self._visible()

    def _input(self, name: str, shape: list[int], element: str) -> Any:
        import openvino

        node = self.op.parameter(openvino.PartialShape(shape), getattr(openvino.Type, element), name=name)
        node.output(0).set_names({name})
        return node

    def _rotations(self) -> tuple[Any, Any]:
        """Cosine and sine of each position's angles, [b, 1, s, head_dim]."""
        op = self.op
        frequencies = inverse_frequencies(self.model.rope, self.model.head_dim).reshape(1, 1, -1)
        steps = op.unsqueeze(op.convert(self.positions, "f32"), self._int(-1))
        half = op.multiply(steps, op.constant(frequencies))
        angles = op.concat([half, half], -1)
        return op.unsqueeze(op.cos(angles), self._int(1)), op.unsqueeze(op.sin(angles), self._int(1))

    def _visible(self) -> Any:
        """0 where a query may look, MASKED elsewhere, [b, 1, s, t]: at no later token and at no padding."""
        op = self.op
        total = op.gather(op.shape_of(self.mask, "i64"), self._int(1), self._int(0))
        new = op.gather(op.shape_of(self.ids, "i64"), self._int(1), self._int(0))
        keys = op.range(self._int(0), total, self._int(1), output_type="i64")
        # Not position_ids: with padding on the left those lag behind the place in the cache.
        queries = op.range(op.subtract(total, new), total, self._int(1), output_type="i64")
        is_past = op.less_equal(
            op.unsqueeze(keys, self._ints(0, 1, 2)), op.unsqueeze(queries, self._ints(0, 1, 3))
        )
        is_text = op.not_equal(op.unsqueeze(self.mask, self._ints(1, 2)), self._int(0))
        visible = op.logical_and(is_past, is_text)
        return op.select(visible, self._float(0.0), self._float(MASKED))

    def _layer(self, states: Any, index: int) -> Any:
        op, prefix = self.op, f"model.layers.{index}"
        normed = self._norm(states, f"{prefix}.input_layernorm", self.model.hidden)
        states = op.add(states, self._attention(normed, prefix, index))
        normed = self._norm(states, f"{prefix}.post_attention_layernorm", self.model.hidden)
        gate = op.swish(self._linear(normed, f"{prefix}.mlp.gate_proj"))
        inner = op.multiply(gate, self._linear(normed, f"{prefix}.mlp.up_proj"))
        return op.add(states, self._linear(inner, f"{prefix}.mlp.down_proj"))

    def _attention(self, states: Any, prefix: str, index: int) -> Any:
        op, model = self.op, self.model
        queries = self._heads(states, f"{prefix}.self_attn.q", model.heads)
        keys = self._heads(states, f"{prefix}.self_attn.k", model.kv_heads)
        values = self._split(self._linear(states, f"{prefix}.self_attn.v_proj"), model.kv_heads)
        sizes = model.kv_heads, model.head_dim
        keys = self._with_past(f"past_key_values.{index}.keypresent.{index}.key", keys, *sizes)
        values = self._with_past(f"past_key_values.{index}.valuepresent.{index}.value", values, *sizes)
        mixed = op.scaled_dot_product_attention(
            queries,
            self._for_each_query_head(keys),
            self._for_each_query_head(values),
            self.visible,
            self._float(model.head_dim**-0.5),
            causal=False,
        )
        joined = op.reshape(
            op.transpose(mixed, self._ints(0, 2, 1, 3)), self._ints(0, 0, model.heads * model.head_dim), True
        )
        return self._linear(joined, f"{prefix}.self_attn.o_proj")

    def _heads(self, states: Any, prefix: str, count: int) -> Any:
        """Queries or keys, turned by position: [b, count, s, head_dim]."""
        projected = self._linear(states, f"{prefix}_proj")
        if not self.model.has_head_norms:
            return self._rotate(self._split(projected, count))
        apart = self.op.reshape(projected, self._ints(0, 0, count, self.model.head_dim), True)
        normed = self._norm(apart, f"{prefix}_norm", self.model.head_dim)
        return self._rotate(self.op.transpose(normed, self._ints(0, 2, 1, 3)))

    def _split(self, projected: Any, count: int) -> Any:
        return self._apart(projected, count, self.model.head_dim)

    def _apart(self, joined: Any, count: int, size: int) -> Any:
        """[b, s, count * size] -> [b, count, s, size]."""
        apart = self.op.reshape(joined, self._ints(0, 0, count, size), True)
        return self.op.transpose(apart, self._ints(0, 2, 1, 3))

    def _rotate(self, heads: Any) -> Any:
        op, half = self.op, self.model.head_dim // 2
        first = op.slice(heads, self._ints(0), self._ints(half), self._ints(1), self._ints(3))
        second = op.slice(
            heads, self._ints(half), self._ints(np.iinfo(np.int64).max), self._ints(1), self._ints(3)
        )
        turned = op.concat([op.multiply(second, self._float(-1.0)), first], -1)
        return op.add(op.multiply(heads, self.cos), op.multiply(turned, self.sin))

    def _with_past(self, name: str, new: Any, heads: int, size: int) -> Any:
        """Past and new keys or values, [b, heads, t, size]; they are also what the next call finds."""
        import openvino
        from openvino.op.util import Variable, VariableInfo

        op = self.op
        sizes = [self.batch, self._ints(heads), self._ints(0), self._ints(size)]
        info = VariableInfo()
        info.variable_id = name
        info.data_type = openvino.Type.f32
        info.data_shape = openvino.PartialShape([-1, heads, -1, size])
        variable = Variable(info)
        past = op.read_value(op.broadcast(self._float(0.0), op.concat(sizes, 0)), variable)
        joined = op.concat([op.gather(past, self.beam, self._int(0)), new], 2)
        self.sinks.append(op.assign(joined, variable))
        return joined

    def _for_each_query_head(self, shared: Any) -> Any:
        """[b, kv_heads, t, head_dim] -> [b, heads, t, head_dim]: each is read by heads / kv_heads queries."""
        op, model = self.op, self.model
        if model.heads == model.kv_heads:
            return shared
        total = op.gather(op.shape_of(shared, "i64"), self._ints(2), self._int(0))
        repeats = self._ints(model.heads // model.kv_heads)
        sizes = [self.batch, self._ints(model.kv_heads), repeats, total, self._ints(model.head_dim)]
        repeated = op.broadcast(op.unsqueeze(shared, self._int(2)), op.concat(sizes, 0), "BIDIRECTIONAL")
        return op.reshape(repeated, self._ints(0, model.heads, -1, model.head_dim), True)

    def _linear(self, states: Any, prefix: str) -> Any:
        product = self.op.matmul(states, self._matrix(prefix), False, True)
        if self.adapters is not None:
            product = self.adapters.add_to(product, states, prefix)
        bias = self.weights.bias(prefix)
        if bias is None:
            return product
        return self.op.add(product, self.op.constant(bias.astype(np.float32).reshape(1, 1, -1)))

    def _matrix(self, prefix: str) -> Any:
        weight = self.weights.linear(prefix)
        if isinstance(weight, PackedWeight):
            return self.store.packed_weight(weight)
        return self._stored(prefix, weight)

    def _stored(self, prefix: str, weight: FloatArray) -> Any:
        if self.roundings is None:
            return self.store.weight(weight)
        is_table = prefix in (EMBEDDING, HEAD)
        rounding = self.roundings.tables if is_table else self.roundings.layers
        return self.store.packed_weight(rounding.round(prefix, weight))

    def _norm(self, states: Any, prefix: str, size: int) -> Any:
        """x / sqrt(mean(x^2) + epsilon) * weight, over the last axis (arXiv 1910.07467)."""
        op = self.op
        mean = op.reduce_mean(op.power(states, self._float(2.0)), self._ints(-1), True)
        root = op.sqrt(op.add(mean, self._float(self.model.norm_epsilon)))
        scaled = op.multiply(states, op.divide(self._float(1.0), root))
        return op.multiply(scaled, op.constant(self.weights.norm(prefix, size)))

    def _int(self, value: int) -> Any:
        return self.op.constant(np.array(value, np.int64))

    def _ints(self, *values: int) -> Any:
        return self.op.constant(np.array(values, np.int64))

    def _float(self, value: float) -> Any:
        return self.op.constant(np.array(value, np.float32))
