"""A checkpoint for vLLM: checked, and placed as it is, file by file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trireme.checkpoints.source import SAFE_SUFFIXES, link_file
from trireme.checkpoints.tensors import TensorFiles, indexed_names, weight_files
from trireme.export_llm.gpu_config import (
    check_index,
    check_tensors,
    find_embeddings,
    name_method,
    read_gpu_quantization,
)

_FLOAT_NAMES = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}


def check_for_gpu(folder: Path, config: dict[str, Any]) -> None:
    """Raises UnsupportedError for a quantization that is not supported, and for a checkpoint that is not whole."""
    read_gpu_quantization(config)
    files = TensorFiles(folder)
    check_index(indexed_names(folder), files)
    check_tensors(files, config)


def name_gpu_precision(folder: Path, config: dict[str, Any]) -> str:
    """A name for people, such as "bf16", "gptq-int4 g128" or "fp8"."""
    stated = read_gpu_quantization(config)
    if stated is not None:
        return name_method(stated)
    table = find_embeddings(TensorFiles(folder))
    return _FLOAT_NAMES.get(table.dtype, "float") if table is not None else "float"


def link_checkpoint(folder: Path, target: Path) -> None:
    """Hard links of the checkpoint's files in the existing folder `target`; copies where the disk is another.

    Left out are pickles, subfolders, and safetensors that the index does not name.
    """
    weights = {path.name for path in weight_files(folder)}
    for path in sorted(folder.iterdir()):
        is_unused = path.suffix == ".safetensors" and path.name not in weights
        if path.suffix not in SAFE_SUFFIXES or is_unused or not path.is_file():
            continue
        link_file(path, target / path.name)
