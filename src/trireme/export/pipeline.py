"""From a recipe to a placed version: fetch, read, export, convert, compare, place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trireme.artifacts.config_writer import place_config
from trireme.artifacts.encoder_engines import ENGINES
from trireme.artifacts.inputs import find_same, hash_folder, read_tools
from trireme.artifacts.kinds import ENCODER_KINDS
from trireme.artifacts.manifest import (
    ENCODER_FILES,
    TOKENIZER_FILE,
    Manifest,
    hash_file,
    hash_json,
    write_manifest,
)
from trireme.artifacts.placing import VERSION, stage_version
from trireme.artifacts.recipe import Recipe, build_keys
from trireme.checkpoints.source import SAFE_SUFFIXES, fetch_source
from trireme.errors import InvalidInputError, NotFoundError, UnsupportedError
from trireme.export.adapter import merged_source
from trireme.export.checkpoint import Checkpoint, apply_recipe, read_checkpoint
from trireme.export.writers import WRITERS, Export

TOOLS = ("trireme", "torch", "transformers", "tokenizers", "onnx", "onnxruntime", "openvino", "nncf")
# Recipe keys that change the files; the others only change config.pbtxt.
BUILD_KEYS = build_keys("export_encoder")
# Of what a residual reranker's files compute: 2 leaves the prior to who asks.
RESIDUAL_VERSION = "2"
# The fp32 graph and the converted one stand side by side while a model is built.
SPACE_FACTOR = 2.2
CALIBRATION = Path("defaults", "calibration.txt")

Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Where a build reads and writes. `quality` is a BEIR folder, or None for no quality run."""

    repository: Path = Path("model_repository")
    cache: Path = Path(".trireme/sources")
    project: Path = Path()
    quality: Path | None = None
    quality_queries: int = 200
    force: bool = False


def build_model(
    recipe: Recipe, options: BuildOptions, notice: Notice = lambda step: None
) -> tuple[Manifest, bool]:
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


def _build_from(folder: Path, recipe: Recipe, options: BuildOptions, notice: Notice) -> tuple[Manifest, bool]:
    """As build_model, from the checkpoint in `folder`."""
    model_dir = options.repository / recipe.model
    adapter = _find_adapter(recipe, options.project)
    tools = read_tools(TOOLS)
    if adapter is not None:
        tools |= {"residual": RESIDUAL_VERSION}
    checkpoint = apply_recipe(read_checkpoint(folder, recipe.kind, adapter is not None), recipe)
    recipe = replace(recipe, engine=choose_engine(recipe, checkpoint))
    digest = digest_inputs(
        recipe, [folder, *filter(None, [adapter, _find_calibration(recipe, options)])], tools
    )
    present = None if options.force else _find_present(model_dir / VERSION, digest, options)
    if present is not None:
        place_config(model_dir, recipe)
        return present, False
    with stage_version(model_dir, _bytes_needed(checkpoint.transformer_dir)) as stage:
        made = _make_files(recipe, checkpoint, adapter, stage, options=options, notice=notice)
        manifest = replace(made, tools=tools, inputs_digest=digest)
        write_manifest(stage, manifest)
        notice("place")
    place_config(model_dir, recipe)
    return manifest, True


def choose_engine(recipe: Recipe, checkpoint: Checkpoint) -> str:
    """The recipe's engine; where it names none, what this machine and the model's sizes allow.

    Raises UnsupportedError for an engine that is named and cannot run the model.
    """
    engine = ENGINES[recipe.encoder_engine]
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


def digest_inputs(recipe: Recipe, inputs: Sequence[Path], tools: dict[str, str]) -> str:
    """sha256 over what shapes the files: the recipe's build keys, files and folders read, tool versions."""
    values = asdict(recipe)
    return hash_json(
        {
            "recipe": {key: values[key] for key in BUILD_KEYS},
            "files": [
                hash_folder(path, SAFE_SUFFIXES) if path.is_dir() else hash_file(path) for path in inputs
            ],
            "tools": tools,
        }
    )


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


def _find_present(version_dir: Path, digest: str, options: BuildOptions) -> Manifest | None:
    """The placed manifest when it is of the same inputs, whole, and has the quality run asked for."""
    manifest = find_same(version_dir, digest)
    if manifest is None or options.quality is None or options.quality.resolve().name in manifest.quality:
        return manifest
    return None


def _bytes_needed(folder: Path) -> int:
    return int(SPACE_FACTOR * sum(path.stat().st_size for path in folder.glob("*.safetensors")))


def _make_files(
    recipe: Recipe,
    checkpoint: Checkpoint,
    adapter: Path | None,
    stage: Path,
    *,
    options: BuildOptions,
    notice: Notice,
) -> Manifest:
    """Writes model and tokenizer into `stage`, and lets the gate judge them."""
    from trireme.export.measure import measure_parity, measure_quality, open_built
    from trireme.export.parity import check_gate, read_thresholds

    notice("load and compare with the library")
    checkpoint, graph = _load(recipe, checkpoint, adapter, stage)
    notice("export")
    calibration = _find_calibration(recipe, options)
    WRITERS[recipe.encoder_engine](Export(graph, checkpoint, recipe.precision, stage, calibration, notice))
    notice("compare")
    built = open_built(stage, recipe.encoder_engine, checkpoint.max_length)
    figures = measure_parity(graph, checkpoint, stage, built)
    check_gate(recipe.model, figures, read_thresholds(recipe))
    quality: dict[str, Any] = {}
    if options.quality is not None:
        notice("quality")
        folder, queries = options.quality, options.quality_queries
        quality = measure_quality(graph, checkpoint, stage, built, folder=folder, max_queries=queries)
    return replace(_describe(recipe, checkpoint, graph, stage), figures=figures, quality=quality)


def _load(
    recipe: Recipe, checkpoint: Checkpoint, adapter: Path | None, stage: Path
) -> tuple[Checkpoint, Any]:
    """The checkpoint as its tokenizer feeds it, and its module; its tokenizer is in `stage` then.

    Raises GateError where sentence-transformers or transformers read the checkpoint otherwise.
    """
    from trireme.export.graph import load_graph
    from trireme.export.oracle import check_reading
    from trireme.export.tokenizer_file import feed_segments, find_beyond, load_pretrained, write_tokenizer

    tokenizer = load_pretrained(checkpoint)
    if adapter is None:
        checkpoint = feed_segments(checkpoint, tokenizer)
    graph = load_graph(checkpoint, adapter)
    beyond = find_beyond(checkpoint, tokenizer, graph.vocabulary)
    write_tokenizer(checkpoint, stage / TOKENIZER_FILE, beyond)
    # No library knows the scores of a reranker with an adapter of ours.
    if adapter is None:
        check_reading(recipe, checkpoint, graph, stage / TOKENIZER_FILE)
    return checkpoint, graph


def _describe(recipe: Recipe, checkpoint: Checkpoint, graph: Any, stage: Path) -> Manifest:
    """The manifest of the files in `stage`, without figures."""
    names = (*ENCODER_FILES[recipe.encoder_engine], TOKENIZER_FILE)
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
        query_prompt=checkpoint.query_prompt,
        passage_prompt=checkpoint.passage_prompt,
        labels=checkpoint.labels,
        activation=checkpoint.activation,
        engine=recipe.encoder_engine,
        needs_prior=graph.needs_prior,
    )
