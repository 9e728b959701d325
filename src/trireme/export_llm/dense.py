"""AWQ and GPTQ checkpoints of any family: as floats for a library that reads only those, and back in its graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.checkpoints.config import CONFIG_FILE, read_json
from trireme.checkpoints.lora import LoraAdapter
from trireme.checkpoints.tensors import INDEX_FILE, TensorFiles
from trireme.errors import UnsupportedError
from trireme.export_llm.constants import ConstantStore
from trireme.export_llm.quantization import Quantization, unpack_weight

_PACKED = ".qweight"
_PARTS = ("qweight", "qzeros", "scales", "g_idx")
# What OpenVINO adds to a constant's name where it stores it in float16.
_HALVED = "_compressed"
SHARD_BYTES = 1 << 30


def packed_layers(tensors: TensorFiles) -> list[str]:
    """The layers that are stored as integers, sorted."""
    return sorted(name.removesuffix(_PACKED) for name in tensors.entries if name.endswith(_PACKED))


def check_layers(source: Path) -> None:
    """Raises UnsupportedError for experts in integers: in the graph all of a layer are one matrix."""
    if found := next((one for one in packed_layers(TensorFiles(source)) if ".experts." in one), None):
        raise _no_matrix(found)


def write_dense(
    source: Path, target: Path, quantization: Quantization | None, adapter: LoraAdapter | None = None
) -> None:
    """Writes weights and config.json of the checkpoint in `source` into the folder `target`.

    Integers become the float32 numbers that they stand for; the updates of `adapter` are added.
    Raises UnsupportedError for what does not fit.
    """
    tensors = TensorFiles(source)
    packed = packed_layers(tensors)
    parts = {f"{layer}.{part}" for layer in packed for part in _PARTS}
    floats = [name for name in tensors.entries if name not in parts]
    if adapter is not None:
        _check_adapter(adapter, tensors, floats)
    shards = _Shards(target)
    for name in sorted([*floats, *(f"{layer}.weight" for layer in packed)]):
        layer = name.removesuffix(".weight")
        if quantization is not None and f"{layer}{_PACKED}" in parts:
            values = unpack_weight(tensors, layer, quantization).dense()
        else:
            values = np.ascontiguousarray(tensors.read(name))
        if adapter is not None and layer in adapter.modules:
            values = values.astype(np.float32) + adapter.update(layer)
        shards.add(name, values)
    shards.close()
    config = read_json(source / CONFIG_FILE)
    config.pop("quantization_config", None)
    (target / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")


def restore_integers(model: Any, source: Path, quantization: Quantization, store: ConstantStore) -> None:
    """Puts the integers of the checkpoint in `source` in the place of their floats in an OpenVINO model.

    Raises UnsupportedError for a layer that the model does not have as a matrix of its own.
    """
    tensors = TensorFiles(source)
    found = {
        op.get_friendly_name().removesuffix(_HALVED): op
        for op in model.get_ordered_ops()
        if op.get_type_name() == "Constant"
    }
    for layer in packed_layers(tensors):
        weight = unpack_weight(tensors, layer, quantization)
        constant = found.get(f"self.{layer}.weight")
        if constant is None or list(constant.get_output_shape(0)) != list(weight.integers.shape):
            raise _no_matrix(layer)
        # A float16 constant stands before a conversion to float32, which is what the others read.
        reader = next(iter(constant.output(0).get_target_inputs())).get_node()
        place = reader if reader.get_type_name() == "Convert" else constant
        place.output(0).replace(store.packed_weight(weight).output(0))


def _no_matrix(layer: str) -> UnsupportedError:
    return UnsupportedError(
        f"{layer} is quantized, and in optimum-intel's graph it is no matrix of its own, as the experts of a"
        " mixture share one: take a float checkpoint and precision = 'int4'"
    )


class _Shards:
    """Files of safetensors in `folder`, each of about SHARD_BYTES, and their index."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, str] = {}
        self._held: dict[str, npt.NDArray[Any]] = {}
        self._count = 0

    def add(self, name: str, values: npt.NDArray[Any]) -> None:
        self._held[name] = values
        if sum(one.nbytes for one in self._held.values()) > SHARD_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        index = json.dumps({"metadata": {}, "weight_map": self._places})
        (self._folder / INDEX_FILE).write_text(index, encoding="utf-8")

    def _flush(self) -> None:
        from safetensors.numpy import save_file

        if not self._held:
            return
        self._count += 1
        file = f"model-{self._count:05}.safetensors"
        save_file(self._held, self._folder / file, {"format": "pt"})
        self._places.update(dict.fromkeys(self._held, file))
        self._held = {}


def _check_adapter(adapter: LoraAdapter, tensors: TensorFiles, floats: list[str]) -> None:
    """Raises UnsupportedError unless each update has a float matrix of its shape."""
    if packed := sorted(one for one in adapter.modules if f"{one}{_PACKED}" in tensors.entries):
        raise UnsupportedError(f"{packed[0]} is quantized: an adapter is merged into float weights alone")
    shapes = {name.removesuffix(".weight"): tensors.entry(name).shape for name in floats}
    adapter.check_modules({name: (shape[0], shape[1]) for name, shape in shapes.items() if len(shape) == 2})
