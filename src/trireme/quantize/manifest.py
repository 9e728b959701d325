"""quantization.json in a quantized checkpoint: what it was made of and with, how far it is from its original."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from trireme.artifacts.manifest import hash_file
from trireme.artifacts.placing import stage_folder
from trireme.errors import ArtifactError, InvalidInputError

QUANTIZATION_FILE = "quantization.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class QuantizationManifest:
    """One quantized checkpoint. `files` maps a name to its sha256 in hex, `sizes` to its bytes.

    `seconds` is the wall time of quantizing alone, `memory_bytes` the process's peak over the whole run.
    """

    method: str
    bits: int
    group_size: int
    sym: bool
    architecture: str
    parameters: int
    source: str
    revision: str
    device: str
    seed: int
    # Per text: name, sha256, windows, sequence_length, tokens. No calibration: an empty table.
    calibration: dict[str, Any]
    evaluation: dict[str, Any]
    figures: dict[str, float]
    thresholds: dict[str, float]
    tools: dict[str, str]
    files: dict[str, str]
    sizes: dict[str, int]
    seconds: float
    memory_bytes: int
    note: str = ""
    # sha256 over recipe, source files, texts and tools: equal means a run would make the same checkpoint.
    inputs_digest: str = ""
    source_files: dict[str, str] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """Size of all files of the checkpoint, the manifest left out, in bytes."""
        return sum(self.sizes.values())


def write_quantization(folder: Path, manifest: QuantizationManifest) -> None:
    """Writes quantization.json into `folder`."""
    document = {"format_version": FORMAT_VERSION, **asdict(manifest)}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (folder / QUANTIZATION_FILE).write_text(text, encoding="utf-8")


def read_quantization(folder: Path) -> QuantizationManifest:
    """The manifest of a quantized checkpoint. Raises ArtifactError naming the file and what is wrong with it."""
    path = folder / QUANTIZATION_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ArtifactError(f"{path} is missing; make the checkpoint with build/quantize_llm.py") from None
    except ValueError as error:
        raise ArtifactError(f"{path} is not valid JSON: {error}; quantize again with --force") from None
    if not isinstance(document, dict) or document.pop("format_version", None) != FORMAT_VERSION:
        raise ArtifactError(f"{path} is not of format version {FORMAT_VERSION}; quantize again with --force")
    known = {spec.name for spec in fields(QuantizationManifest)}
    if unknown := set(document) - known:
        raise ArtifactError(f"{path} has an unknown key {min(unknown)!r}; quantize again with --force")
    try:
        return QuantizationManifest(**document)
    except TypeError as error:
        raise ArtifactError(f"{path} lacks a key ({error}); quantize again with --force") from None


def verify_quantization(folder: Path, manifest: QuantizationManifest) -> None:
    """Reads every file and compares its sha256. Raises ArtifactError naming the first that differs."""
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise ArtifactError(f"{path} is missing; quantize again with --force")
        if hash_file(path) != expected:
            raise ArtifactError(f"{path} is not the file in {QUANTIZATION_FILE}; quantize again with --force")


@dataclass(frozen=True, slots=True)
class FolderPlace:
    """The folder of one checkpoint. `reserve` says how many bytes a run needs, and is asked when one begins."""

    out: Path
    reserve: Callable[[], int]

    def find_same(self, digest: str) -> QuantizationManifest | None:
        """The manifest of what is there; None for nothing. Raises InvalidInputError for anything else."""
        if not self.out.exists():
            return None
        try:
            manifest = read_quantization(self.out)
            verify_quantization(self.out, manifest)
        except ArtifactError as error:
            raise InvalidInputError(f"{self.out} is there and not whole ({error})") from None
        if manifest.inputs_digest != digest:
            raise InvalidInputError(f"{self.out} is there, made of other inputs; --force replaces it")
        return manifest

    def stage(self) -> AbstractContextManager[Path]:
        """As stage_folder."""
        return stage_folder(self.out, self.reserve())

    def write_manifest(self, stage: Path, manifest: QuantizationManifest) -> None:
        """Writes quantization.json."""
        write_quantization(stage, manifest)

    def finish(self) -> None:
        """Nothing follows from the recipe alone."""
