"""A graph by optimum-intel: the checkpoint made ready for it, its integers put back, compared."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trireme.artifacts.build import Notice
from trireme.artifacts.encoder_engines import GRAPH_FILE
from trireme.artifacts.manifest import TOKENIZER_FILE
from trireme.artifacts.recipe import Recipe
from trireme.checkpoints.lora import LoraAdapter
from trireme.export_llm.dense import check_layers, restore_integers, write_dense
from trireme.export_llm.optimum_process import Optimum
from trireme.export_llm.optimum_worker import GROUP_SIZE
from trireme.export_llm.parity import compare_logits, make_prompts
from trireme.export_llm.quantization import Quantization, read_quantization
from trireme.export_llm.serving_files import ServedGraph
from trireme.generate.openvino_properties import compile_properties

BITS = {"": 16, "int8": 8, "int4": 4}
_NAMES = {"": "fp16", "int8": "int8", "int4": f"int4 g{GROUP_SIZE}"}
_SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Exported:
    """A checkpoint folder whose graph `optimum` writes. `adapter`: what is merged into it. Lengths in tokens."""

    optimum: Optimum
    folder: Path
    config: dict[str, Any]
    max_model_len: int
    adapter: LoraAdapter | None = None


def write_exported(
    recipe: Recipe, source: Exported, stage: Path, notice: Notice
) -> tuple[str, dict[str, float]]:
    """Writes the graph into `stage`, where the tokenizer is; returns its precision and its figures.

    They compare it with transformers in float32. Blocks. Raises UnsupportedError for what
    optimum-intel has no form for, UnavailableError when it dies.
    """
    quantization = read_quantization(source.config)
    check_layers(source.folder)
    scratch = stage / _SCRATCH
    scratch.mkdir()
    folder = source.folder
    if quantization is not None or source.adapter is not None:
        notice("unpack" if quantization else "merge")
        folder = scratch / "dense"
        folder.mkdir()
        write_dense(source.folder, folder, quantization, source.adapter)
    prompts = make_prompts(stage, source.max_model_len)
    source.optimum.export(
        folder, scratch, BITS[recipe.precision], prompts, lambda step: notice(f"export, {step}")
    )
    if quantization is None:
        for path in (scratch / GRAPH_FILE, (scratch / GRAPH_FILE).with_suffix(".bin")):
            path.rename(stage / path.name)
    else:
        _put_integers_back(scratch, source.folder, quantization, stage)
    notice("compare")
    served = ServedGraph(stage / GRAPH_FILE, compile_properties(recipe.threads), max(map(len, prompts)))
    before = [np.load(scratch / f"before_{number}.npy") for number in range(len(prompts))]
    figures = dict(compare_logits(before, [served.logits(prompt) for prompt in prompts]))
    shutil.rmtree(scratch)
    return quantization.precision if quantization else _NAMES[recipe.precision], figures


def drop_unknown_tokens(stage: Path, size: int) -> None:
    """Takes added tokens without a row in the model's table out of the placed tokenizer: their text is text then.

    A text model beside others, such as Gemma 3's, has the token of an image and no row for it.
    """
    path = stage / TOKENIZER_FILE
    document = json.loads(path.read_text(encoding="utf-8"))
    added = document.get("added_tokens") or []
    kept = [token for token in added if int(token["id"]) < size]
    if len(kept) < len(added):
        path.write_text(json.dumps({**document, "added_tokens": kept}, ensure_ascii=False), encoding="utf-8")


def _put_integers_back(scratch: Path, folder: Path, quantization: Quantization, stage: Path) -> None:
    import openvino

    from trireme.export_llm.constants import ConstantStore

    store = ConstantStore(scratch / "constants.tmp")
    try:
        model = openvino.Core().read_model(scratch / GRAPH_FILE)
        restore_integers(model, folder, quantization, store)
        openvino.save_model(model, stage / GRAPH_FILE, compress_to_fp16=False)
        del model
    finally:
        store.close()
