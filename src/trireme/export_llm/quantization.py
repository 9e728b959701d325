"""What quantization_config says, and the integers of AWQ and GPTQ checkpoints, unpacked as they are stored.

Both store `value = (integer - zero) * scale` per output channel and group of input channels, eight 4-bit (four
8-bit) integers in an int32. AWQ, gemm layout: packed along output channels, in the order 0 2 4 6 1 3 5 7.
GPTQ: weights packed along input channels, zeros along output channels; format "gptq" stores each zero minus
one, "gptq_v2" as it is. (Formats of auto-awq and auto-gptq; gptqmodel writes the same.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.checkpoints.tensors import TensorFiles
from trireme.errors import UnsupportedError
from trireme.types import FloatArray

GROUP_SIZES = (-1, 32, 64, 128)

_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

Integers = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Quantization:
    """How the linear layers are stored. `group_size` -1 is one group per row."""

    method: str
    bits: int
    group_size: int
    # What the stored zero lacks to the zero that is meant.
    zero_offset: int = 0

    @property
    def precision(self) -> str:
        """A name for people, such as "awq-int4 g128"."""
        group = f" g{self.group_size}" if self.group_size > 0 else ""
        return f"{self.method}-int{self.bits}{group}"


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """The integers of one linear layer: [out, in], zeros [out, groups], scales [out, groups] in float32."""

    integers: Integers
    zeros: Integers
    scales: FloatArray
    bits: int

    def dense(self) -> FloatArray:
        """The float32 weight [out, in] that the integers stand for."""
        rows, groups = self.scales.shape
        grouped = self.integers.reshape(rows, groups, -1).astype(np.float32)
        grouped -= self.zeros[:, :, None]
        grouped *= self.scales[:, :, None]
        return grouped.reshape(rows, -1)


def read_quantization(config: dict[str, Any]) -> Quantization | None:
    """The quantization of a config.json, or None for a float model. Raises UnsupportedError naming the key."""
    stated = config.get("quantization_config")
    if not stated:
        return None
    method = stated.get("quant_method")
    if method == "awq":
        return _read_awq(stated)
    if method == "gptq":
        return _read_gptq(stated)
    raise UnsupportedError(
        f"quant_method {method!r} has no form on the CPU; supported there: awq, gptq."
        " On a GPU vLLM reads more: use --target gpu"
    )


def unpack_weight(tensors: TensorFiles, prefix: str, quantization: Quantization) -> PackedWeight:
    """The integers of the linear layer `prefix`. Raises UnsupportedError when shapes or groups do not fit."""
    qweight, qzeros = tensors.read(f"{prefix}.qweight"), tensors.read(f"{prefix}.qzeros")
    scales = tensors.read(f"{prefix}.scales").astype(np.float32).T
    bits = quantization.bits
    if quantization.method == "awq":
        integers, zeros = _unpack_awq(qweight).T, _unpack_awq(qzeros).T
    else:
        integers, zeros = _unpack(qweight.T, bits), _unpack(qzeros, bits).T
        zeros = _shift_zeros(prefix, zeros, quantization)
        _check_order(tensors, prefix, integers.shape[1], quantization)
    weight = PackedWeight(
        np.ascontiguousarray(integers), np.ascontiguousarray(zeros), np.ascontiguousarray(scales), bits
    )
    size = quantization.group_size if quantization.group_size > 0 else integers.shape[1]
    groups, rest = divmod(integers.shape[1], size)
    expected = (integers.shape[0], groups)
    if rest or zeros.shape != expected or scales.shape != expected:
        raise UnsupportedError(
            f"{prefix}: weights {list(integers.shape)} in groups of {size} do not fit scales {list(scales.shape)}"
            f" and zeros {list(zeros.shape)}"
        )
    return weight


def _read_awq(stated: dict[str, Any]) -> Quantization:
    layout = str(stated.get("version") or stated.get("format") or stated.get("checkpoint_format") or "gemm")
    _refuse(layout.lower() != "gemm", f"AWQ layout {layout!r}; supported: gemm")
    _refuse(stated.get("zero_point") is False, "AWQ without zero_point")
    bits = stated.get("bits", stated.get("w_bit"))
    _refuse(bits != 4, f"AWQ with {bits} bits; supported: 4")
    return Quantization("awq", 4, _group_size(stated))


def _read_gptq(stated: dict[str, Any]) -> Quantization:
    bits: Any = stated.get("bits")
    _refuse(bits not in (4, 8), f"GPTQ with {bits} bits; supported: 4, 8")
    _refuse(bool(stated.get("desc_act", False)), "GPTQ with desc_act; quantize with desc_act = false")
    layout = stated.get("checkpoint_format") or stated.get("format") or "gptq"
    _refuse(layout not in ("gptq", "gptq_v2"), f"GPTQ format {layout!r}; supported: gptq, gptq_v2")
    return Quantization("gptq", int(bits), _group_size(stated), zero_offset=1 if layout == "gptq" else 0)


def _group_size(stated: dict[str, Any]) -> int:
    size: Any = stated.get("group_size", stated.get("q_group_size"))
    _refuse(size not in GROUP_SIZES, f"group_size {size}; supported: {', '.join(map(str, GROUP_SIZES))}")
    return int(size)


def _refuse(is_unsupported: bool, what: str) -> None:
    if is_unsupported:
        raise UnsupportedError(f"quantization_config: {what}")


def _unpack(packed: npt.NDArray[Any], bits: int) -> Integers:
    """int32 [rows, n] -> uint8 [rows, n * 32 / bits], lowest bits first."""
    octets = np.ascontiguousarray(packed, "<i4").view(np.uint8)
    if bits == 8:
        return octets
    halves = np.empty((octets.shape[0], octets.shape[1] * 2), np.uint8)
    halves[:, 0::2] = octets & 0xF
    halves[:, 1::2] = octets >> 4
    return halves


def _unpack_awq(packed: npt.NDArray[Any]) -> Integers:
    """int32 [rows, n] -> uint8 [rows, n * 8] in the order of the output channels."""
    stored = _unpack(packed, 4).reshape(packed.shape[0], -1, 8)
    ordered = np.empty_like(stored)
    ordered[:, :, _AWQ_ORDER] = stored
    return ordered.reshape(packed.shape[0], -1)


def _shift_zeros(prefix: str, stored: Integers, quantization: Quantization) -> Integers:
    largest = 2**quantization.bits - 1
    # 15 (255) stands for 16 to some readers and for 0 to others.
    if quantization.zero_offset and (stored == largest).any():
        raise UnsupportedError(
            f"{prefix}.qzeros stores a zero of {largest}, which checkpoint_format gptq leaves open;"
            f" quantize again with checkpoint_format gptq_v2"
        )
    return stored + np.uint8(quantization.zero_offset)


def _check_order(tensors: TensorFiles, prefix: str, columns: int, quantization: Quantization) -> None:
    """g_idx, where there is one, must count up group by group: another order needs its own kernel."""
    name = f"{prefix}.g_idx"
    if name not in tensors.entries:
        return
    size = quantization.group_size if quantization.group_size > 0 else columns
    if not np.array_equal(tensors.read(name), np.arange(columns) // size):
        raise UnsupportedError(f"{name} reorders the input channels (desc_act), which is not supported")
