"""How the files of each encoder engine are written: one line each in WRITERS."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from trireme.artifacts.encoder_engines import MODEL_FILE
from trireme.errors import UnsupportedError
from trireme.export.checkpoint import Checkpoint

if TYPE_CHECKING:
    from trireme.export.graph import Graph


@dataclass(frozen=True, slots=True)
class Export:
    """A loaded module on its way to the files of an engine. `calibration` is a text file where int8 is static.

    `stage` is the folder for the files; it holds the tokenizer. `notice` hears the name of a step. `bounds`: the
    gate's, which an engine that is compared when it starts must then keep.
    """

    graph: Graph
    checkpoint: Checkpoint
    precision: str
    stage: Path
    calibration: Path | None
    notice: Callable[[str], None]
    bounds: Mapping[str, float] = field(default_factory=dict)


def _write_packed(export: Export) -> None:
    from trireme.export.packed import write_packed

    write_packed(export.graph, export.checkpoint, export.precision, export.stage)


def _write_onnx(export: Export) -> None:
    from trireme.export.precision import convert

    def act(source: Path) -> None:
        # Above 2 GB the weights lie in files beside the graph, which one file cannot hold.
        if len(list(source.parent.iterdir())) > 1:
            raise UnsupportedError(
                f"{export.checkpoint.folder} has more than 2 GB of weights in float32, the most that one ONNX file"
                " holds; use --engine openvino"
            )
        convert(source, export.stage / MODEL_FILE, export.precision)

    _convert(export, act)


def _write_openvino(export: Export) -> None:
    from trireme.export.openvino_graph import write_graph

    _convert(
        export,
        lambda source: write_graph(
            source, export.stage, export.checkpoint, export.precision, export.calibration
        ),
    )


def _write_vllm(export: Export) -> None:
    from trireme.export.vllm_files import write_vllm

    write_vllm(export.graph, export.checkpoint, export.precision, export.stage, export.bounds)


def _convert(export: Export, act: Callable[[Path], None]) -> None:
    """Calls `act` with the module as an ONNX graph in fp32, which is gone afterwards."""
    from trireme.export.graph import export_onnx

    work = export.stage / "work"
    work.mkdir()
    source = work / "fp32.onnx"
    export_onnx(export.graph, source)
    export.notice("convert" if export.calibration is None else "calibrate")
    act(source)
    shutil.rmtree(work)


WRITERS: dict[str, Callable[[Export], None]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torch": _write_packed,
    "vllm": _write_vllm,
    "vnni": _write_packed,
}
