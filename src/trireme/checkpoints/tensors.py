"""Reads tensors of safetensors files one at a time, without the memory of a whole checkpoint.

The format: 8 bytes with the length of a JSON header (little endian), the header (name -> dtype, shape,
data_offsets), then the data. Read here and not with the safetensors package, because numpy has no bfloat16
and because a mapped file is paged in and out by the system.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.checkpoints.config import WEIGHTS_FILE
from trireme.errors import UnsupportedError

INDEX_FILE = f"{WEIGHTS_FILE}.index.json"
MAX_HEADER_BYTES = 100 << 20

# bfloat16 is the upper half of a float32: read as integers and shifted.
_DTYPES: dict[str, type[np.generic]] = {
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
}
_FLOATS = ("F32", "F16", "BF16")
# Bits of the types that are only placed, for vLLM to read.
_OTHER_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "U16": 16,
    "U32": 32,
    "U64": 64,
    "F64": 64,
}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where a tensor lies: `start` and `size` in bytes of the file. `dtype` as safetensors names it."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    @property
    def is_float(self) -> bool:
        """True for float32, float16 and bfloat16."""
        return self.dtype in _FLOATS


class TensorFiles:
    """The tensors of a checkpoint folder, or of its `files`, by name.

    Raises UnsupportedError naming a file that is not whole.
    """

    def __init__(self, folder: Path, files: Sequence[Path] | None = None) -> None:
        self.folder = folder
        self.entries: dict[str, TensorEntry] = {}
        for path in weight_files(folder) if files is None else files:
            for name, entry in _read_header(path).items():
                if name in self.entries:
                    raise UnsupportedError(
                        f"{path} holds {name!r}, which {self.entries[name].path.name} holds too"
                    )
                self.entries[name] = entry

    def entry(self, name: str) -> TensorEntry:
        """Raises UnsupportedError when the checkpoint has no such tensor."""
        if name not in self.entries:
            raise UnsupportedError(f"{self.folder} holds no tensor {name!r}")
        return self.entries[name]

    def read(self, name: str) -> npt.NDArray[Any]:
        """The tensor as the file has it, bfloat16 as float32; mapped from the file where that is possible.

        Raises UnsupportedError for a type that numpy does not have.
        """
        entry = self.entry(name)
        if entry.dtype not in _DTYPES:
            raise UnsupportedError(f"{name!r} is of type {entry.dtype}; read are {', '.join(_DTYPES)}")
        mapped = np.memmap(entry.path, _DTYPES[entry.dtype], "r", entry.start, entry.shape or (1,))
        values: npt.NDArray[Any] = np.asarray(mapped).reshape(entry.shape)
        if entry.dtype != "BF16":
            return values
        return (values.astype(np.uint32) << 16).view(np.float32)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: those of its index, or the one that has no index.

    Raises UnsupportedError for an index that names a missing file or one outside the folder.
    """
    index = folder / INDEX_FILE
    if not index.is_file():
        return [folder / WEIGHTS_FILE]
    names = set(_read_index(index).values())
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise UnsupportedError(f"{index} names {name!r}, which is not in {folder}")
    return [folder / name for name in sorted(names)]


def indexed_names(folder: Path) -> list[str]:
    """The tensors that the index names; none where there is no index. Raises UnsupportedError."""
    index = folder / INDEX_FILE
    return list(_read_index(index)) if index.is_file() else []


def _read_index(index: Path) -> dict[str, str]:
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise UnsupportedError(f"{index} holds no weight_map")
    return found


def _read_header(path: Path) -> dict[str, TensorEntry]:
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > MAX_HEADER_BYTES:
                raise ValueError("header too long")
            header = json.loads(stream.read(length))
        size = path.stat().st_size
        entries = {name: item for name, item in header.items() if name != "__metadata__"}
        return {name: _read_entry(path, item, 8 + length, size) for name, item in entries.items()}
    except FileNotFoundError:
        raise UnsupportedError(f"{path} is missing; the checkpoint's weights must be safetensors") from None
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnsupportedError(f"{path} is not a whole safetensors file: {error}") from None


def _read_entry(path: Path, item: dict[str, Any], base: int, file_size: int) -> TensorEntry:
    dtype, shape = item["dtype"], tuple(int(n) for n in item["shape"])
    start, end = item["data_offsets"]
    bits = np.dtype(_DTYPES[dtype]).itemsize * 8 if dtype in _DTYPES else _OTHER_BITS.get(dtype)
    if bits is None:
        raise ValueError(f"dtype {dtype} is not one of {', '.join((*_DTYPES, *_OTHER_BITS))}")
    if (
        start < 0
        or base + end > file_size
        or end - start != -(-bits * math.prod(shape) // 8)
        or min(shape, default=1) < 1
    ):
        raise ValueError(f"offsets {start} to {end} do not hold {dtype} {list(shape)}")
    return TensorEntry(path, dtype, shape, base + start, end - start)
