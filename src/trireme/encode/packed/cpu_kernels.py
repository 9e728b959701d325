"""The int8 kernels of encode/kernels, which the package's build compiles, behind ctypes. One thread a call."""

from __future__ import annotations

import ctypes
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.encode.packed.config import PackedConfig
from trireme.errors import ArtifactError, UnavailableError
from trireme.types import FloatArray

FOLDER = Path(__file__).parents[1] / "kernels"
# For AVX-512 VNNI, and for any processor.
FAST, PLAIN = "vnni.so", "plain.so"
# Columns and bytes of a panel of weights, and what the sizes of a model must be multiples of.
COLUMNS, GROUP = 32, 4
ALIGNMENT = 64
TABLES = ("word", "position", "segment")

Ints = npt.NDArray[np.int32]


def is_fast(folder: Path = FOLDER) -> bool:
    """True where the kernels are compiled and this processor has AVX-512 VNNI."""
    return _exists(folder) and bool(_load(folder / PLAIN).trireme_has_vnni())


def open_kernels(folder: Path = FOLDER) -> ctypes.CDLL:
    """The build for this processor; warns where it is the slow one. Raises UnavailableError where there is none."""
    if not _exists(folder):
        raise UnavailableError(
            "engine vnni is not compiled: install a C++ compiler (g++) and then trireme again,"
            " or build the model with engine openvino"
        )
    if is_fast(folder):
        return _load(folder / FAST)
    warnings.warn(
        "this processor has no AVX-512 VNNI, without which engine vnni is slow; build with engine openvino",
        stacklevel=2,
    )
    return _load(folder / PLAIN)


def _exists(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (FAST, PLAIN))


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.trireme_has_vnni.restype = ctypes.c_int
    library.trireme_memory.argtypes, library.trireme_memory.restype = [pointer, number, number], number
    library.trireme_embed.argtypes = [pointer, pointer, pointer, pointer, number, pointer]
    library.trireme_embed.restype = None
    library.trireme_run.argtypes = [pointer, number, number, pointer, number, number, pointer, pointer]
    library.trireme_run.restype = None
    return library


class _Linear(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("weight", "scale", "sum", "bias")),
        *((name, ctypes.c_int64) for name in ("inputs", "outputs")),
    ]


class _Norm(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("weight", "bias")]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _Linear) for name in ("qkv", "out", "up", "down")),
        *((name, _Norm) for name in ("attention_norm", "output_norm")),
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("layers", "word", "position", "segment")),
        ("norm", _Norm),
        *((name, ctypes.c_int64) for name in ("hidden", "inner", "heads", "is_relu")),
        ("epsilon", ctypes.c_float),
    ]


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Rows one behind the other, int32: ids and types [T], offsets [rows + 1]. `longest` is in tokens."""

    ids: Ints
    types: Ints
    offsets: Ints
    longest: int


class VnniEncoder:
    """The encoder's layers on the kernels. Thread-safe: each run takes memory of its own, kept for the next."""

    def __init__(
        self, library: ctypes.CDLL, config: PackedConfig, weights: Mapping[str, npt.NDArray[Any]]
    ) -> None:
        """`weights`: named as in packed.config, in int8. Raises ArtifactError for one that is missing or misfit."""
        self._library = library
        self.layers = config.layers
        self._arena = _Arena(weights)
        self.vocabulary, self.positions, self.segments = (
            len(self._arena.get(f"embeddings.{name}")) for name in TABLES
        )
        self.hidden = hidden = self._arena.get("embeddings.norm.weight").size
        inner = self._arena.get("layers.0.up.weight").shape[0]
        if unfit := find_misfit(hidden, inner, config.heads):
            raise ArtifactError(f"engine vnni cannot run this model: {unfit}; build it with another engine")
        sizes = {
            "qkv": (3 * hidden, hidden),
            "out": (hidden, hidden),
            "up": (inner, hidden),
            "down": (hidden, inner),
        }
        self._layers = (_Layer * config.layers)(
            *(self._take_layer(f"layers.{number}", sizes) for number in range(config.layers))
        )
        self._model = _Model(
            ctypes.addressof(self._layers),
            *(self._take_table(f"embeddings.{name}") for name in TABLES),
            self._take_norm("embeddings.norm"),
            hidden,
            inner,
            config.heads,
            config.activation == "relu",
            config.norm_eps,
        )
        self._at = ctypes.addressof(self._model)
        self._arena.let_go()
        self._free: list[npt.NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def embed(self, rows: PackedRows) -> FloatArray:
        """States [T, H] before the first layer. The caller has checked ids, types and lengths."""
        count = len(rows.ids) * self.hidden
        hidden = _make_aligned(count * 4).view(np.float32).reshape(-1, self.hidden)
        self._library.trireme_embed(
            self._at,
            rows.ids.ctypes.data,
            rows.types.ctypes.data,
            rows.offsets.ctypes.data,
            len(rows.offsets) - 1,
            hidden.ctypes.data,
        )
        return hidden

    def run(self, hidden: FloatArray, rows: PackedRows, first: int, last: int) -> None:
        """Takes `hidden` [T, H], in place, through the layers from `first` to `last`, `last` left out."""
        memory = self._take_memory(self._library.trireme_memory(self._at, len(hidden), rows.longest))
        try:
            self._library.trireme_run(
                self._at,
                first,
                last,
                rows.offsets.ctypes.data,
                len(rows.offsets) - 1,
                rows.longest,
                memory.ctypes.data,
                hidden.ctypes.data,
            )
        finally:
            with self._lock:
                self._free.append(memory)

    def _take_memory(self, size: int) -> npt.NDArray[np.uint8]:
        with self._lock:
            memory = self._free.pop() if self._free else np.empty(0, np.uint8)
        return memory if len(memory) >= size else _make_aligned(size)

    def _take_table(self, name: str) -> int:
        entries = len(self._arena.get(name))
        return self._arena.table(name, (entries, self.hidden)).ctypes.data

    def _take_layer(self, name: str, sizes: Mapping[str, tuple[int, int]]) -> _Layer:
        return _Layer(
            *(self._take_linear(f"{name}.{part}", *size) for part, size in sizes.items()),
            *(self._take_norm(f"{name}.{part}") for part in ("attention_norm", "output_norm")),
        )

    def _take_linear(self, name: str, outputs: int, inputs: int) -> _Linear:
        weight, sums = self._arena.panels(f"{name}.weight", (outputs, inputs))
        scale, bias = (self._arena.table(f"{name}.{part}", (outputs,)) for part in ("scale", "bias"))
        return _Linear(*(part.ctypes.data for part in (weight, scale, sums, bias)), inputs, outputs)

    def _take_norm(self, name: str) -> _Norm:
        shape = (self.hidden,)
        return _Norm(*(self._arena.table(f"{name}.{part}", shape).ctypes.data for part in ("weight", "bias")))


def find_misfit(hidden: int, inner: int, heads: int) -> str:
    """What of a model's sizes the kernels cannot run; "" for nothing."""
    if hidden % heads:
        return f"its hidden size {hidden} is no multiple of its {heads} heads"
    sizes = {"hidden size": hidden, "inner size": inner, "size of a head": hidden // heads}
    return next(
        (f"its {name} {size} is no multiple of {COLUMNS}" for name, size in sizes.items() if size % COLUMNS),
        "",
    )


def _make_aligned(size: int) -> npt.NDArray[np.uint8]:
    """`size` bytes that begin where a cache line does: a register's load then reads one."""
    room = np.empty(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size]


class _Arena:
    """Weights as the kernels read them, and their owner: pointers into them are valid while it lives."""

    def __init__(self, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        self._weights = weights
        self._kept: list[npt.NDArray[Any]] = []
        # In one piece, which the system can then map by large pages.
        count = sum(array.size for array in weights.values() if array.dtype == np.int8)
        self._panels = _make_aligned(count).view(np.int8)
        self._used = 0

    def let_go(self) -> None:
        """Keeps what the kernels read, not what it was made of."""
        self._weights = {}

    def get(self, name: str) -> npt.NDArray[Any]:
        """The weight `name` as the file has it."""
        if name not in self._weights:
            raise ArtifactError(f"the weights hold no {name!r}; build the model again")
        return self._weights[name]

    def table(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        """The weight `name` in float32."""
        made: FloatArray = np.array(self._fitting(name, shape), np.float32, order="C")
        self._kept.append(made)
        return made

    def panels(self, name: str, shape: tuple[int, int]) -> tuple[npt.NDArray[np.int8], FloatArray]:
        """int8 [out, in] as [out / 32, in / 4, 32, 4], and the sum of each output's weights."""
        weight = self._fitting(name, shape)
        if weight.dtype != np.int8:
            raise ArtifactError(f"{name} is of {weight.dtype}, not int8; build the model again")
        outputs, inputs = shape
        part = self._panels[self._used : self._used + weight.size]
        self._used += weight.size
        panels = weight.reshape(outputs // COLUMNS, COLUMNS, inputs // GROUP, GROUP).transpose(0, 2, 1, 3)
        part.reshape(panels.shape)[...] = panels
        sums: FloatArray = weight.sum(1, dtype=np.int64).astype(np.float32)
        self._kept.append(sums)
        return part, sums

    def _fitting(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        # The kernels believe these sizes.
        if (found := self.get(name)).shape != shape:
            raise ArtifactError(f"{name} is {list(found.shape)}, not {list(shape)}; build the model again")
        return found
