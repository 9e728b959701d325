"""Configurations for the machine that serves: how many instances of a model its cores pay for.

config.pbtxt is the same everywhere, with one instance where the recipe leaves their number open. The launcher puts
configs/machine.pbtxt beside it, which tritonserver prefers when it is started with --model-config-name=machine.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trireme.artifacts.config_writer import write_config
from trireme.artifacts.recipe import Recipe
from trireme.artifacts.repository import list_recipes

MACHINE_CONFIG = "machine"
# Measured on 16 cores (docs/batching.md): one Python process ends at about 1,600 single requests a second, whatever
# its cores could run; with more instances than one for four cores a single request has too few of them.
CORES_PER_INSTANCE = 4


def fit_cores(recipe: Recipe, cores: int) -> Recipe:
    """The recipe with as many instances as pay on `cores`, where it leaves that open (0); itself elsewhere."""
    if recipe.instances:
        return recipe
    return replace(recipe, instances=max(1, cores // CORES_PER_INSTANCE))


def place_machine_configs(repository: Path, cores: int) -> bool:
    """Writes, or removes, the configuration for `cores` of each model; returns whether any model has one.

    One that cannot be written is served by its config.pbtxt where a file in it is of another machine or recipe.
    Raises NotFoundError, SettingError.
    """
    is_any = False
    for recipe in list_recipes(repository):
        path = repository / recipe.model / "configs" / f"{MACHINE_CONFIG}.pbtxt"
        fitted = fit_cores(recipe, cores)
        text = "" if recipe.instances or fitted.instances == 1 else write_config(fitted)
        try:
            _place(path, text)
        except OSError:
            return False
        is_any = is_any or bool(text)
    return is_any


def _place(path: Path, text: str) -> None:
    """Makes `path` hold `text`, or not be there for "". Raises OSError."""
    if not text:
        # A read-only file system refuses to remove even what is not there.
        if path.exists():
            path.unlink()
    elif not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(".tmp")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
