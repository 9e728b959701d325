"""Limits of a share that was counted: Clopper and Pearson 1934, by the incomplete beta function."""

from __future__ import annotations

import math

from trireme.errors import InvalidInputError

CONFIDENCE = 0.95
_HALVINGS = 60
_TERMS = 500
_TINY = 1e-300


def upper_limit(false: int, checks: int, confidence: float = CONFIDENCE) -> float:
    """One-sided upper limit of the true share, with `false` among `checks`. 1.0 without checks.

    Raises InvalidInputError for counts that cannot be.
    """
    _check(false, checks, confidence)
    if false == checks:
        return 1.0
    return _quantile(confidence, false + 1.0, checks - false)


def lower_limit(false: int, checks: int, confidence: float = CONFIDENCE) -> float:
    """One-sided lower limit of the true share. 0.0 without a false one. Raises as `upper_limit`."""
    _check(false, checks, confidence)
    if false == 0:
        return 0.0
    return _quantile(1 - confidence, false, checks - false + 1.0)


def interval(hits: int, tries: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided limits of hits / tries. Raises as `upper_limit`."""
    side = (1 + confidence) / 2
    return lower_limit(hits, tries, side), upper_limit(hits, tries, side)


def needed_checks(share: float, confidence: float = CONFIDENCE) -> int:
    """The fewest checks, none of them false, whose upper limit is at most `share`, which lies between 0 and 1.

    299 for 1 %, 2,995 for 0.1 %.
    """
    if not 0 < share < 1:
        raise InvalidInputError(f"a share must lie between 0 and 1, got {share}")
    # Of zero false ones the limit is 1 - (1 - confidence) ** (1 / n).
    return math.ceil(math.log(1 - confidence) / math.log1p(-share))


def _check(false: int, checks: int, confidence: float) -> None:
    if not 0 <= false <= checks:
        raise InvalidInputError(f"{false} of {checks} cannot be counted")
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence must lie between 0 and 1, got {confidence}")


def _quantile(probability: float, a: float, b: float) -> float:
    """Where the beta distribution (a, b) has `probability` below it, by halving."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _beta_share(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta_share(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    # The fraction converges fast on one side of the mean; the other side is its mirror.
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of I_x(a, b) by Lentz's method (Numerical Recipes, 6.4)."""
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > _TINY else _TINY)
    value = d
    for m in range(1, _TERMS):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + numerator * d
            d = 1 / (d if abs(d) > _TINY else _TINY)
            c = 1 + numerator / c
            c = c if abs(c) > _TINY else _TINY
            value *= d * c
        if abs(d * c - 1) < 1e-12:
            break
    return value
