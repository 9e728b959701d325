"""What every build does around its own work: is it there already? stage, make, gate, manifest, place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from trireme.artifacts.config_writer import place_config
from trireme.artifacts.gate import Gate
from trireme.artifacts.inputs import Inputs, find_same
from trireme.artifacts.manifest import Manifest, write_manifest
from trireme.artifacts.placing import VERSION, stage_version
from trireme.artifacts.recipe import Recipe

M = TypeVar("M")
# Hears the name of each step.
Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Where a build reads and writes. `quality` is a BEIR folder, or None for no quality run."""

    repository: Path = Path("model_repository")
    cache: Path = Path(".trireme/sources")
    project: Path = Path()
    quality: Path | None = None
    quality_queries: int = 200
    force: bool = False


class Outcome(NamedTuple, Generic[M]):
    """The manifest of what is placed now, and whether it was made by this build."""

    manifest: M
    is_new: bool


@dataclass(frozen=True)
class Built(Generic[M]):
    """Files that were written, by their figures. `describe` makes the manifest, once the gate has let them pass."""

    figures: Mapping[str, float]
    describe: Callable[[], M]


class Place(Protocol[M]):
    """Where a build goes."""

    def find_same(self, digest: str) -> M | None:
        """The manifest of what is there, when it is whole and of the inputs of that digest."""

    def stage(self) -> AbstractContextManager[Path]:
        """An empty folder to write into, placed when the block ends without an error and gone otherwise."""

    def write_manifest(self, stage: Path, manifest: M) -> None:
        """Writes the manifest beside the files in `stage`."""

    def finish(self) -> None:
        """Writes what follows from the recipe alone, whether anything was built or not."""


@dataclass(frozen=True, slots=True)
class VersionPlace:
    """A model's version in the repository, and its config.pbtxt. Building takes `bytes_needed` on disk.

    quality: the data set that a version must have figures of to count as the same; "" for none.
    """

    repository: Path
    recipe: Recipe
    bytes_needed: int
    quality: str = ""

    @property
    def model_dir(self) -> Path:
        """The model's folder."""
        return self.repository / self.recipe.model

    def find_same(self, digest: str) -> Manifest | None:
        """The placed manifest when it is of the same inputs, whole, and has the quality figures asked for."""
        manifest = find_same(self.model_dir / VERSION, digest)
        return manifest if manifest is None or not self.quality or self.quality in manifest.quality else None

    def stage(self) -> AbstractContextManager[Path]:
        """As stage_version, which holds the model's lock."""
        return stage_version(self.model_dir, self.bytes_needed)

    def write_manifest(self, stage: Path, manifest: Manifest) -> None:
        """Writes manifest.json."""
        write_manifest(stage, manifest)

    def finish(self) -> None:
        """Writes config.pbtxt and the warm-up files."""
        place_config(self.model_dir, self.recipe)


def build(
    inputs: Inputs,
    make: Callable[[Path], Built[M]],
    gate: Gate,
    place: Place[M],
    *,
    force: bool = False,
    notice: Notice = lambda step: None,
) -> Outcome[M]:
    """Makes and places the files of `inputs`, unless the same are placed and whole, or with `force`.

    `make` writes into the empty folder that it is given. Blocks as long as `make` does. Raises what `make` and
    `place` raise, and GateError past a threshold; then nothing is placed and what was there stays.
    """
    present = None if force else place.find_same(inputs.digest)
    if present is None:
        with place.stage() as stage:
            built = make(stage)
            gate.check(built.figures)
            manifest = built.describe()
            place.write_manifest(stage, manifest)
            notice("place")
    else:
        manifest = present
    place.finish()
    return Outcome(manifest, present is None)
