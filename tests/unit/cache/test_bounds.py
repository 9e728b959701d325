"""Limits of Clopper and Pearson."""

import pytest

from trireme.cache.bounds import interval, lower_limit, needed_checks, upper_limit
from trireme.errors import InvalidInputError

# Of scipy.stats.beta.ppf: (false, checks, lower, upper) at one-sided 95 %.
KNOWN = [
    (0, 1, 0.000000000, 0.950000000),
    (1, 1, 0.050000000, 1.000000000),
    (0, 299, 0.000000000, 0.009969147),
    (1, 300, 0.000170963, 0.015714555),
    (1, 473, 0.000108437, 0.009989707),
    (10, 3000, 0.001809547, 0.005647512),
    (4999, 5000, 0.999051582, 0.999989741),
    (50, 100000, 0.000389667, 0.000632829),
]


@pytest.mark.parametrize(("false", "checks", "lower", "upper"), KNOWN)
def test_the_limits_are_those_of_the_beta_distribution(false, checks, lower, upper):
    assert lower_limit(false, checks) == pytest.approx(lower, abs=2e-6)
    assert upper_limit(false, checks) == pytest.approx(upper, abs=2e-6)


def test_the_limits_are_as_scipy_has_them():
    beta = pytest.importorskip("scipy.stats").beta
    for checks in (1, 2, 7, 60, 1000, 20_000):
        for false in {0, 1, checks // 3, checks - 1, checks} & set(range(checks + 1)):
            if false < checks:
                assert upper_limit(false, checks) == pytest.approx(beta.ppf(0.95, false + 1, checks - false))
            if false:
                assert lower_limit(false, checks) == pytest.approx(beta.ppf(0.05, false, checks - false + 1))


def test_without_checks_nothing_is_known():
    assert (lower_limit(0, 0), upper_limit(0, 0)) == (0.0, 1.0)


def test_an_interval_has_two_sides():
    assert interval(50, 100) == pytest.approx((0.398321, 0.601679), abs=1e-5)
    assert interval(0, 10) == pytest.approx((0.0, 0.308497), abs=1e-5)


def test_three_hundred_checks_without_a_false_one_are_needed_for_one_percent():
    assert [needed_checks(share) for share in (0.05, 0.01, 0.001)] == [59, 299, 2995]
    for share in (0.05, 0.01, 0.001):
        assert upper_limit(0, needed_checks(share)) <= share < upper_limit(0, needed_checks(share) - 1)


@pytest.mark.parametrize(("false", "checks"), [(-1, 3), (4, 3), (0, -1)])
def test_counts_that_cannot_be_are_refused(false, checks):
    with pytest.raises(InvalidInputError):
        upper_limit(false, checks)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_cannot_be_promised_is_refused(share):
    with pytest.raises(InvalidInputError):
        needed_checks(share)
