"""A build with its steps shown on stderr."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from trireme.artifacts.manifest import Manifest
from trireme.artifacts.recipe import Recipe
from trireme.export.pipeline import BuildOptions, build_model


def build_with_progress(recipe: Recipe, options: BuildOptions) -> tuple[Manifest, bool]:
    """As `build_model`, naming each step while it runs; silent where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(recipe.model)
        return build_model(
            recipe, options, lambda step: progress.update(task, description=f"{recipe.model}: {step}")
        )
