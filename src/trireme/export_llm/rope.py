"""Angles of rotary position embeddings (arXiv 2104.09864) and their stretched forms."""

from __future__ import annotations

import numpy as np

from trireme.export_llm.architecture import Rope
from trireme.types import FloatArray


def inverse_frequencies(rope: Rope, head_dim: int) -> FloatArray:
    """Radians per position, [head_dim / 2], falling. Pair i of a head is turned by position * result[i].

    `linear` divides all by the factor. `llama3` (the Llama 3.1 release) divides those whose wave is longer than
    original_positions / low_frequency_factor, leaves the short ones, and blends between.
    """
    steps = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    plain = (1.0 / (np.float32(rope.theta) ** steps)).astype(np.float32)
    if rope.kind == "default":
        return plain
    stretched = plain / np.float32(rope.factor)
    if rope.kind == "linear":
        return stretched
    waves_in_context = rope.original_positions / (2 * np.pi / plain)
    low, high = rope.low_frequency_factor, rope.high_frequency_factor
    kept = np.clip((waves_in_context - low) / (high - low), 0.0, 1.0).astype(np.float32)
    blended: FloatArray = kept * plain + (1 - kept) * stretched
    return blended
