"""Reads a model repository on disk: which models are there, and which are built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trireme.artifacts.kinds import KINDS
from trireme.artifacts.manifest import MANIFEST_FILE, read_manifest
from trireme.artifacts.recipe import RECIPE_FILE, Recipe, read_recipe
from trireme.errors import ArtifactError, NotFoundError, SettingError, TriremeError


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model folder. `bytes` is the size of its files; figures, quality, adapters come from its manifest."""

    name: str
    kind: str
    precision: str
    is_built: bool
    bytes: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    quality: dict[str, dict[str, float]] = field(default_factory=dict)
    adapters: dict[str, int] = field(default_factory=dict)


def list_models(repository: Path) -> list[ModelEntry]:
    """Every folder with a recipe, by name. Raises NotFoundError, SettingError, ArtifactError."""
    return [_entry(repository, recipe) for recipe in list_recipes(repository)]


def find_model(repository: Path, name: str, backend: str) -> ModelEntry | None:
    """The built model of that name which `backend` serves; an ensemble is served by its kind.

    None where the folder holds no such model, or nothing that can be read.
    """
    try:
        entry = _entry(repository, read_recipe(repository / name / RECIPE_FILE))
    except TriremeError:
        return None
    return entry if entry.is_built and (KINDS[entry.kind].backend or entry.kind) == backend else None


def list_recipes(repository: Path) -> list[Recipe]:
    """The recipes of all model folders, by name. Raises NotFoundError, SettingError."""
    if not repository.is_dir():
        raise NotFoundError(f"{repository} is not a folder; name the model repository")
    return [read_recipe(path) for path in sorted(repository.glob(f"[!.]*/{RECIPE_FILE}"))]


def version_dir(repository: Path, model: str) -> Path:
    """The folder of the highest version of `model`. Raises ArtifactError when there is none."""
    versions = [
        path for path in (repository / model).glob("[0-9]*") if path.name.isdecimal() and path.is_dir()
    ]
    if not versions:
        raise ArtifactError(f"model {model!r} has no version folder in {repository}; build it first")
    return max(versions, key=lambda path: int(path.name))


def is_built(repository: Path, recipe: Recipe) -> bool:
    """True when the model can be loaded: it needs no weights, or its version folder has a manifest."""
    try:
        version = version_dir(repository, recipe.model)
    except ArtifactError:
        return False
    return not recipe.has_weights or (version / MANIFEST_FILE).is_file()


def default_embedder(repository: Path) -> str:
    """The model folder whose vectors new collections get: the retriever's, or the only encoder.

    Raises SettingError where neither says which.
    """
    recipes = list_recipes(repository)
    retriever = find_retriever(recipes)
    if retriever is not None:
        return retriever.embedder
    encoders = [recipe.model for recipe in recipes if recipe.traits.makes_vectors]
    if len(encoders) != 1:
        raise SettingError(f"no retriever in {repository} says which embedder a collection gets")
    return encoders[0]


def find_retriever(recipes: Sequence[Recipe]) -> Recipe | None:
    """The first retriever among them, or None."""
    return next((recipe for recipe in recipes if recipe.kind == "retriever"), None)


def _entry(repository: Path, recipe: Recipe) -> ModelEntry:
    if not recipe.has_weights:
        return ModelEntry(recipe.model, recipe.kind, "", is_built(repository, recipe))
    if not is_built(repository, recipe):
        # A generator's precision is its checkpoint's, which is not looked for here.
        precision = recipe.precision if recipe.traits.is_encoder else ""
        return ModelEntry(recipe.model, recipe.kind, precision, is_built=False)
    manifest = read_manifest(version_dir(repository, recipe.model))
    return ModelEntry(
        name=recipe.model,
        kind=manifest.kind,
        precision=manifest.precision,
        is_built=True,
        bytes=manifest.total_bytes,
        figures=manifest.figures,
        quality=manifest.quality,
        adapters=manifest.adapters,
    )
