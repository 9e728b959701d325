"""The `sort` backend, the last step of `search`: passages in the order of their scores, top_k of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from trireme.artifacts.config_writer import PARAMETERS
from trireme.errors import InvalidInputError, TriremeError
from trireme.triton.backends.config import ModelConfig
from trireme.triton.backends.model import BackendModel
from trireme.triton.backends.tensors import hit_tensors, read_scalar, read_strings, read_tensor, read_top_k
from trireme.types import Hit


def rank(hits: list[Hit], top_k: int) -> list[Hit]:
    """The `top_k` best hits, best first; equal scores keep their order. Pure."""
    return sorted(hits, key=lambda hit: -hit.score)[:top_k]


class SortModel(BackendModel):
    """Sorts; holds nothing."""

    known_parameters = frozenset(PARAMETERS["sort"])

    def load(self, config: ModelConfig) -> None:
        self._default_top_k = config.read_int("default_top_k")
        self._max_top_k = config.read_int("max_top_k")

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request."""
        return self.answer_measured(requests, self._read, self._compute, self._write)

    def _read(self, request: Any) -> list[Hit]:
        top_k = read_top_k(read_scalar(self.pb, request, "top_k"), self._default_top_k, self._max_top_k)
        texts = [read_strings(self.pb, request, name)[0] for name in ("id", "text", "metadata")]
        scores = np.asarray(read_tensor(self.pb, request, "score"), np.float32).reshape(-1)
        if {len(column) for column in texts} != {scores.size}:
            raise InvalidInputError("id, text, metadata and score must have the same length")
        hits = [Hit(*row) for row in zip(*texts, scores.tolist(), strict=True)]
        return rank(hits, top_k)

    def _compute(self, answers: list[list[Hit]]) -> list[list[Hit] | TriremeError]:
        return list(answers)

    def _write(self, hits: list[Hit]) -> list[Any]:
        return hit_tensors(self.pb, hits)
