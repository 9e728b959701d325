"""Logits of an exported graph as OpenVINO GenAI runs it: attention over pages, compiled as the engine compiles."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trireme.types import FloatArray

# Tokens that are read one by one at a prompt's end, as an answer's are.
SINGLE_STEPS = 4
# Tokens of one page on the CPU, whatever the type of its numbers.
BLOCK_TOKENS = 32


class ServedGraph:
    """The graph at `path`, with room in its cache for one prompt of `tokens` tokens."""

    def __init__(self, path: Path, properties: Mapping[str, str | int], tokens: int) -> None:
        """Blocks while the graph is compiled."""
        import openvino
        from openvino._offline_transformations import paged_attention_transformation

        core = openvino.Core()
        model = core.read_model(path)
        # The pass that GenAI's continuous batching runs, too: state becomes pages that the caller holds.
        paged_attention_transformation(model)
        compiled = core.compile_model(model, "CPU", dict(properties))
        self._request: Any = compiled.create_infer_request()
        self._caches: dict[str, Any] = {}
        for port in compiled.inputs:
            name = port.get_any_name()
            if "_cache." in name:
                self._caches[name] = self._make_cache(openvino, port, tokens)

    def logits(self, prompt: Sequence[int]) -> FloatArray:
        """Logits [tokens, vocabulary] of a prompt read in two pieces and then token by token. Blocks."""
        ids = np.asarray(prompt, np.int64)
        end = max(len(ids) - SINGLE_STEPS, 1)
        bounds = sorted({0, end // 2, *range(end, len(ids) + 1)})
        pieces = [self._run(ids[start:stop], start) for start, stop in itertools.pairwise(bounds)]
        return np.concatenate(pieces)

    def _run(self, ids: Any, start: int) -> FloatArray:
        stop = start + len(ids)
        blocks = -(-stop // BLOCK_TOKENS)
        feeds = {
            "input_ids": ids,
            "position_ids": np.arange(start, stop, dtype=np.int64),
            "past_lens": np.array([start], np.int32),
            "subsequence_begins": np.array([0, len(ids)], np.int32),
            "block_indices": np.arange(blocks, dtype=np.int32),
            "block_indices_begins": np.array([0, blocks], np.int32),
            "max_context_len": np.array(stop, np.int32),
        }
        found = self._request.infer({**feeds, **self._caches})["logits"]
        logits: FloatArray = np.array(found, np.float32).reshape(len(ids), -1)
        return logits

    @staticmethod
    def _make_cache(openvino: Any, port: Any, tokens: int) -> Any:
        """[blocks, kv_heads, tokens of a block, head_dim]; quantized keys and values carry their scales inside."""
        sizes = [size.get_length() if size.is_static else 0 for size in port.get_partial_shape()]
        sizes[0] = -(-tokens // BLOCK_TOKENS)
        return openvino.Tensor(port.get_element_type(), sizes)
