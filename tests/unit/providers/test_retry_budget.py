"""Retries as a share of the traffic, on a clock that the test moves."""

import random

from fakes.providers import Clock
from trireme.providers.retry_budget import HALF_LIFE, RetryBudget


def take_all(budget):
    count = 0
    while budget.take_retry():
        count += 1
    return count


def test_a_quiet_gateway_may_retry_up_to_the_floor():
    assert take_all(RetryBudget(0.1, Clock(), floor=3.0)) == 3


def test_requests_allow_their_share_beside_the_floor():
    budget = RetryBudget(0.1, Clock(), floor=3.0)
    for _ in range(100):
        budget.count_request()
    assert take_all(budget) == 13


def test_a_refused_retry_does_not_count():
    budget = RetryBudget(0.5, Clock(), floor=0.0)
    assert not budget.take_retry()
    budget.count_request()
    budget.count_request()
    assert budget.take_retry()


def test_retries_are_forgotten_by_half_in_each_half_life():
    clock = Clock()
    budget = RetryBudget(0.0, clock, floor=4.0)
    assert take_all(budget) == 4
    clock.move(HALF_LIFE)
    assert take_all(budget) == 2


def test_traffic_of_long_ago_allows_nothing():
    clock = Clock()
    budget = RetryBudget(0.1, clock, floor=0.0)
    for _ in range(1000):
        budget.count_request()
    clock.move(20 * HALF_LIFE)
    assert not budget.take_retry()


def test_a_storm_gets_the_share_and_not_more():
    clock, draw = Clock(), random.Random(4)
    budget = RetryBudget(0.1, clock, floor=3.0)
    requests, retries = 20_000, 0
    for _ in range(requests):
        clock.move(draw.expovariate(100.0))
        budget.count_request()
        retries += budget.take_retry()
    # Beside the share: the floor, which is used anew as it is forgotten, ln 2 of it in a half-life.
    most = 0.1 * requests + 3.0 * (1 + 0.7 * (clock() - 1000.0) / HALF_LIFE)
    assert 0.09 * requests < retries <= most
