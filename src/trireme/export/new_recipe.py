"""Recipes for models that have none yet: kind from the checkpoint, serving keys by kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trireme.artifacts.recipe import RECIPE_FILE, Recipe, read_recipe
from trireme.checkpoints.source import fetch_source
from trireme.errors import InvalidInputError
from trireme.export.adapter import merged_source
from trireme.export.checkpoint import read_checkpoint

_SERVING: dict[str, Any] = {"dynamic_batching": True, "response_cache": True, "warmup": True}


def make_recipe(model: str, values: Mapping[str, Any], cache: Path) -> Recipe:
    """A recipe of the given keys (None: not given); without `kind`, the checkpoint's own.

    Downloads the checkpoint when it must look for the kind. Raises SettingError, UnsupportedError.
    """
    given = {key: value for key, value in values.items() if value is not None}
    if "kind" not in given:
        checkpoint_keys = ("source", "revision", "package", "weights_sha256")
        known = {key: given[key] for key in checkpoint_keys if key in given}
        folder = fetch_source(Recipe(model, "text_encoder", **known), cache)
        with merged_source(folder, cache) as merged:
            checkpoint = read_checkpoint(merged)
        given["kind"] = checkpoint.kind
        if checkpoint.outputs != ("dense",):
            given.setdefault("outputs", checkpoint.outputs)
    recipe = Recipe(model, **given)
    serving = {**_SERVING, "response_cache": len(recipe.encoder_outputs) == 1}
    return replace(recipe, max_batch_size=recipe.traits.batch_size, **serving)


def check_recipe_is_free(recipe: Recipe, repository: Path) -> None:
    """Raises InvalidInputError when the model's folder holds another recipe."""
    path = repository / recipe.model / RECIPE_FILE
    if path.is_file() and read_recipe(path) != recipe:
        raise InvalidInputError(
            f"{path} says otherwise: edit it and build with --recipe {path}, or use another name"
        )
