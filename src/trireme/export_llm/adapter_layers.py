"""LoRAs inside of a graph: each token is read with the one that its prompt chose.

The library that runs the graph has one set of adapters for all requests of a step. Here the choice is part of
the prompt: its first token has an id above the vocabulary (see generate.adapter_marks), and a small attention lets
every later token of the prompt and of the answer see it. So requests with different adapters share a step, and no
cached prefix: those are told apart by ids. Low-rank updates of all adapters stand side by side, and what those add
that were not chosen is set to 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trireme.checkpoints.lora import LoraAdapter
from trireme.export_llm.constants import ConstantStore
from trireme.generate.adapter_marks import choice_size

# The score of the marked token is its square, that of others 0: beside e^64 a million of them count for nothing.
_MARK = 8.0


class AdapterLayers:
    """Nodes for the `adapters`, numbered from 1. Shapes as in graph.py: b batch, s new tokens, n adapters."""

    def __init__(self, op: Any, store: ConstantStore, adapters: Sequence[LoraAdapter]) -> None:
        self._op = op
        self._store = store
        self._adapters = adapters
        self._chosen: Any = None
        self.size = choice_size(len(adapters))

    def split_ids(self, ids: Any, vocabulary: int) -> tuple[Any, Any]:
        """Of ids [b, s]: the tokens, and the number of the adapter where one is marked, else 0."""
        size = self._op.constant(np.array(vocabulary, np.int32))
        numbers = self._op.divide(ids, size)
        return self._op.subtract(ids, self._op.multiply(numbers, size)), numbers

    def look_back(self, numbers: Any) -> tuple[Any, Any, Any]:
        """Queries, keys and values [b, s, size] of the attention that finds the mark; without it values are 0."""
        op = self._op
        apart = op.convert(op.unsqueeze(numbers, self._ints(-1)), "f32")
        marked = op.minimum(apart, self._floats(1.0))
        first = np.zeros((1, 1, self.size), np.float32)
        first[..., 0] = _MARK
        keys = op.multiply(marked, op.constant(first))
        # Of no consequence to the marked one itself, which sees no other.
        queries = op.add(keys, op.constant(first))
        places = op.constant(np.arange(1, self.size + 1, dtype=np.float32).reshape(1, 1, -1))
        values = op.convert(op.equal(apart, places), "f32")
        return queries, keys, values

    def choose(self, found: Any) -> None:
        """found: what the attention made of the values, [b, s, size]: nearly 1 at the chosen one."""
        op = self._op
        self._chosen = op.convert(op.greater(found, self._floats(0.5)), "f32")

    def add_to(self, product: Any, states: Any, prefix: str) -> Any:
        """`product` of the layer `prefix` with what the chosen adapter adds for `states`."""
        op = self._op
        having = [(n, one) for n, one in enumerate(self._adapters) if prefix in one.modules]
        if not having:
            return product
        factors = [(n, *one.factors(prefix)) for n, one in having]
        down = self._store.weight(np.concatenate([part for _, part, _ in factors]))
        up = self._store.weight(np.concatenate([part for _, _, part in factors], axis=1))
        owners = np.concatenate([np.full(len(part), n, np.int64) for n, part, _ in factors])
        mine = op.gather(self._chosen, op.constant(owners), self._ints(-1))
        inner = op.multiply(op.matmul(states, down, False, True), mine)
        return op.add(product, op.matmul(inner, up, False, True))

    def _ints(self, value: int) -> Any:
        return self._op.constant(np.array(value, np.int64))

    def _floats(self, value: float) -> Any:
        return self._op.constant(np.array(value, np.float32))
