"""Thresholds of a model whose score decides: for a share of false hits, the score from which on one decides so."""

from __future__ import annotations

import json
from pathlib import Path

from trireme.artifacts.manifest import THRESHOLDS_FILE
from trireme.errors import ArtifactError


def read_thresholds(version: Path) -> dict[float, float]:
    """The thresholds of a built equivalence model: share of false hits on held-out pairs -> score.

    THRESHOLDS_FILE in its version folder is a JSON object such as {"0.01": 2.5}; {} where there is none, so that
    gateway.toml must name its own. Raises ArtifactError for a file that cannot be read.
    """
    path = version / THRESHOLDS_FILE
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}") from None
    try:
        table = json.loads(raw)
        found = {float(share): float(score) for share, score in table.items()}
    except (ValueError, TypeError, AttributeError):
        raise ArtifactError(f"{path} is no table of thresholds; build the model again") from None
    if not all(0 < share < 1 for share in found):
        raise ArtifactError(f"{path} has a share that is not between 0 and 1; build the model again")
    return found
