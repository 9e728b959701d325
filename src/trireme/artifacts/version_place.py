"""The place of a model's build: its version in the repository."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from trireme.artifacts.config_writer import place_config
from trireme.artifacts.manifest import Manifest, read_manifest, verify_files, write_manifest
from trireme.artifacts.placing import VERSION, stage_version
from trireme.artifacts.recipe import Recipe
from trireme.errors import ArtifactError


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
        version_dir = self.model_dir / VERSION
        try:
            manifest = read_manifest(version_dir)
            if manifest.inputs_digest != digest or (self.quality and self.quality not in manifest.quality):
                return None
            verify_files(version_dir, manifest)
        except ArtifactError:
            return None
        return manifest

    def stage(self) -> AbstractContextManager[Path]:
        """As stage_version, which holds the model's lock."""
        return stage_version(self.model_dir, self.bytes_needed)

    def write_manifest(self, stage: Path, manifest: Manifest) -> None:
        """Writes manifest.json."""
        write_manifest(stage, manifest)

    def finish(self) -> None:
        """Writes config.pbtxt and the warm-up files."""
        place_config(self.model_dir, self.recipe)
