"""What the folder of one of our own models says of it: its source, its size, how near it is to the original."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trireme.artifacts.contracts import split_adapter
from trireme.artifacts.manifest import read_manifest
from trireme.artifacts.recipe import RECIPE_FILE, read_recipe
from trireme.artifacts.repository import version_dir
from trireme.errors import TriremeError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# Keys of a recipe that are thresholds of its gate.
_GATES = (
    "min_cosine",
    "mean_cosine",
    "min_rank_correlation",
    "max_score_difference",
    "max_logit_error",
    "min_top1_agreement",
    "max_kl",
)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Of a model that was built. kind: as in its recipe. version: in hex, of the files and what is done with them.
    source: a checkpoint's name, never a folder of this machine. gate: thresholds that its recipe sets itself.

    steps: of a chain inside of the server, which has no files, in order; then all but kind is empty.
    """

    kind: str
    version: str = ""
    precision: str = ""
    engine: str = ""
    bytes: int = 0
    dimensions: int = 0
    max_length: int = 0
    source: str = ""
    revision: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    quality: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    gate: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[str, ...] = ()


def read_card(repository: Path, model: str) -> ModelCard | None:
    """The card of a model, or None where its folder is not at hand or cannot be read. Blocks some milliseconds."""
    # An adapter's card is its model's.
    model, _ = split_adapter(model)
    # Names may come from clients, and go into a path.
    if not _NAME.fullmatch(model):
        return None
    try:
        recipe = read_recipe(repository / model / RECIPE_FILE)
        if not recipe.has_weights:
            return ModelCard(recipe.kind, steps=tuple(recipe.steps))
        manifest = read_manifest(version_dir(repository, model))
    except (TriremeError, OSError):
        return None
    return ModelCard(
        kind=manifest.kind,
        version=manifest.version,
        precision=manifest.precision,
        engine=manifest.engine if recipe.traits.is_encoder else recipe.engine,
        bytes=manifest.total_bytes,
        dimensions=manifest.dimensions,
        max_length=manifest.max_length,
        source=Path(manifest.source).name if Path(manifest.source).is_absolute() else manifest.source,
        revision=manifest.revision,
        figures=manifest.figures,
        quality=manifest.quality,
        gate={name: float(value) for name in _GATES if (value := getattr(recipe, name)) is not None},
    )
