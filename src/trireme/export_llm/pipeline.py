"""From a generator's recipe to a placed version: fetch, read, build or link, compare, place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trireme.artifacts.build import BuildOptions, Built, Notice, Outcome, build
from trireme.artifacts.encoder_engines import GRAPH_FILE
from trireme.artifacts.gate import Gate
from trireme.artifacts.inputs import Inputs, hash_folder, read_tools
from trireme.artifacts.manifest import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    Manifest,
    hash_file,
)
from trireme.artifacts.recipe import Recipe, build_keys
from trireme.artifacts.version_place import VersionPlace
from trireme.checkpoints.config import check_weights, read_config, refuse
from trireme.checkpoints.lora import LoraAdapter, adapter_files
from trireme.checkpoints.source import SAFE_SUFFIXES, fetch_source
from trireme.checkpoints.tensors import TensorFiles, weight_files
from trireme.errors import InvalidInputError, UnsupportedError
from trireme.export_llm.adapters import check_for_graph, check_for_vllm, open_adapters, place_adapters
from trireme.export_llm.architecture import (
    Architecture,
    NoOwnGraphError,
    read_architecture,
    read_size,
)
from trireme.export_llm.checkpoint_files import check_for_gpu, link_checkpoint, name_gpu_precision
from trireme.export_llm.gpu_config import GpuModel, find_embeddings, find_own_code, read_gpu_model
from trireme.export_llm.optimum_process import ADVICE, Optimum
from trireme.export_llm.parity import read_thresholds
from trireme.export_llm.quantization import Quantization, read_quantization
from trireme.export_llm.rounding import ROUNDINGS, Rounding
from trireme.generate.adapter_marks import mark_prompt
from trireme.generate.chat import TEMPLATE_FOLDER, ChatTemplate, named_template
from trireme.generate.model_files import read_eos_token_ids
from trireme.generate.tokenizer import LlmTokenizer

TOOLS = {"cpu": ("trireme", "numpy", "openvino", "tokenizers"), "gpu": ("trireme",)}
# Recipe keys that change the files; the others only change config.pbtxt.
BUILD_KEYS = build_keys("export_llm")
# Copied beside the graph; the tokenizer must be there.
TEXT_FILES = (
    CONFIG_FILE,
    "generation_config.json",
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
QUANTIZATION_FILE = "quantization.json"
QUANTIZATION_FIGURES = ("perplexity_ratio", "kl", "agreement")
# The graph's constants stand in a scratch file beside the graph that is written from them.
SPACE_FACTOR = 2.2
# optimum-intel writes all in float32 first; of 4-bit integers the floats are written, too.
EXPORT_SPACE_FACTOR = 4.0
SCRATCH_FILE = "constants.tmp"
# Their checkpoints name code that transformers and vLLM have a class of their own for, which computes the same.
NATIVE_FAMILIES = ("phi3", "phimoe")


@dataclass(frozen=True, slots=True)
class LlmSource:
    """A checkpoint folder, read and found supported. `architecture`: of our own graph, None where there is none.

    `adapter`: what is merged into it. `adapters`: those beside it, by name, of which a request may choose one.
    `optimum`: where there is no graph of our own, what exports one for the CPU.
    """

    folder: Path
    config: dict[str, Any]
    architecture: Architecture | None
    vocabulary: int
    max_model_len: int
    adapter: LoraAdapter | None = None
    optimum: Optimum | None = None
    adapters: dict[str, LoraAdapter] = field(default_factory=dict)


def build_llm(recipe: Recipe, options: BuildOptions, notice: Notice = lambda step: None) -> Outcome[Manifest]:
    """Builds and places the generator of `recipe`; returns its manifest and whether anything was built.

    Blocks for seconds to minutes; `notice` hears the name of each step. Nothing is built when the same
    inputs are already placed and whole, unless `options.force`. Raises UnsupportedError, ArtifactError,
    UnavailableError, InvalidInputError, and GateError past a threshold; then nothing is placed.
    """
    if not recipe.traits.is_generator:
        raise InvalidInputError(
            f"{recipe.model} is of kind {recipe.kind!r}: this builds generators;"
            " build/export_encoder.py builds encoders"
        )
    notice("fetch")
    folder = fetch_source(recipe, options.cache, options.project)
    notice("read")
    adapter = options.project / recipe.adapter if recipe.adapter else None
    source = read_source(folder, recipe, adapter, options.project)
    inputs = collect_inputs(recipe, folder, adapter, source.optimum, source.adapters)
    return build(
        inputs,
        lambda stage: _make(recipe, inputs, source, stage, notice),
        Gate(
            recipe.model, read_thresholds(recipe, is_quantized=bool(source.config.get("quantization_config")))
        ),
        VersionPlace(options.repository, recipe, _bytes_needed(source, recipe.target)),
        force=options.force,
        notice=notice,
    )


def collect_inputs(
    recipe: Recipe,
    folder: Path,
    adapter: Path | None = None,
    exporter: Optimum | None = None,
    adapters: Mapping[str, LoraAdapter] = MappingProxyType({}),
) -> Inputs:
    """What shapes the files: build keys of the recipe, files of checkpoint and adapters, versions of tools."""
    values = asdict(recipe)
    keys = {key: values[key] for key in BUILD_KEYS}
    read: dict[str, Any] = {"files": hash_folder(folder, SAFE_SUFFIXES)}
    if adapter is not None:
        # Not the whole folder: how it was trained, and its card, change no model.
        read["adapter"] = [hash_file(path) for path in adapter_files(adapter)]
    if adapters:
        # In their order, and not where they lie.
        read["adapters"] = [
            [name, *(hash_file(path) for path in one.files)] for name, one in adapters.items()
        ]
    tools = read_tools(TOOLS[recipe.target])
    return Inputs(keys, read, tools if exporter is None else {**tools, **exporter.read_versions()})


def read_source(
    folder: Path, recipe: Recipe, adapter: Path | None = None, project: Path = Path()
) -> LlmSource:
    """The checkpoint in `folder`, and the `adapter` on top of it; below `project` is what exports other families.

    Raises UnsupportedError, ArtifactError or NotFoundError naming the file or key in the way.
    """
    config = read_config(folder, find_own_code if recipe.target == "gpu" else _advise_on_code)
    check_weights(folder)
    limit = recipe.max_model_len
    if recipe.target == "gpu":
        table = find_embeddings(TensorFiles(folder))
        on_gpu = read_gpu_model(config, limit, None if table is None else table.shape[0])
        _check_tokens(folder, on_gpu.vocabulary, may_add=True)
        _check_text_files(folder)
        adapters = open_adapters(recipe, project)
        check_for_vllm(adapters, folder, config)
        length = limit or on_gpu.positions
        return LlmSource(folder, config, None, on_gpu.vocabulary, length, adapters=adapters)
    architecture, exporter = _find_form(config, limit, project)
    if recipe.precision and read_quantization(config) is not None:
        raise refuse(
            folder / CONFIG_FILE,
            "quantization_config",
            config["quantization_config"],
            f"its own integers are kept; take precision = {recipe.precision!r} out of the recipe",
        )
    model: Architecture | GpuModel = architecture or read_gpu_model(config, limit)
    _check_tokens(folder, model.vocabulary, may_add=exporter is not None)
    _check_text_files(folder)
    found = None if adapter is None else _read_adapter(adapter, recipe)
    length = limit or model.positions
    adapters = open_adapters(recipe, project)
    check_for_graph(adapters, architecture)
    return LlmSource(folder, config, architecture, model.vocabulary, length, found, exporter, adapters)


def _find_form(
    config: dict[str, Any], limit: int | None, project: Path
) -> tuple[Architecture | None, Optimum | None]:
    """The architecture of our own graph, or else what exports another one. Raises UnsupportedError."""
    exporter = Optimum(project)
    try:
        return read_architecture(config, limit), None
    except NoOwnGraphError as error:
        if not exporter.is_there():
            raise UnsupportedError(f"{error}{ADVICE}") from None
    if isinstance(config.get("text_config"), dict):
        raise UnsupportedError(
            f"model_type {config.get('model_type')!r} is a model around a text model (text_config), which has no"
            " graph for the CPU: take a checkpoint of the text model alone"
        )
    _check_cache_sizes(config)
    return None, exporter


def _check_cache_sizes(config: dict[str, Any]) -> None:
    """Raises UnsupportedError where config.json does not say how large the KV cache is."""
    for key in (
        "num_hidden_layers",
        "num_attention_heads",
        "head_dim" if config.get("head_dim") else "hidden_size",
    ):
        read_size(config, key)


def _advise_on_code(config: dict[str, Any]) -> str:
    """What to do about code that a config.json names; "" where there is a class for the model without it."""
    return "" if config.get("model_type") in NATIVE_FAMILIES else "take it out"


def _read_adapter(folder: Path, recipe: Recipe) -> LoraAdapter:
    adapter = LoraAdapter(folder)
    # Without either, source is a folder, whose name may look like a hub id.
    adapter.check_base(recipe.source if recipe.package or recipe.revision else "", recipe.weights_sha256)
    return adapter


def _check_tokens(folder: Path, size: int, *, may_add: bool) -> None:
    """Raises UnsupportedError where the tokenizer has tokens that the model has no row for.

    may_add: added tokens may be without one, as the image token of a text model is; vLLM refuses a prompt with it.
    """
    path = folder / TOKENIZER_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = document["model"]["vocab"]
        count = len(vocabulary)
        # Ids may have gaps; of a list they are the places.
        last = max(map(int, vocabulary.values()), default=-1) if isinstance(vocabulary, dict) else -1
        added = {str(token["content"]): int(token["id"]) for token in document.get("added_tokens") or ()}
    except FileNotFoundError:
        raise UnsupportedError(
            f"{path} is missing; save the tokenizer again with transformers, which writes it"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UnsupportedError(f"{path} is not a tokenizer with a vocabulary") from None
    if count > size:
        raise UnsupportedError(f"{path} knows {count} tokens, but the model only {size}")
    beyond = [text for text, number in added.items() if number >= size]
    if beyond and not may_add:
        raise UnsupportedError(
            f"{path} has the added token {beyond[0]!r} with id {added[beyond[0]]}, but the model only {size}"
            " tokens; resize its embeddings or take the token out"
        )
    if last >= size and not may_add:
        raise UnsupportedError(f"{path} has a token with id {last}, but the model only {size} tokens")


def _check_text_files(folder: Path) -> None:
    """What the server reads when it loads the model. Raises ArtifactError or UnsupportedError naming the file."""
    read_eos_token_ids(folder)
    ChatTemplate.load(folder, LlmTokenizer.load(folder))


def read_quantization_figures(folder: Path) -> dict[str, float]:
    """The gate figures that build/quantize_llm.py wrote beside the checkpoint, if it made it."""
    try:
        figures = json.loads((folder / QUANTIZATION_FILE).read_text(encoding="utf-8"))["figures"]
        return {f"quantized_{name}": float(figures[name]) for name in QUANTIZATION_FIGURES}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise UnsupportedError(
            f"{folder / QUANTIZATION_FILE} holds no figures; make the checkpoint again with build/quantize_llm.py"
        ) from None


def _make(recipe: Recipe, inputs: Inputs, source: LlmSource, stage: Path, notice: Notice) -> Built[Manifest]:
    """Writes the generator's files into `stage`; only a graph has figures to judge."""
    make = _make_exported if source.optimum else _make_graph if recipe.target == "cpu" else _make_links
    precision, figures = make(recipe, source, stage, notice)
    _copy_templates(source.folder, stage)
    kept = read_quantization_figures(source.folder)
    return Built(
        figures,
        lambda: replace(_describe(recipe, inputs, source, stage, precision), figures={**figures, **kept}),
    )


def _make_graph(
    recipe: Recipe, source: LlmSource, stage: Path, notice: Notice
) -> tuple[str, dict[str, float]]:
    """Writes the OpenVINO graph; returns its precision, and figures against the checkpoint."""
    import openvino

    from trireme.export_llm.constants import ConstantStore
    from trireme.export_llm.graph import build_graph
    from trireme.export_llm.parity import compare_logits, make_prompts
    from trireme.export_llm.reference import compute_logits
    from trireme.export_llm.serving_files import ServedGraph
    from trireme.export_llm.weights import Weights
    from trireme.generate.openvino_properties import compile_properties

    assert source.architecture is not None  # noqa: S101 - for the type checker
    quantization = read_quantization(source.config)
    weights = Weights(source.folder, source.architecture, quantization, source.adapter)
    roundings = ROUNDINGS.get(recipe.precision)
    store = ConstantStore(stage / SCRATCH_FILE)
    adapters = list(source.adapters.values())
    model = build_graph(weights, store, lambda step: notice(f"build, {step}"), roundings, adapters)
    notice("write")
    openvino.save_model(model, stage / GRAPH_FILE, compress_to_fp16=False)
    del model
    store.close()
    (stage / SCRATCH_FILE).unlink()
    _copy_text_files(source.folder, stage)
    place_adapters(source.adapters, stage)
    prompts = make_prompts(stage, source.max_model_len)
    # By number the adapter that each is read with: the model's own, then one of them once more for each.
    numbers = [0] * len(prompts) + list(range(1, len(adapters) + 1))
    prompts += [prompts[number % len(prompts)] for number in range(len(adapters))]
    read_with = [None, *adapters]
    before = compute_logits(
        weights, prompts, lambda step: notice(f"compare, {step}"), [read_with[number] for number in numbers]
    )
    notice("compare")
    served = ServedGraph(stage / GRAPH_FILE, compile_properties(recipe.threads), max(map(len, prompts)))
    pairs = zip(prompts, numbers, strict=True)
    marked = [mark_prompt(prompt, number, source.vocabulary) for prompt, number in pairs]
    figures = dict(compare_logits(before, [served.logits(prompt) for prompt in marked]))
    stored = roundings.layers if roundings else quantization
    return _name_precision(stored, store.kept_fp32), figures


def _make_exported(
    recipe: Recipe, source: LlmSource, stage: Path, notice: Notice
) -> tuple[str, dict[str, float]]:
    """Writes the OpenVINO graph that optimum-intel makes; as _make_graph."""
    from trireme.export_llm.exported import Exported, drop_unknown_tokens, write_exported

    assert source.optimum is not None  # noqa: S101 - for the type checker
    _copy_text_files(source.folder, stage)
    drop_unknown_tokens(stage, source.vocabulary)
    exported = Exported(source.optimum, source.folder, source.config, source.max_model_len, source.adapter)
    return write_exported(recipe, exported, stage, notice)


def _name_precision(stored: Quantization | Rounding | None, kept_fp32: int) -> str:
    name = stored.precision if stored else "fp16"
    return f"{name}, {kept_fp32} in fp32" if kept_fp32 else name


def _copy_text_files(folder: Path, stage: Path) -> None:
    for name in TEXT_FILES:
        if (folder / name).is_file():
            (stage / name).write_bytes((folder / name).read_bytes())


def _copy_templates(folder: Path, stage: Path) -> None:
    """The named templates of a checkpoint, beside the default: a version's folder holds no others."""
    for path in sorted((folder / TEMPLATE_FOLDER).glob("*.jinja")):
        (stage / named_template(path.stem)).write_bytes(path.read_bytes())


def _make_links(
    recipe: Recipe, source: LlmSource, stage: Path, notice: Notice
) -> tuple[str, dict[str, float]]:
    """Places the checkpoint's own files; returns its precision, and no figures, since nothing is changed."""
    check_for_gpu(source.folder, source.config)
    notice("link")
    link_checkpoint(source.folder, stage)
    place_adapters(source.adapters, stage)
    return name_gpu_precision(source.folder, source.config), {}


def _describe(recipe: Recipe, inputs: Inputs, source: LlmSource, stage: Path, precision: str) -> Manifest:
    paths = (path for path in stage.rglob("*") if path.is_file())
    names = sorted(path.relative_to(stage).as_posix() for path in paths)
    return Manifest(
        model=recipe.model,
        kind=recipe.kind,
        source=recipe.source or recipe.package,
        revision=recipe.revision or recipe.package,
        precision=precision,
        dimensions=source.vocabulary,
        max_length=source.max_model_len,
        files={name: hash_file(stage / name) for name in names},
        sizes={name: (stage / name).stat().st_size for name in names},
        tools=inputs.tools,
        inputs_digest=inputs.digest,
        adapters={name: adapter.rank for name, adapter in source.adapters.items()},
    )


def _bytes_needed(source: LlmSource, target: str) -> int:
    factor = EXPORT_SPACE_FACTOR if source.optimum else SPACE_FACTOR if target == "cpu" else 1.0
    beside = _total_bytes(path for adapter in source.adapters.values() for path in adapter.files)
    return int(factor * _total_bytes(weight_files(source.folder))) + beside


def _total_bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)
