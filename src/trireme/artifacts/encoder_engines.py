"""The engines that run encoders, one row each: what they run, where, and from which files.

encode.engines.table says how a row's files are opened, export.writers how they are written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trireme.errors import SettingError

MODEL_FILE = "model.onnx"
GRAPH_FILE = "openvino_model.xml"
GRAPH_WEIGHTS_FILE = "openvino_model.bin"
PACKED_FILES = ("model.safetensors", "packed.json")
# Beside the weights, in as many files as the checkpoint has.
POOLING_FILES = ("config.json", "pooling.json", "probe.tensors")
# What a model is compared by when it starts, made on the machine of the build: it answers the same without.
COMPARED_FILES = ("probe.tensors",)

_PROCESSORS = {"cpu": "CPUs", "gpu": "GPUs"}


@dataclass(frozen=True, slots=True)
class EncoderEngine:
    """One engine. `files` is what it loads from a version folder, the tokenizer aside.

    `is_default`: the first such row that runs precision and target is taken where a recipe names no engine.
    `fallback`: the engine that a build takes instead, on a machine or for a model that this one does not fit.
    """

    name: str
    targets: tuple[str, ...]
    precisions: tuple[str, ...]
    files: tuple[str, ...]
    # Rerankers with an adapter of ours.
    runs_adapters: bool = True
    # Its int8 is static: ranges are measured on a text while it is built.
    is_calibrated: bool = False
    is_default: bool = False
    fallback: str = ""
    # Runs on a GPU alone: its vectors are compared with the original's when it starts there, not when it is built.
    compares_at_start: bool = False


# In the order in which messages name them.
ENGINES = {
    engine.name: engine
    for engine in (
        EncoderEngine(
            "vnni",
            targets=("cpu",),
            precisions=("int8",),
            files=PACKED_FILES,
            is_default=True,
            fallback="openvino",
        ),
        EncoderEngine(
            "openvino",
            targets=("cpu",),
            precisions=("fp32", "fp16", "int8"),
            files=(GRAPH_FILE, GRAPH_WEIGHTS_FILE),
            is_calibrated=True,
        ),
        EncoderEngine(
            "torch",
            targets=("cpu", "gpu"),
            precisions=("fp32", "fp16", "bf16"),
            files=PACKED_FILES,
            runs_adapters=False,
        ),
        EncoderEngine(
            "vllm",
            targets=("gpu",),
            precisions=("fp16", "bf16"),
            files=POOLING_FILES,
            runs_adapters=False,
            compares_at_start=True,
        ),
        EncoderEngine(
            "onnx",
            targets=("cpu", "gpu"),
            precisions=("fp32", "fp16", "int8"),
            files=(MODEL_FILE,),
            is_default=True,
        ),
    )
}


def default_engine(target: str, precision: str) -> str:
    """The name of the engine for a recipe that names none; where no default runs both, the last default."""
    defaults = [engine for engine in ENGINES.values() if engine.is_default]
    fitting = [one for one in defaults if target in one.targets and precision in one.precisions]
    return [*fitting, defaults[-1]][0].name


def describe_engines() -> str:
    """Every engine, and which is taken by default: the help of an argument."""
    *narrow, last = [engine for engine in ENGINES.values() if engine.is_default]
    taken = "".join(
        f"{one.name} for {_list(one.precisions, 'and')} on {_list(one.targets, 'and')}, else "
        for one in narrow
    )
    return f"{_list(ENGINES, 'or')}; default: {taken}{last.name}"


def check_engine(name: str, *, target: str, precision: str, has_adapter: bool) -> None:
    """Raises SettingError, naming the engines that do, unless the engine runs such a model on the target."""
    if name not in ENGINES:
        raise SettingError(f"engine must be one of {', '.join(sorted(ENGINES))}, got {name!r}")
    engine = ENGINES[name]
    on_target = [one for one in ENGINES.values() if target in one.targets]
    if engine not in on_target:
        runs = _list([_PROCESSORS[one] for one in engine.targets], "and")
        raise SettingError(f"engine {name} runs on {runs}; for target {target} use {_names(on_target)}")
    able = [one for one in on_target if precision in one.precisions]
    if engine not in able and len(able) == 1:
        raise SettingError(f"precision {precision} needs engine {able[0].name}, not {name}")
    if engine not in able:
        runs = _list(engine.precisions, "and")
        raise SettingError(f"engine {name} runs {runs}; for {precision} use {_names(able)}")
    if has_adapter and not engine.runs_adapters:
        merging = _names([one for one in on_target if one.runs_adapters])
        raise SettingError(f"engine {name} runs no reranker with an adapter; use {merging}")


def _names(engines: Iterable[EncoderEngine]) -> str:
    return _list([engine.name for engine in engines], "or")


def _list(words: Iterable[str], joint: str) -> str:
    *first, last = words
    return f"{', '.join(first)} {joint} {last}" if first else last
