"""Constants of an OpenVINO graph whose bytes lie in a scratch file, so that a build needs little memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.export_llm.quantization import Integers, PackedWeight
from trireme.types import FloatArray

LARGEST_HALF = float(np.finfo(np.float16).max)
_ALIGNMENT = 64


class ConstantStore:
    """Writes each constant into the file at `path` and maps it from there; call `close` after the graph is saved.

    `kept_fp32` counts the weights that do not fit float16 and stay float32.
    """

    def __init__(self, path: Path) -> None:
        self.kept_fp32 = 0
        self._path = path
        self._stream = path.open("wb")
        # A tensor of openvino does not own the array it is made over: without these it reads freed memory.
        self._arrays: list[npt.NDArray[Any]] = []

    def weight(self, values: FloatArray) -> Any:
        """A matrix as float32 node over a float16 constant; over a float32 one when float16 cannot hold it."""
        from openvino import opset15 as op

        if not _fits_half(values):
            self.kept_fp32 += 1
            return self._constant(values.astype(np.float32))
        return op.convert(self._constant(values.astype(np.float16)), "f32")

    def packed_weight(self, weight: PackedWeight) -> Any:
        """The integers as constants of their own width, with the arithmetic that makes them a matrix [out, in].

        The nodes are those that the CPU plugin recognizes as compressed weights and runs without unpacking
        them to floats.
        """
        from openvino import opset15 as op

        rows, groups = weight.scales.shape
        columns = weight.integers.shape[1]
        shape = [rows, columns] if groups == 1 else [rows, groups, columns // groups]
        one_per_group = [*shape[:-1], 1]
        scale_type = "f16" if _is_exact_half(weight.scales) else "f32"
        scales = self._constant(
            weight.scales.astype(np.dtype(scale_type.replace("f", "float"))), one_per_group
        )
        zeros = self._integers(weight.zeros, one_per_group, weight.bits)
        integers = op.convert(self._integers(weight.integers, shape, weight.bits), scale_type)
        shifted = op.subtract(integers, op.convert(zeros, scale_type))
        matrix = op.multiply(shifted, scales)
        if groups > 1:
            matrix = op.reshape(matrix, op.constant(np.array([rows, columns], np.int64)), False)
        return matrix if scale_type == "f32" else op.convert(matrix, "f32")

    def close(self) -> None:
        """Lets go of the file."""
        self._arrays.clear()
        self._stream.close()

    def _integers(self, values: Integers, shape: list[int], bits: int) -> Any:
        from openvino import Type

        if bits == 8:
            return self._constant(values, shape)
        flat = values.reshape(-1)
        if flat.size % 2:
            flat = np.append(flat, np.uint8(0))
        # The first of two values is the lower half of the byte.
        return self._constant(flat[0::2] | (flat[1::2] << 4), shape, Type.u4)

    def _constant(self, values: npt.NDArray[Any], shape: list[int] | None = None, element: Any = None) -> Any:
        import openvino
        from openvino import opset15 as op

        mapped = self._write(np.ascontiguousarray(values))
        self._arrays.append(mapped)
        kind = element or openvino.Type(mapped.dtype)
        return op.constant(openvino.Tensor(mapped, shape or list(values.shape), kind), shared_memory=True)

    def _write(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        start = -(-self._stream.tell() // _ALIGNMENT) * _ALIGNMENT
        self._stream.seek(start)
        self._stream.write(values.data)
        self._stream.flush()
        return np.memmap(self._path, values.dtype, "c", start, values.shape)


def _fits_half(values: FloatArray) -> bool:
    return values.dtype == np.float16 or float(np.abs(values).max()) <= LARGEST_HALF


def _is_exact_half(values: FloatArray) -> bool:
    return _fits_half(values) and bool((values.astype(np.float16).astype(np.float32) == values).all())
