"""Turns an ONNX graph in fp32 into int8 or fp16. Inputs and outputs stay as they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Gather is the embedding table: two fifths of a small model's bytes.
INT8_OPERATORS = ["MatMul", "Gemm", "Gather"]


def convert(source: Path, target: Path, precision: str) -> None:
    """Writes `source` (fp32) to `target` as `precision`: fp32, fp16 or int8. Blocks."""
    if precision == "fp32":
        source.rename(target)
    elif precision == "fp16":
        _convert_fp16(source, target)
    else:
        _quantize_int8(source, target)


def _quantize_int8(source: Path, target: Path) -> None:
    """Dynamic quantization per channel: weights uint8 now, activations uint8 while it runs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet_logging():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=INT8_OPERATORS,
            per_channel=True,
            # Signed weights saturate on CPUs without VNNI; unsigned ones are exact on both (decision 0001).
            weight_type=QuantType.QUInt8,
        )


def _convert_fp16(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with quiet_logging():
        model = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    onnx.save(model, target)


@contextmanager
def quiet_logging() -> Iterator[None]:
    """Holds back the libraries' advice below errors: the gates judge the result."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
