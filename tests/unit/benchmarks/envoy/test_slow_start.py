"""The share of a new replica, of calls whose times are known."""

import pytest

from benchmarks.envoy.slow_start import SPANS, WAYS, count_shares
from trireme.scale.values import parse_values


def test_the_share_of_the_new_one_is_counted_from_its_first_call_on():
    old = [100.0 + 0.1 * k for k in range(600)]
    new = [at for at in old if at >= 105.0]
    shares, first = count_shares([old, old, new], began=104.5)
    assert first == pytest.approx(0.5)
    assert shares == pytest.approx([1 / 3] * len(SPANS), abs=0.02)


def test_a_replica_that_gets_no_call_has_no_share():
    assert count_shares([[1.0, 2.0], []], began=0.0) == ([0.0] * len(SPANS), -1.0)


def test_every_way_is_one_that_envoy_takes():
    for settings in WAYS.values():
        parse_values({"models": {"all": {"serves": ["all"]}}, "envoy": settings}, "v")
