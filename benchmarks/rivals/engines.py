"""What a user could pick to embed and rerank in process on a CPU, each behind the same four verbs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

BATCH = 32
CALIBRATION_TEXTS = "calibration.json"


class Engine(Protocol):
    """One loaded model. Blocks."""

    def versions(self) -> dict[str, str]:
        """The distributions that do the work, with their versions."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text that the model runs: special ones included, cut at its limit."""

    def embed(self, texts: Sequence[str]) -> Any:
        """[texts, dimensions]."""

    def rerank(self, query: str, passages: Sequence[str], prior: Sequence[float]) -> Any:
        """[passages]."""


def read_versions(*names: str) -> dict[str, str]:
    """Those of `names` that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def load_engine(name: str, model: Path, work: Path, threads: int) -> Engine:
    """`name` is LIBRARY/VARIANT. Raises ValueError for an unknown one, else what the library raises."""
    library, _, variant = name.partition("/")
    if library == "sentence-transformers":
        from st_engine import CrossEncoderEngine, SentenceEngine

        pairs = variant.endswith("-pairs")
        variant = variant.removesuffix("-pairs")
        return (CrossEncoderEngine if pairs else SentenceEngine)(variant, model, work, threads)
    if library == "trireme":
        from trireme_engine import TriremeEngine

        return TriremeEngine(model, threads)
    if library == "onnxruntime":
        from ort_engine import OrtEngine

        return OrtEngine(model, threads)
    raise ValueError(f"no engine named {name!r}")
