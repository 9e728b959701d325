"""What every build does around its own work: is it there already? stage, make, gate, manifest, place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from trireme.artifacts.gate import Gate
from trireme.artifacts.inputs import Inputs

M = TypeVar("M")
# The manifest of what is placed now, and whether this build has made it.
Outcome = tuple[M, bool]
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
    return manifest, present is None
