"""Fits a calibration on labelled answers: a logistic on standardised features, then an isotonic map to chances.

After UCCI (arXiv 2605.18796). The isotonic map is fitted on scores that the logistic gave answers it had not seen
(folds), so that it corrects what the logistic does to new answers. Needs the build extra (scikit-learn).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.cascade.calibration import Calibration, interpolate
from trireme.cascade.evidence import Evidence
from trireme.cascade.labelled import Labelled
from trireme.errors import InvalidInputError, UnsupportedError

Numbers = npt.NDArray[np.float64]

# Below these an interval says nothing; 1,000 answers are a good number.
LEAST_EXAMPLES = 200
LEAST_OF_A_KIND = 20
FOLDS = 5
BINS = 10
# Answers that are one point of the isotonic map.
GROUP = 20
# From the least score to the most. Answers of one block have one chance, but a threshold may part them by score.
TILT = 0.001
# A feature that differs less between answers is the same for all.
_LEAST_SCALE = 1e-9


@dataclass(frozen=True, slots=True)
class Figures:
    """How well chances of answers that were not fitted on tell right from wrong.

    auc: 0.5 is chance. ece_before, ece_after: expected calibration error, of the logistic alone and with the
    isotonic map, over BINS bins of equally many answers.
    """

    examples: int
    right: float
    auc: float
    ece_before: float
    ece_after: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """calibration: keeps nothing yet (threshold 1). chances: [examples], by which a threshold is chosen: of each
    answer, from its score by the logistic of the folds without it. right: [examples]."""

    calibration: Calibration
    chances: Numbers
    right: npt.NDArray[np.bool_]
    figures: Figures


def fit(examples: Sequence[Labelled], seed: int = 1) -> Fitted:
    """The calibration of one step in one version. Blocks for a second; deterministic.

    Raises InvalidInputError for too few answers, of one kind alone, of several steps or versions, or without a
    feature; UnsupportedError without the build extra.
    """
    _check(examples)
    names = find_features([one.evidence for one in examples])
    if not names:
        raise InvalidInputError(
            "no feature is known of all answers and differs between them; collect more of each"
        )
    values = np.array([[float(getattr(one.evidence, name)) for name in names] for one in examples])
    right = np.array([one.right for one in examples])
    centers, scales = values.mean(axis=0), values.std(axis=0)
    standard = (values - centers) / scales
    logistic = _fit_logistic(standard, right)
    folds = _split(right, seed)
    scores = np.empty(len(right))
    for inside, outside in folds:
        scores[outside] = _fit_logistic(standard[inside], right[inside]).predict_proba(standard[outside])[
            :, 1
        ]
    knots, heights = fit_isotonic(scores, right)
    honest = np.empty(len(right))
    for inside, outside in folds:
        honest[outside] = _lift(scores[outside], *fit_isotonic(scores[inside], right[inside]))
    calibration = Calibration(
        step=examples[0].step,
        versions=examples[0].versions,
        features=names,
        centers=_floats(centers),
        scales=_floats(scales),
        weights=_floats(logistic.coef_[0]),
        bias=float(logistic.intercept_[0]),
        scores=_floats(knots),
        chances=_floats(heights),
        threshold=1.0,
        floor=1.0,
        examples=len(examples),
        kept_share=0.0,
        kept_low=0.0,
        kept_high=0.0,
        wrong_kept=0.0,
        decide_after=examples[0].decide_after,
    )
    figures = Figures(
        examples=len(examples),
        right=float(right.mean()),
        auc=compute_auc(scores, right),
        ece_before=compute_ece(scores, right),
        ece_after=compute_ece(honest, right),
    )
    return Fitted(calibration, _lift(scores, knots, heights), right, figures)


def find_features(evidence: Sequence[Evidence]) -> tuple[str, ...]:
    """Fields that are known of every answer and are not the same for all. Pure."""
    found = []
    for spec in fields(Evidence):
        values = [getattr(one, spec.name) for one in evidence]
        if None not in values and np.std(np.array(values, np.float64)) > _LEAST_SCALE:
            found.append(spec.name)
    return tuple(found)


def fit_isotonic(
    scores: Numbers, right: npt.NDArray[np.bool_], group: int = GROUP
) -> tuple[Numbers, Numbers]:
    """Knots (rising scores) and heights (chances that never fall), by pool adjacent violators over groups.

    group: so many answers of neighbouring scores are one point. Single answers at the ends would be blocks of their
    own, and certain. Heights stay 1 / (group + 2) away from 0 and 1, as by Laplace's rule, and rise by TILT.
    """
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError:
        raise _without_extra() from None
    parts = np.array_split(np.argsort(scores, kind="stable"), max(len(scores) // group, 1))
    least = 1 / (group + 2)
    model = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
    means = np.array([(scores[part].mean(), right[part].mean()) for part in parts])
    model.fit(means[:, 0], means[:, 1], sample_weight=[len(part) for part in parts])
    knots, first = np.unique(np.asarray(model.X_thresholds_, np.float64), return_index=True)
    heights = np.asarray(model.y_thresholds_, np.float64)[first]
    heights = np.maximum.accumulate(np.clip(heights, least, 1 - least))
    return knots, heights + TILT * (knots - knots.mean())


def compute_auc(scores: Numbers, right: npt.NDArray[np.bool_]) -> float:
    """The chance that a right answer's score is above a wrong one's; ties count half."""
    order = np.argsort(scores, kind="stable")
    _, place, counts = np.unique(scores[order], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[place]
    good = right[order]
    positives, negatives = int(good.sum()), int((~good).sum())
    return float((ranks[good].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def compute_ece(chances: Numbers, right: npt.NDArray[np.bool_], bins: int = BINS) -> float:
    """The mean distance of chance and share of right answers, over bins of equally many answers by chance."""
    parts = np.array_split(np.argsort(chances, kind="stable"), bins)
    gaps = [abs(float(chances[part].mean() - right[part].mean())) * len(part) for part in parts if len(part)]
    return sum(gaps) / len(chances)


def _check(examples: Sequence[Labelled]) -> None:
    if len(examples) < LEAST_EXAMPLES:
        raise InvalidInputError(f"{len(examples)} labelled answers; at least {LEAST_EXAMPLES} are needed")
    for name, values in (
        ("steps", {one.step for one in examples}),
        ("versions", {one.versions for one in examples}),
        ("kinds (decide_after)", {one.decide_after for one in examples}),
    ):
        if len(values) > 1:
            raise InvalidInputError(f"the answers are of {len(values)} {name}; fit each on its own")
    for name, count in (
        ("right", sum(one.right for one in examples)),
        ("wrong", sum(not one.right for one in examples)),
    ):
        if count < LEAST_OF_A_KIND:
            raise InvalidInputError(
                f"{count} of the {len(examples)} answers are {name}; at least {LEAST_OF_A_KIND} are needed"
            )


def _fit_logistic(values: Numbers, right: npt.NDArray[np.bool_]) -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise _without_extra() from None
    return LogisticRegression(max_iter=1000).fit(values, right)


def _split(right: npt.NDArray[np.bool_], seed: int) -> list[tuple[Any, Any]]:
    from sklearn.model_selection import StratifiedKFold

    return list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(right, right))


def _lift(scores: Numbers, knots: Numbers, heights: Numbers) -> Numbers:
    """As Calibration.chance does, so that a threshold means the same here and there."""
    lists = knots.tolist(), heights.tolist()
    return np.array([interpolate(score, *lists) for score in scores.tolist()])


def _floats(values: Numbers) -> tuple[float, ...]:
    return tuple(map(float, values))


def _without_extra() -> UnsupportedError:
    return UnsupportedError("the fit needs scikit-learn; install the build extra: pip install -e '.[build]'")
