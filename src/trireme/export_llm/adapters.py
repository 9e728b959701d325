"""The LoRAs that a request may choose among: read, checked against the model, placed below its version.

They are not merged. What is merged at the build is the recipe's `adapter`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trireme.artifacts.manifest import ADAPTERS_FOLDER
from trireme.artifacts.recipe import Recipe
from trireme.checkpoints.config import refuse
from trireme.checkpoints.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS, LoraAdapter
from trireme.checkpoints.tensors import TensorFiles
from trireme.errors import UnsupportedError
from trireme.export_llm.architecture import Architecture, read_architecture
from trireme.export_llm.weights import EMBEDDING, HEAD, linear_shapes
from trireme.generate.adapter_marks import MOST_IDS

# The largest that vLLM 0.24 has kernels for; our own graph is as long as theirs.
MOST_RANK = 512
# A layer's weight where it is quantized: its shape is not the layer's.
_PACKED = (".qweight", ".weight_packed")
_FLOATS = ("F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_NEEDED = ("r", "lora_alpha", "target_modules")

Shape = tuple[int, int]


def open_adapters(recipe: Recipe, project: Path) -> dict[str, LoraAdapter]:
    """Those of the recipe's `adapters`, by name.

    Raises NotFoundError, or UnsupportedError for what is no plain LoRA, of another base, or of too large a rank.
    """
    found = {}
    for name, folder in recipe.adapter_folders.items():
        adapter = LoraAdapter(project / folder)
        # Without either, source is a folder, whose name may look like a hub id.
        adapter.check_base(recipe.source if recipe.package or recipe.revision else "", recipe.weights_sha256)
        if adapter.config.get("modules_to_save"):
            raise refuse(
                adapter.files[0],
                "modules_to_save",
                adapter.config["modules_to_save"],
                "layers that were trained whole are no LoRA: merge it with PEFT's merge_and_unload",
            )
        if not adapter.modules:
            raise UnsupportedError(
                f"{adapter.files[1]} has no update of any layer; train it or take {name!r} out"
            )
        if adapter.rank > MOST_RANK:
            raise UnsupportedError(f"{adapter.files[1]} is of rank {adapter.rank}; the most is {MOST_RANK}")
        found[name] = adapter
    return found


def check_for_vllm(adapters: Mapping[str, LoraAdapter], folder: Path, config: dict[str, Any]) -> None:
    """Raises UnsupportedError for an adapter that vLLM would refuse or compute otherwise than PEFT does.

    folder, config: of the checkpoint whose layers it must fit.
    """
    known = _layer_shapes(TensorFiles(folder), config)
    for adapter in adapters.values():
        adapter.check_modules(known)
        adapter.check_plain_names()
        path = adapter.files[0]
        if missing := next((key for key in _NEEDED if key not in adapter.config), None):
            raise UnsupportedError(f"{path} has no {missing!r}, which vLLM needs; save the adapter with PEFT")
        rank = adapter.config["r"]
        if type(rank) is not int or rank < 1:
            raise refuse(path, "r", rank, "vLLM needs the rank, a whole number of at least 1")
        if uneven := adapter.find_uneven():
            raise UnsupportedError(
                f"{path} scales {uneven!r} otherwise than lora_alpha and r say (alpha_pattern, rank_pattern), which"
                " vLLM does not read: merge it with PEFT's merge_and_unload, as a model of its own"
            )


def check_for_graph(adapters: Mapping[str, LoraAdapter], architecture: Architecture | None) -> None:
    """Raises UnsupportedError for an adapter that a graph of ours cannot have beside its layers.

    architecture: None where there is no graph of our own.
    """
    if not adapters:
        return
    if architecture is None:
        raise UnsupportedError(
            "adapters of a request go with graphs of our own (llama, mistral, qwen2, qwen3) on a CPU: merge each"
            " with the recipe's key adapter, as a model of its own, or take target gpu"
        )
    if (len(adapters) + 1) * architecture.vocabulary > MOST_IDS:
        most = MOST_IDS // architecture.vocabulary - 1
        raise UnsupportedError(
            f"adapters names {len(adapters)}; a graph with {architecture.vocabulary} tokens takes {most}"
        )
    shapes = linear_shapes(architecture)
    for adapter in adapters.values():
        if tables := adapter.modules & {HEAD, EMBEDDING}:
            raise UnsupportedError(
                f"{adapter.files[1]} changes {min(tables)!r}, which requests share on a CPU: merge it with the"
                " recipe's key adapter"
            )
        adapter.check_modules(shapes)


def place_adapters(adapters: Mapping[str, LoraAdapter], stage: Path) -> None:
    """Copies each adapter's two files below `stage`, under the names that PEFT and vLLM know."""
    for name, adapter in adapters.items():
        folder = stage / ADAPTERS_FOLDER / name
        folder.mkdir(parents=True)
        for path, target in zip(adapter.files, (ADAPTER_CONFIG, ADAPTER_WEIGHTS), strict=True):
            # A hub cache holds symbolic links to its files.
            shutil.copyfile(path.resolve(), folder / target)


def _layer_shapes(tensors: TensorFiles, config: dict[str, Any]) -> dict[str, Shape | None]:
    """[out, in] of each layer by name; None where the weights do not show it."""
    shapes: dict[str, Shape | None] = {}
    for name, entry in tensors.entries.items():
        if (end := next((end for end in _PACKED if name.endswith(end)), None)) is not None:
            shapes[name.removesuffix(end)] = None
        elif name.endswith(".weight") and len(entry.shape) == 2:
            # bitsandbytes packs bytes into a weight of the usual name.
            is_shown = entry.dtype in _FLOATS
            shapes[name.removesuffix(".weight")] = (entry.shape[0], entry.shape[1]) if is_shown else None
    try:
        stated = linear_shapes(read_architecture(config))
    except UnsupportedError:
        stated = {}
    return shapes | {name: stated[name] for name in shapes.keys() & stated.keys()}
