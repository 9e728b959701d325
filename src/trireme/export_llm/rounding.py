"""Rounds float weights to integers for the CPU: to the nearest of evenly spaced values, per row or group of a row.

In numpy and in seconds; nothing is searched or calibrated, which build/quantize_llm.py does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trireme.errors import UnsupportedError
from trireme.export_llm.quantization import PackedWeight
from trireme.types import FloatArray

# Of a scale, which the graph holds as float16.
_SMALLEST = float(np.finfo(np.float16).tiny)


@dataclass(frozen=True, slots=True)
class Rounding:
    """How weights are rounded. `group_size`: inputs that share a scale and a minimum; -1 is a whole row."""

    bits: int
    group_size: int

    @property
    def precision(self) -> str:
        """A name for people, such as "int4 g32"."""
        return f"int{self.bits}" + (f" g{self.group_size}" if self.group_size > 0 else "")

    def round(self, name: str, weight: FloatArray) -> PackedWeight:
        """The integers nearest to `weight` [out, in]. Raises UnsupportedError where groups do not divide a row."""
        rows, columns = weight.shape
        size = self.group_size if self.group_size > 0 else columns
        if columns % size:
            raise UnsupportedError(
                f"{name} has rows of {columns}, which groups of {size} do not divide; set precision to int8"
            )
        largest = 2**self.bits - 1
        grouped = weight.astype(np.float32).reshape(rows, columns // size, size)
        # A whole zero lies between 0 and `largest` only where the values lie around 0.
        low, high = np.minimum(grouped.min(axis=-1), 0), np.maximum(grouped.max(axis=-1), 0)
        scales = np.maximum((high - low) / largest, _SMALLEST).astype(np.float16).astype(np.float32)
        zeros = np.clip(np.rint(-low / scales), 0, largest)
        integers = np.clip(np.rint(grouped / scales[..., None]) + zeros[..., None], 0, largest)
        return PackedWeight(
            integers.astype(np.uint8).reshape(rows, columns), zeros.astype(np.uint8), scales, self.bits
        )


@dataclass(frozen=True, slots=True)
class Roundings:
    """Of one precision: how layers are rounded, and how the tables are, whose rows are one token each."""

    layers: Rounding
    tables: Rounding


_BY_ROW = Rounding(8, -1)
# By the recipe's precision; docs/decisions/0015-default-llm.md has the figures of both.
ROUNDINGS = {"int8": Roundings(_BY_ROW, _BY_ROW), "int4": Roundings(Rounding(4, 32), _BY_ROW)}
