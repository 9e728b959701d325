"""The parity gate: is the exported graph near enough to the PyTorch original?

Embeddings are compared by cosine, scores by their order within a query (Spearman's rank correlation)
and by the largest difference over the spread of the original scores (trireme.encode.agreement).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.artifacts.gate import Thresholds
from trireme.artifacts.recipe import Recipe
from trireme.types import FloatArray

Feeds = dict[str, npt.NDArray[Any]]
Run = Callable[[Feeds], FloatArray]
BATCH = 8

_VECTOR_LEAST = {
    "fp32": {"cosine_min": 0.99999, "cosine_mean": 0.99999},
    "fp16": {"cosine_min": 0.999, "cosine_mean": 0.9999},
    "bf16": {"cosine_min": 0.999, "cosine_mean": 0.9995},
    "int8": {"cosine_min": 0.95, "cosine_mean": 0.98},
}
_RANK_LEAST = {"fp32": 0.99, "fp16": 0.98, "bf16": 0.97, "int8": 0.9}
_SCORE_MOST = {"fp32": 0.001, "fp16": 0.02, "bf16": 0.05, "int8": 0.3}


def read_thresholds(recipe: Recipe) -> Thresholds:
    """The recipe's thresholds, or the defaults of its precision."""
    if recipe.kind in ("text_encoder", "late_interaction"):
        least = dict(_VECTOR_LEAST[recipe.precision])
        chosen = {"cosine_min": recipe.min_cosine, "cosine_mean": recipe.mean_cosine}
        return Thresholds({**least, **{k: v for k, v in chosen.items() if v is not None}}, {})
    rank, most = recipe.min_rank_correlation, recipe.max_score_difference
    return Thresholds(
        {"rank_correlation": _RANK_LEAST[recipe.precision] if rank is None else rank},
        {"score_difference": _SCORE_MOST[recipe.precision] if most is None else most},
    )


def run_texts(run: Run, tokenizer: Any, texts: Sequence[Any], batch: int = BATCH) -> FloatArray:
    """Outputs [N, ...] of texts (or pairs of texts) in order, run in padded batches of mixed lengths.

    The order is kept as it is given, so that a batch holds lengths that differ. `tokenizer` is a
    Rust tokenizer with truncation and padding switched on.
    """
    parts = []
    for start in range(0, len(texts), batch):
        encoded = tokenizer.encode_batch(list(texts[start : start + batch]))
        feeds: Feeds = {
            "input_ids": np.array([item.ids for item in encoded], np.int64),
            "attention_mask": np.array([item.attention_mask for item in encoded], np.int64),
            "token_type_ids": np.array([item.type_ids for item in encoded], np.int64),
        }
        parts.append(run(feeds))
    return np.concatenate(parts)


def run_rows(run: Run, rows: Sequence[Sequence[int]], batch: int = BATCH) -> FloatArray:
    """As run_texts, of rows of tokens, in one segment."""
    parts = []
    for start in range(0, len(rows), batch):
        taken = rows[start : start + batch]
        ids = np.zeros((len(taken), max(map(len, taken))), np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(taken):
            ids[place, : len(row)], mask[place, : len(row)] = row, 1
        parts.append(run({"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}))
    return np.concatenate(parts)


def open_onnx(path: Path, threads: int = 0) -> Run:
    """Runs the ONNX file at `path` on the CPU; inputs that the graph does not have are left out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(feeds: Feeds) -> FloatArray:
        output: FloatArray = session.run(None, {name: feeds[name] for name in names})[0]
        return output

    return run
