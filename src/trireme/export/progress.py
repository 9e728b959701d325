"""A build with its steps shown on stderr."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from trireme.artifacts.manifest import Manifest
from trireme.artifacts.recipe import Recipe
from trireme.export.pipeline import BuildOptions, Notice, build_model

Build = Callable[[Recipe, BuildOptions, Notice], tuple[Manifest, bool]]


def build_with_progress(
    recipe: Recipe, options: BuildOptions, build: Build = build_model
) -> tuple[Manifest, bool]:
    """As `build`, naming each step while it runs; silent where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(recipe.model)
        return build(
            recipe, options, lambda step: progress.update(task, description=f"{recipe.model}: {step}")
        )
