"""A fitted file: from evidence to the chance that the answer is right, and the least chance at which it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trireme.cascade.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted on labelled answers of one step in one version.

    step: the label that the fit script was given, such as "rag extractive". versions: of each model that answered,
    its name and its manifest's digest; answers of any other version are not judged by this. features: names of fields
    of Evidence. centers, scales, weights: one for each feature; the logistic's input is bias + sum(weight *
    (value - center) / scale). scores, chances: knots of the isotonic map from the logistic's output to a chance, both
    rising. threshold: keep at this chance or above. floor: the quality that the threshold was chosen for, as a share
    of the big model's. examples: how many it was fitted on. kept_share, kept_low, kept_high: of answers kept at the
    threshold, and its 95 % interval. wrong_kept: the share of the wrong answers that are kept.
    """

    step: str
    versions: tuple[tuple[str, str], ...]
    features: tuple[str, ...]
    centers: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    scores: tuple[float, ...]
    chances: tuple[float, ...]
    threshold: float
    floor: float
    examples: int
    kept_share: float
    kept_low: float
    kept_high: float
    wrong_kept: float

    def chance(self, evidence: Evidence) -> float:
        """The chance in [0, 1] that the answer is right. Pure. Raises SettingError where a feature is None."""
        raise NotImplementedError

    def can_keep(self, evidence: Evidence) -> bool:
        """Whether the answer is likely enough right. Pure. Raises SettingError where a feature is None."""
        return self.chance(evidence) >= self.threshold


def read_calibration(path: Path) -> Calibration:
    """The file as it was fitted. Raises SettingError naming file and key: missing, unknown, or not as declared."""
    raise NotImplementedError


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Writes JSON that `read_calibration` reads, whole or not at all. Blocks. Raises SettingError."""
    raise NotImplementedError
