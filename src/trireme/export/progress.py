"""A build with its steps shown on stderr."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from trireme.artifacts.build import BuildOptions, Notice, Outcome
from trireme.artifacts.manifest import Manifest
from trireme.artifacts.recipe import Recipe
from trireme.export.pipeline import build_model

Build = Callable[[Recipe, BuildOptions, Notice], Outcome[Manifest]]


def build_with_progress(
    recipe: Recipe, options: BuildOptions, build: Build = build_model
) -> Outcome[Manifest]:
    """As `build`, naming each step while it runs; silent where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(recipe.model)
        return build(
            recipe, options, lambda step: progress.update(task, description=f"{recipe.model}: {step}")
        )
