"""The text of build/quantize_llm.py --estimate: which cards hold a model, and what quantizing it takes here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trireme.artifacts.recipe import Recipe
from trireme.checkpoints.config import read_config
from trireme.checkpoints.source import fetch_source
from trireme.quantize.cards import Load, choose_group, format_cards, list_needs
from trireme.quantize.checkpoint import CausalLM, read_causal_lm
from trireme.quantize.estimate import Rates, check_device, estimate_run, measure_rates
from trireme.quantize.quiet import wait_passively
from trireme.quantize.recipe import CALIBRATED, METHODS, QuantizeRecipe, make_recipe
from trireme.quantize.report import format_seconds
from trireme.quantize.sizes import PUBLIC_SHAPES, ModelShape, read_shape

# Stands for the sizes of sizes.PUBLIC_SHAPES where no checkpoint is given.
_COMMON = "common sizes"


def describe_fit(given: Mapping[str, Any], recipe_file: Path | None, cache: Path, load: Load) -> str:
    """Two tables: cards, and what a run takes on this machine. Reads a checkpoint's headers; quantizes nothing.

    `given` are keys of the recipe. Without a source, common sizes are shown for the recipe's method, else the
    source for every method. Raises what make_recipe and read_causal_lm raise.
    """
    wait_passively()
    common = recipe_file is None and given.get("source") is None
    asked = make_recipe({**given, "source": _COMMON} if common else given, recipe_file)
    pairs = [(shape, _as_model(shape)) for shape in PUBLIC_SHAPES] if common else [_read_pair(asked, cache)]
    methods = (asked.method,) if common else tuple(METHODS)
    needs = [need for shape, _ in pairs for need in list_needs(shape, load, asked.group_size)]
    runs = _list_runs(pairs, [_with(asked, name) for name in methods], _measure(pairs[-1][1], asked.device))
    return "\n".join([format_cards(needs, load), "", *runs])


def _read_pair(recipe: QuantizeRecipe, cache: Path) -> tuple[ModelShape, CausalLM]:
    """The recipe's source, by its config and by its headers."""
    place = Recipe("source", "generator", source=recipe.source, revision=recipe.revision)
    model = read_causal_lm(fetch_source(place, cache))
    return read_shape(model.folder.name, read_config(model.folder)), model


def _list_runs(
    pairs: Sequence[tuple[ModelShape, CausalLM]], recipes: Sequence[QuantizeRecipe], rates: Rates | None
) -> list[str]:
    """What each run takes: memory, free disk space, time."""
    width = max(len(shape.name) for shape, _ in pairs)
    lines = [
        f"To quantize on this machine ({recipes[0].device}), judgement included; an estimate, not a promise:"
        + ("" if rates else " times need torch, which is not installed here."),
        f"{'model':<{width}}  {'method':<9}{'memory, GB':>11}{'disk, GB':>10}{'written, GB':>13}{'time':>10}",
    ]
    for shape, model in pairs:
        for recipe in recipes:
            group = choose_group(shape.linears, recipe.group) if recipe.group else 0
            if recipe.group and not group:
                continue
            found = estimate_run(model, replace(recipe, group_size=group), rates or Rates(1.0, 1.0))
            lines.append(
                f"{shape.name:<{width}}  {recipe.method:<9}{found.memory_bytes / 1e9:>11.1f}"
                f"{found.disk_bytes / 1e9:>10.1f}{found.output_bytes / 1e9:>13.2f}"
                f"{format_seconds(found.seconds) if rates else '-':>10}"
            )
    return lines


def _with(recipe: QuantizeRecipe, method: str) -> QuantizeRecipe:
    """The recipe with another method; bits, groups and symmetry only where that method has them."""
    if method == recipe.method:
        return recipe
    group = recipe.group_size if method in CALIBRATED else 0
    return replace(recipe, method=method, bits=0, group_size=group, sym=True)


def _as_model(shape: ModelShape) -> CausalLM:
    """A checkpoint of this shape in bfloat16, as if its headers had been read."""
    return CausalLM(
        folder=Path(shape.name),
        architecture="LlamaForCausalLM",
        layers=shape.layers,
        hidden_size=shape.hidden_size,
        vocab_size=shape.vocab_size,
        max_positions=shape.max_positions,
        parameters=shape.parameters,
        weight_bytes=2 * shape.parameters,
        dtype="BF16",
        linears=shape.all_linears,
    )


def _measure(model: CausalLM, device: str) -> Rates | None:
    """The machine's rates; None where torch is not installed."""
    try:
        check_device(device)
        return measure_rates(model, device)
    except ImportError:
        return None
