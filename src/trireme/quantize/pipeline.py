"""From a recipe to a placed checkpoint: fetch, read, estimate, quantize, reload, judge, place."""

from __future__ import annotations

import gc
import resource
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trireme.artifacts.build import Built, Outcome, build
from trireme.artifacts.gate import Gate
from trireme.artifacts.inputs import Inputs, hash_folder, read_tools
from trireme.artifacts.placing import check_place
from trireme.artifacts.recipe import Recipe
from trireme.checkpoints.source import SAFE_SUFFIXES, fetch_source
from trireme.errors import ArtifactError, TriremeError, UnavailableError
from trireme.quantize import bnb, gptq, unquantized
from trireme.quantize.checkpoint import CausalLM, check_groups, read_causal_lm
from trireme.quantize.estimate import Estimate, check_device, estimate_run, measure_rates
from trireme.quantize.evaluate import judge, keep_weights, use_float_activations
from trireme.quantize.figures import Figures
from trireme.quantize.files import finish_checkpoint
from trireme.quantize.gate import ADVICE, read_thresholds
from trireme.quantize.manifest import (
    QUANTIZATION_FILE,
    FolderPlace,
    QuantizationManifest,
)
from trireme.quantize.quiet import output_to, wait_passively
from trireme.quantize.recipe import QuantizeRecipe
from trireme.quantize.texts import CutText, Texts, read_texts

TOOLS = ("trireme", "torch", "transformers", "safetensors", "tokenizers")
METHOD_TOOLS = {"awq": ("gptqmodel",), "gptq": ("gptqmodel",), "none": ()}
# What shapes no file: two runs that differ only in these make the same checkpoint.
_LOOSE_KEYS = ("source", "calibration", "eval", "note")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Where a run reads and writes. `sample` is the built-in text; `log` takes what the libraries print."""

    sample: Path
    cache: Path = Path(".trireme/sources")
    log: Path = Path(".trireme/quantize.log")
    force: bool = False


@dataclass(frozen=True, slots=True)
class RunWatch:
    """Who follows a run. `begin` hears a step's name and how often `advance` will be called in it (0: unknown)."""

    estimated: Callable[[CausalLM, Estimate], None] = lambda model, estimate: None
    begin: Callable[[str, int], None] = lambda step, total: None
    advance: Callable[[], None] = lambda: None


def quantize_checkpoint(
    recipe: QuantizeRecipe, out: Path, options: RunOptions, watch: RunWatch | None = None
) -> Outcome[QuantizationManifest]:
    """Quantizes the source of `recipe` into the folder `out`; returns its manifest and whether it was made now.

    Blocks for seconds to hours. Nothing is made when `out` holds the checkpoint of the same inputs, unless
    `options.force`. Raises InvalidInputError, UnsupportedError, UnavailableError, ArtifactError, and GateError
    past a threshold; then nothing is placed and an older `out` stays as it is.
    """
    watch = watch or RunWatch()
    wait_passively()
    check_place(out, QUANTIZATION_FILE)
    options.log.unlink(missing_ok=True)
    watch.begin("read", 0)
    with _captured(options.log):
        _check_machine(recipe)
    model = read_causal_lm(_fetch(recipe, options.cache))
    if recipe.group:
        check_groups(model, recipe.group, gptq.OUTPUTS_MULTIPLE[recipe.method])
    with _captured(options.log):
        encode, prefix = unquantized.open_tokenizer(model.folder)
    texts = read_texts(recipe, encode, prefix, options.sample, model.max_positions)
    inputs = collect_inputs(recipe, model.folder, texts)
    gate = Gate(out.name, read_thresholds(recipe), ADVICE)
    run = _Run(model, recipe, texts, inputs, gate, options.log, watch)
    return build(inputs, run.make, gate, FolderPlace(out, run.reserve), force=options.force)


def collect_inputs(recipe: QuantizeRecipe, folder: Path, texts: Texts) -> Inputs:
    """What shapes the checkpoint: the recipe, the source's files, both texts, tool versions."""
    values = {key: value for key, value in asdict(recipe).items() if key not in _LOOSE_KEYS}
    values["samples"] = recipe.most_samples
    read = {
        "sources": hash_folder(folder, SAFE_SUFFIXES, pattern="*"),
        "calibration": texts.calibration.digest if texts.calibration else "",
        "evaluation": texts.evaluation.digest,
    }
    tools = read_tools((*TOOLS, *METHOD_TOOLS.get(recipe.method, ("bitsandbytes",))))
    return Inputs(values, read, tools)


def _check_machine(recipe: QuantizeRecipe) -> None:
    if recipe.method in ("awq", "gptq"):
        gptq.check_tools()
    elif recipe.method != "none":
        bnb.check_tools()
    check_device(recipe.device)


def _fetch(recipe: QuantizeRecipe, cache: Path) -> Path:
    return fetch_source(Recipe("source", "generator", source=recipe.source, revision=recipe.revision), cache)


@dataclass(frozen=True, slots=True)
class _Run:
    """What is about to be quantized. `log` takes what the libraries print."""

    model: CausalLM
    recipe: QuantizeRecipe
    texts: Texts
    inputs: Inputs
    gate: Gate
    log: Path
    watch: RunWatch

    def reserve(self) -> int:
        """Bytes that the run needs on disk; the watch hears the whole estimate."""
        estimate = estimate_run(self.model, self.recipe, measure_rates(self.model, self.recipe.device))
        self.watch.estimated(self.model, estimate)
        return estimate.disk_bytes

    def make(self, stage: Path) -> Built[QuantizationManifest]:
        """Writes the checkpoint into `stage` and compares it with its original."""
        seconds = self._write(stage)
        figures = asdict(self._judge(stage))
        return Built(figures, lambda: self._describe(stage, figures, seconds))

    def _write(self, stage: Path) -> float:
        """Writes the checkpoint; returns the wall seconds it took."""
        started = time.monotonic()
        model, recipe, calibration = self.model, self.recipe, self.texts.calibration
        self.watch.begin("quantize", model.layers if calibration else 0)
        with _captured(self.log):
            described = None
            if recipe.method == "none":
                dtype = unquantized.write_half(model, stage)
            else:
                dtype = unquantized.name_of(gptq.compute_dtype(model, recipe.device))
                if calibration is None:
                    described = bnb.write_quantized(model, stage, recipe)
                else:
                    described = gptq.write_quantized(
                        model, stage, recipe, calibration.windows, self.watch.advance
                    )
            finish_checkpoint(model.folder, stage, described, dtype)
        gc.collect()
        return time.monotonic() - started

    def _judge(self, stage: Path) -> Figures:
        """The figures of the checkpoint as it lies on disk."""
        recipe, windows = self.recipe, self.texts.evaluation.windows
        self.watch.begin("evaluate", len(windows))
        with _captured(self.log):
            original = unquantized.load_original(self.model.folder, recipe.device)
            use_float_activations(original, keep_weights)
            if recipe.method == "none":
                quantized = unquantized.load_original(stage, recipe.device)
                use_float_activations(quantized, keep_weights)
            elif recipe.group:
                quantized = gptq.load_quantized(stage, recipe)
                use_float_activations(quantized, partial(_stored_weights, gptq.dequantize))
            else:
                quantized = bnb.load_quantized(stage, recipe)
                use_float_activations(quantized, keep_weights)
            return judge(original, quantized, windows, self.watch.advance)

    def _describe(self, stage: Path, figures: dict[str, float], seconds: float) -> QuantizationManifest:
        """The manifest of the files in `stage`."""
        model, recipe = self.model, self.recipe
        source = Path(recipe.source)
        files = hash_folder(stage, without=QUANTIZATION_FILE)
        return QuantizationManifest(
            method=recipe.method,
            bits=recipe.width,
            group_size=recipe.group,
            sym=recipe.sym and recipe.method == "gptq",
            architecture=model.architecture,
            parameters=model.parameters,
            # An absolute path says more of the machine than of the checkpoint.
            source=source.name if source.is_absolute() else recipe.source,
            revision=recipe.revision,
            device=recipe.device,
            seed=recipe.seed,
            calibration=_describe_text(self.texts.calibration, recipe),
            evaluation=_describe_text(self.texts.evaluation, recipe),
            figures=figures,
            thresholds=self.gate.thresholds.named(),
            tools=self.inputs.tools,
            files=files,
            sizes={name: (stage / name).stat().st_size for name in files},
            seconds=round(seconds, 1),
            memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            note=recipe.note,
            inputs_digest=self.inputs.digest,
            source_files=self.inputs.read["sources"],
        )


def _stored_weights(dequantize: Callable[[Any], Any], module: Any) -> Any:
    packed = dequantize(module)
    return keep_weights(module) if packed is None else packed


def _describe_text(passage: CutText | None, recipe: QuantizeRecipe) -> dict[str, Any]:
    if passage is None:
        return {}
    return {
        "name": passage.name,
        "sha256": passage.digest,
        "windows": len(passage.windows),
        "sequence_length": recipe.sequence_length,
        "tokens": passage.tokens,
    }


@contextmanager
def _captured(log: Path) -> Iterator[None]:
    """Sends the libraries' talk to `log`, and turns what they raise into an error of ours that names it."""
    try:
        with output_to(log):
            try:
                yield
            except TriremeError:
                raise
            except Exception:
                traceback.print_exc()
                raise
    except TriremeError:
        raise
    except MemoryError as error:
        raise UnavailableError(f"out of memory: {error}; lower --samples or --sequence-length") from error
    except Exception as error:  # the libraries raise errors of every kind
        if "out of memory" in str(error).lower():
            raise UnavailableError(f"out of memory: {error}; lower --samples or --sequence-length") from error
        first = (str(error).splitlines() or [""])[0]
        raise ArtifactError(f"{type(error).__name__}: {first}; what led to it is in {log}") from error
