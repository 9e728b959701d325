"""A fitted file: from evidence to the chance that the answer is right, and the least chance at which it is kept.

After UCCI (arXiv 2605.18796): uncertainty of tokens, an isotonic map to a chance, a threshold by the least cost.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn

from trireme.cascade.evidence import Evidence
from trireme.errors import CalibrationMismatchError, SettingError

# 2: versions are of files and not of manifests, and decide_after is there.
FORMAT_VERSION = 2
_FORMAT_KEY = "format_version"
# As much of an answer as it is judged by: all of it, or so many of its first tokens.
DecideAfter = Literal["answer"] | int
MOST_FIRST_TOKENS = 4096
_EVIDENCE = frozenset(spec.name for spec in fields(Evidence))
_SHARES = ("threshold", "floor", "kept_share", "kept_low", "kept_high", "wrong_kept")
_COLUMNS = ("centers", "scales", "weights", "scores", "chances")
# Of a version's digest, what a message shows.
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted on labelled answers of one step in one version.

    step: the label that the fit script was given, such as "rag extractive". versions: of each model that answered,
    its name and its version (see triton.backends.loaded); answers of any other version are not judged by this.
    decide_after: "answer", or by how many first tokens the answers were judged. features: names of fields of
    Evidence. centers, scales, weights: one for each feature; the logistic's input is
    bias + sum(weight * (value - center) / scale). scores, chances: knots of the isotonic map from the logistic's
    output, in [0, 1], to a chance; scores rise, chances never fall. threshold: keep at this chance or above; no
    fit gives a chance of 1, so that 1 keeps nothing. floor: the quality that the threshold was chosen for, as a
    share of the big model's. examples: how many it was fitted on. kept_share, kept_low, kept_high: of answers kept
    at the threshold, and its 95 % interval. wrong_kept: the share of the wrong answers that are kept.
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
    decide_after: DecideAfter = "answer"

    def score(self, evidence: Evidence) -> float:
        """The logistic's output in [0, 1], before the isotonic map. Pure. Raises as `chance` does."""
        total = self.bias
        for name, center, scale, weight in zip(
            self.features, self.centers, self.scales, self.weights, strict=True
        ):
            value = getattr(evidence, name)
            # A score of no number would have the last knot's chance, which is the best.
            if value is None or not math.isfinite(value):
                raise SettingError(
                    f"{name} of an answer is not known, and the calibration of step {self.step!r} needs it;"
                    " fit it on answers of this kind, or serve the step as it was when they were collected"
                )
            total += weight * (value - center) / scale
        return logistic(total)

    def chance(self, evidence: Evidence) -> float:
        """The chance in [0, 1] that the answer is right. Pure. Raises SettingError where a feature is None or not
        finite."""
        return interpolate(self.score(evidence), self.scores, self.chances)

    def can_keep(self, evidence: Evidence) -> bool:
        """Whether the answer is likely enough right. Pure. Raises SettingError where a feature is None."""
        return self.chance(evidence) >= self.threshold

    def check_versions(self, answered: Mapping[str, str]) -> None:
        """Compares what answered, name -> its version, with what this was fitted on. Pure.

        Raises CalibrationMismatchError naming the first model that is missing, too many, or another version.
        """
        fitted = dict(self.versions)
        for name in sorted(fitted.keys() | answered.keys()):
            was, now = fitted.get(name), answered.get(name)
            if was != now:
                raise CalibrationMismatchError(
                    f"the calibration of step {self.step!r} was fitted {_say(name, was)}, and now the step answers"
                    f" {_say(name, now)}; collect labelled answers and fit it again"
                )


def logistic(value: float) -> float:
    """1 / (1 + exp(-value)), without overflow."""
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    power = math.exp(value)
    return power / (1 + power)


def interpolate(value: float, knots: Sequence[float], heights: Sequence[float]) -> float:
    """The height over `value`: linear between rising knots, and the end's beyond the ends."""
    above = bisect_right(knots, value)
    if above == 0:
        return heights[0]
    if above == len(knots):
        return heights[-1]
    left, right = heights[above - 1], heights[above]
    share = (value - knots[above - 1]) / (knots[above] - knots[above - 1])
    # Rounding must not lead out of the two heights: a plateau's chance is often the threshold itself.
    return min(max(left + (right - left) * share, left), right)


def read_calibration(path: Path) -> Calibration:
    """The file as it was fitted. Blocks.

    Raises SettingError naming file and key: missing, unknown, or not as declared.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{path}: {error.strerror}; write it with build/fit_cascade.py") from None
    except ValueError:
        raise SettingError(f"{path} is not UTF-8; write it again with build/fit_cascade.py") from None
    try:
        document = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_twins)
        return _parse(document)
    except (ValueError, RecursionError) as error:
        said = "is nested too deeply" if isinstance(error, RecursionError) else _sentence(error)
        raise SettingError(f"{path} {said}; write it again with build/fit_cascade.py") from None


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Writes JSON that `read_calibration` reads, whole or not at all. Blocks. Raises SettingError."""
    document = {_FORMAT_KEY: FORMAT_VERSION, **asdict(calibration), "versions": dict(calibration.versions)}
    try:
        # What would not be read is not written.
        _check(calibration)
    except ValueError as error:
        raise SettingError(f"{path} is not written: it {error}") from None
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(".tmp", f".{path.name}.", path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(document, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's files are their owner's alone.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise SettingError(f"{path} cannot be written: {error.strerror}") from None


def _say(name: str, digest: str | None) -> str:
    return f"without {name}" if digest is None else f"with {name} {digest[:_SHOWN]}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"has the number {name}, which is not finite")


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"has the key {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _sentence(error: ValueError) -> str:
    return f"is not valid JSON: {error}" if isinstance(error, json.JSONDecodeError) else str(error)


def _parse(document: Any) -> Calibration:
    """Raises ValueError with what is wrong, to be read after the file's name."""
    if not isinstance(document, dict):
        raise ValueError("is not a JSON object")
    number = document.pop(_FORMAT_KEY, None)
    if type(number) is int and 0 < number < FORMAT_VERSION:
        raise ValueError(
            f"is of format {number}, which does not say whether whole answers or first tokens were fitted on, and"
            " names models by digests that they no longer have; its answers must be labelled anew"
        )
    if type(number) is not int or number != FORMAT_VERSION:
        raise ValueError(f"has no {_FORMAT_KEY!r} {FORMAT_VERSION}")
    known = {spec.name: str(spec.type) for spec in fields(Calibration)}
    if unknown := document.keys() - known:
        raise ValueError(f"has an unknown key {min(unknown)!r}")
    if missing := known.keys() - document.keys():
        raise ValueError(f"lacks the key {min(missing)!r}")
    calibration = Calibration(**{name: _read(name, kind, document[name]) for name, kind in known.items()})
    _check(calibration)
    return calibration


def _read(name: str, kind: str, value: Any) -> Any:
    """The value of one key as its field holds it."""
    if name == "versions":
        if not isinstance(value, dict) or not all(isinstance(digest, str) for digest in value.values()):
            raise ValueError(f"has a {name!r} that is not an object of model names and digests")
        return tuple(value.items())
    if name in ("features", *_COLUMNS):
        if not isinstance(value, list):
            raise ValueError(f"has a {name!r} that is not a list")
        return tuple(_read_one(name, "str" if name == "features" else "float", one) for one in value)
    if name == "decide_after":
        return value if value == "answer" else _read_one(name, "int", value)
    return _read_one(name, kind, value)


def _read_one(name: str, kind: str, value: Any) -> Any:
    wanted = {"str": (str,), "int": (int,), "float": (int, float)}[kind]
    # A bool is an int to isinstance, not here.
    if type(value) not in wanted:
        raise ValueError(f"has a {name!r} that is not of type {kind}")
    if kind != "float":
        return value
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"has a {name!r} that is not finite") from None


def _check(one: Calibration) -> None:
    """What types do not say. Raises ValueError naming the key."""
    if not one.step.strip():
        raise ValueError("has an empty 'step'")
    if not one.versions or not all(name and digest for name, digest in one.versions):
        raise ValueError("has 'versions' without a model or with an empty name or digest")
    if one.examples < 1:
        raise ValueError("has 'examples' below 1")
    if one.decide_after != "answer" and not 1 <= one.decide_after <= MOST_FIRST_TOKENS:
        raise ValueError(f"has a 'decide_after' that is neither \"answer\" nor from 1 to {MOST_FIRST_TOKENS}")
    for name in ("bias", *_SHARES):
        _check_finite(name, (getattr(one, name),))
    for name in _COLUMNS:
        _check_finite(name, getattr(one, name))
    _check_features(one)
    _check_knots(one.scores, one.chances)
    for name in _SHARES:
        if not 0 <= getattr(one, name) <= 1:
            raise ValueError(f"has a {name!r} outside of 0 to 1")
    if not one.kept_low <= one.kept_share <= one.kept_high:
        raise ValueError("has a 'kept_share' outside of 'kept_low' to 'kept_high'")


def _check_features(one: Calibration) -> None:
    if not one.features or len(set(one.features)) < len(one.features):
        raise ValueError("has 'features' that are none or the same twice")
    if strange := set(one.features) - _EVIDENCE:
        raise ValueError(f"has the unknown feature {min(strange)!r} in 'features'")
    for name in ("centers", "scales", "weights"):
        if len(getattr(one, name)) != len(one.features):
            raise ValueError(f"has {len(getattr(one, name))} {name!r} for {len(one.features)} features")
    if min(one.scales) <= 0:
        raise ValueError("has 'scales' that are not above 0")


def _check_finite(name: str, values: Sequence[float]) -> None:
    if not all(map(math.isfinite, values)):
        raise ValueError(f"has {name!r} with a number that is not finite")


def _check_knots(scores: Sequence[float], chances: Sequence[float]) -> None:
    if not scores or len(scores) != len(chances):
        raise ValueError(
            f"has {len(scores)} 'scores' for {len(chances)} 'chances'; at least one of each is needed"
        )
    for name, values in (("scores", scores), ("chances", chances)):
        if not all(0 <= value <= 1 for value in values):
            raise ValueError(f"has {name!r} outside of 0 to 1")
    if any(left >= right for left, right in pairwise(scores)):
        raise ValueError("has 'scores' that do not rise")
    if any(left > right for left, right in pairwise(chances)):
        raise ValueError("has 'chances' that fall")
