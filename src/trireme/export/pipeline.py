"""From a recipe to a placed version: fetch, read, export, convert, compare, place."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trireme.artifacts.build import BuildOptions, Built, Notice, Outcome, build
from trireme.artifacts.encoder_engines import ENGINES
from trireme.artifacts.gate import Gate, Thresholds
from trireme.artifacts.inputs import Inputs, hash_folder, read_tools
from trireme.artifacts.kinds import ENCODER_KINDS
from trireme.artifacts.manifest import ENCODER_FILES, THRESHOLDS_FILE, TOKENIZER_FILE, Manifest, hash_file
from trireme.artifacts.recipe import Recipe, build_keys
from trireme.artifacts.version_place import VersionPlace
from trireme.checkpoints.source import SAFE_SUFFIXES, fetch_source
from trireme.encode.pooling_files import POOLING_FORMAT_VERSION
from trireme.errors import InvalidInputError, NotFoundError, UnsupportedError
from trireme.export.adapter import merged_source
from trireme.export.checkpoint import Checkpoint, apply_recipe, read_checkpoint
from trireme.export.parity import read_thresholds
from trireme.export.writers import WRITERS, Export

TOOLS = ("trireme", "torch", "transformers", "tokenizers", "onnx", "onnxruntime", "openvino", "nncf")
# Recipe keys that change the files; the others only change config.pbtxt.
BUILD_KEYS = build_keys("export_encoder")
# Of what a residual reranker's files compute: 2 leaves the prior to who asks.
RESIDUAL_VERSION = "2"
# The fp32 graph and the converted one stand side by side while a model is built.
SPACE_FACTOR = 2.2
# Of a checkpoint that is served in its own form: weights, what reads its answers, and layers behind pooling.
_PLACED = ("*.safetensors*", "answers.tensors", "modules.json", "*_Dense/*")
CALIBRATION = Path("defaults", "calibration.txt")


@dataclass(frozen=True, slots=True)
class Work:
    """What a build is about to make. `adapter` is a folder, `calibration` a text file, where there is one."""

    recipe: Recipe
    inputs: Inputs
    checkpoint: Checkpoint
    adapter: Path | None
    calibration: Path | None
    options: BuildOptions


def build_model(
    recipe: Recipe, options: BuildOptions, notice: Notice = lambda step: None
) -> Outcome[Manifest]:
    """Builds and places the model of `recipe`; returns its manifest and whether anything was built.

    Blocks for seconds to minutes; `notice` hears the name of each step. Nothing is built when the same
    inputs are already placed and whole, unless `options.force`. Raises UnsupportedError, ArtifactError,
    UnavailableError, InvalidInputError, and GateError past a threshold; then nothing is placed.
    """
    if not recipe.traits.is_encoder:
        raise InvalidInputError(
            f"{recipe.model} is of kind {recipe.kind!r}: this builds {', '.join(ENCODER_KINDS)};"
            " build/export_llm.py builds generators"
        )
    notice("fetch")
    folder = fetch_source(recipe, options.cache, options.project)
    notice("read")
    with merged_source(folder, options.cache) as merged:
        return _build_from(merged, recipe, options, notice)


def _build_from(folder: Path, recipe: Recipe, options: BuildOptions, notice: Notice) -> Outcome[Manifest]:
    """As build_model, from the checkpoint in `folder`."""
    adapter = _find_adapter(recipe, options.project)
    checkpoint = apply_recipe(read_checkpoint(folder, recipe.kind, adapter is not None), recipe)
    recipe = replace(recipe, engine=choose_engine(recipe, checkpoint))
    compares_here = not ENGINES[recipe.engine].compares_at_start
    if options.quality is not None and not compares_here:
        raise UnsupportedError(
            f"--quality runs what was built, and engine {recipe.engine} runs on a GPU alone; measure with engine"
            " onnx"
        )
    calibration = _find_calibration(recipe, options)
    inputs = collect_inputs(recipe, [path for path in (folder, adapter, calibration) if path is not None])
    work = Work(recipe, inputs, checkpoint, adapter, calibration, options)
    dataset = options.quality.resolve().name if options.quality is not None else ""
    return build(
        inputs,
        lambda stage: _make(work, stage, notice),
        Gate(recipe.model, read_thresholds(recipe) if compares_here else Thresholds({}, {})),
        VersionPlace(options.repository, recipe, _bytes_needed(checkpoint.transformer_dir), dataset),
        force=options.force,
        notice=notice,
    )


def choose_engine(recipe: Recipe, checkpoint: Checkpoint) -> str:
    """The recipe's engine; where it names none, what this machine and the model's sizes allow.

    Raises UnsupportedError for an engine that is named and cannot run the model.
    """
    engine = ENGINES[recipe.encoder_engine]
    if engine.compares_at_start:
        from trireme.export.vllm_files import check_vllm

        check_vllm(checkpoint, recipe.precision)
    if not engine.fallback:
        return engine.name
    from trireme.encode.packed.cpu_kernels import is_fast
    from trireme.export.packed import find_obstacle

    obstacle = find_obstacle(checkpoint)
    if recipe.engine and obstacle:
        raise UnsupportedError(
            f"engine {engine.name} cannot run {checkpoint.folder}: {obstacle}; use engine {engine.fallback}"
        )
    return engine.name if recipe.engine or (is_fast() and not obstacle) else engine.fallback


def collect_inputs(recipe: Recipe, paths: Sequence[Path]) -> Inputs:
    """What shapes the files: the recipe's build keys, the files and folders that are read, tool versions."""
    values = asdict(recipe)
    read = [hash_folder(path, SAFE_SUFFIXES) if path.is_dir() else hash_file(path) for path in paths]
    tools = read_tools(TOOLS) | ({"residual": RESIDUAL_VERSION} if recipe.adapter else {})
    if ENGINES[recipe.encoder_engine].compares_at_start:
        tools["pooling"] = str(POOLING_FORMAT_VERSION)
    # Builds of before there were templates or several outputs are told apart as they were.
    keys = [key for key in BUILD_KEYS if key not in ("template", "outputs") or values[key]]
    return Inputs({key: values[key] for key in keys}, {"files": read}, tools)


def _find_calibration(recipe: Recipe, options: BuildOptions) -> Path | None:
    """The text that static int8 is calibrated on; None for builds that need none."""
    if not ENGINES[recipe.encoder_engine].is_calibrated or recipe.precision != "int8":
        return None
    path = options.project / (recipe.calibration or CALIBRATION)
    if not path.is_file():
        raise NotFoundError(f"calibration text {path} does not exist; name one in the recipe")
    return path


def _find_adapter(recipe: Recipe, project: Path) -> Path | None:
    if not recipe.adapter:
        return None
    if not (project / recipe.adapter).is_dir():
        raise NotFoundError(
            f"adapter folder {project / recipe.adapter} does not exist; train it or change the recipe"
        )
    return project / recipe.adapter


def _bytes_needed(folder: Path) -> int:
    return int(SPACE_FACTOR * sum(path.stat().st_size for path in folder.glob("*.safetensors")))


def _make(work: Work, stage: Path, notice: Notice) -> Built[Manifest]:
    """Writes model and tokenizer into `stage`, and compares them with the original."""
    from trireme.export.measure import measure_parity, measure_quality, open_built

    recipe = work.recipe
    notice("load and compare with the library")
    checkpoint, graph = _load(work, stage)
    notice("export")
    thresholds = read_thresholds(recipe)
    bounds = {**thresholds.least, **thresholds.most}
    WRITERS[recipe.encoder_engine](
        Export(graph, checkpoint, recipe.precision, stage, work.calibration, notice, bounds)
    )
    if ENGINES[recipe.encoder_engine].compares_at_start:
        return Built({}, lambda: _describe(work, checkpoint, graph, stage))
    notice("compare")
    built = open_built(stage, recipe.encoder_engine, checkpoint.max_length)
    figures = measure_parity(graph, checkpoint, stage, built, recipe.encoder_engine)

    def describe() -> Manifest:
        manifest = replace(_describe(work, checkpoint, graph, stage), figures=figures)
        if work.options.quality is None:
            return manifest
        notice("quality")
        folder, queries = work.options.quality, work.options.quality_queries
        found = measure_quality(graph, checkpoint, stage, built, folder=folder, max_queries=queries)
        return replace(manifest, quality=found)

    return Built(figures, describe)


def _place_thresholds(work: Work, stage: Path) -> tuple[str, ...]:
    """The file of thresholds that an adapter brings for the recipe's engine, if it does: they were measured on one
    engine's scores and hold for no other's."""
    if work.adapter is None:
        return ()
    measured = work.adapter / f"thresholds.{work.recipe.encoder_engine}.json"
    if not measured.is_file():
        return ()
    shutil.copyfile(measured, stage / THRESHOLDS_FILE)
    return (THRESHOLDS_FILE,)


def _load(work: Work, stage: Path) -> tuple[Checkpoint, Any]:
    """The checkpoint as its tokenizer feeds it, and its module; its tokenizer is in `stage` then.

    Raises GateError where sentence-transformers or transformers read the checkpoint otherwise.
    """
    from trireme.export.graph import load_graph
    from trireme.export.oracle import check_reading
    from trireme.export.pair_prompt import with_pair_prompt
    from trireme.export.token_rules import make_rules
    from trireme.export.tokenizer_file import feed_segments, find_beyond, load_pretrained, write_tokenizer

    checkpoint, adapter = work.checkpoint, work.adapter
    tokenizer = load_pretrained(checkpoint)
    if adapter is None:
        checkpoint = with_pair_prompt(feed_segments(checkpoint, tokenizer), tokenizer)
    if checkpoint.outputs != ("dense",):
        checkpoint = replace(checkpoint, rules=make_rules(checkpoint, tokenizer))
    graph = load_graph(checkpoint, adapter)
    beyond = find_beyond(checkpoint, tokenizer, graph.vocabulary)
    write_tokenizer(checkpoint, stage / TOKENIZER_FILE, beyond)
    # No library knows the scores of a reranker with an adapter of ours.
    if adapter is None:
        check_reading(work.recipe, checkpoint, graph, stage / TOKENIZER_FILE)
    return checkpoint, graph


def _describe(work: Work, checkpoint: Checkpoint, graph: Any, stage: Path) -> Manifest:
    """The manifest of the files in `stage`, without figures."""
    recipe = work.recipe
    places = [path for pattern in _PLACED for path in stage.glob(pattern)]
    placed = sorted(path.relative_to(stage).as_posix() for path in places)
    # Each once, those that every model of the engine has first.
    names = dict.fromkeys((*ENCODER_FILES[recipe.encoder_engine], TOKENIZER_FILE, *placed))
    names |= dict.fromkeys(_place_thresholds(work, stage))
    return Manifest(
        model=recipe.model,
        kind=checkpoint.kind,
        source=recipe.source or recipe.package,
        revision=recipe.revision or recipe.package,
        precision=recipe.precision,
        dimensions=graph.dimensions,
        max_length=checkpoint.max_length,
        files={name: hash_file(stage / name) for name in names},
        sizes={name: (stage / name).stat().st_size for name in names},
        pooling=checkpoint.pooling,
        normalize=checkpoint.normalize,
        similarity=checkpoint.similarity.replace("cosine", ""),
        # A reranker's is part of its template.
        query_prompt="" if checkpoint.template else checkpoint.query_prompt,
        passage_prompt=checkpoint.passage_prompt,
        labels=checkpoint.labels,
        activation=checkpoint.activation,
        engine=recipe.encoder_engine,
        needs_prior=graph.needs_prior,
        template=checkpoint.template,
        outputs=() if checkpoint.outputs == ("dense",) else checkpoint.outputs,
        token_rules=checkpoint.rules,
        tools=work.inputs.tools,
        inputs_digest=work.inputs.digest,
    )
