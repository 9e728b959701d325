"""A checkpoint for vLLM: checked, and placed as it is, file by file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from trireme.errors import UnsupportedError
from trireme.export.source import SAFE_SUFFIXES
from trireme.export_llm.quantization import GPU_METHODS
from trireme.export_llm.tensor_files import TensorFiles, weight_files
from trireme.export_llm.weights import EMBEDDING

_FLOAT_NAMES = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}


def check_for_gpu(folder: Path, config: dict[str, Any]) -> None:
    """Raises UnsupportedError for a quantization that is not supported, and for files that are not whole."""
    stated = config.get("quantization_config")
    if stated and stated.get("quant_method") not in GPU_METHODS:
        raise UnsupportedError(
            f"quant_method {stated.get('quant_method')!r} is not supported; supported: {', '.join(GPU_METHODS)}"
        )
    TensorFiles(folder).entry(f"{EMBEDDING}.weight")


def name_gpu_precision(folder: Path, config: dict[str, Any]) -> str:
    """A name for people, such as "bf16", "gptq-int4 g128" or "bnb-nf4"."""
    stated = config.get("quantization_config")
    if not stated:
        return _FLOAT_NAMES.get(TensorFiles(folder).entry(f"{EMBEDDING}.weight").dtype, "float")
    if stated["quant_method"] == "bitsandbytes":
        is_int8 = bool(stated.get("load_in_8bit"))
        return "bnb-int8" if is_int8 else f"bnb-{stated.get('bnb_4bit_quant_type', 'fp4')}"
    size = stated.get("group_size", -1)
    group = f" g{size}" if isinstance(size, int) and size > 0 else ""
    return f"{stated['quant_method']}-int{stated.get('bits', 4)}{group}"


def link_checkpoint(folder: Path, target: Path) -> None:
    """Hard links of the checkpoint's files in the existing folder `target`; copies where the disk is another.

    Left out are pickles, subfolders, and safetensors that the index does not name.
    """
    weights = {path.name for path in weight_files(folder)}
    for path in sorted(folder.iterdir()):
        is_unused = path.suffix == ".safetensors" and path.name not in weights
        if path.suffix not in SAFE_SUFFIXES or is_unused or not path.is_file():
            continue
        # A hub cache holds symbolic links to its files.
        origin = path.resolve()
        try:
            os.link(origin, target / path.name)
        except OSError:
            shutil.copyfile(origin, target / path.name)
