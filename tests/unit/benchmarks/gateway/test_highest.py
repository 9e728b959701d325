import itertools

import pytest

from benchmarks.gateway.highest import STEP, find_highest, make_grid

GRID = make_grid(5.0, 2000.0)


def test_a_grid_ascends_in_steps_of_a_tenth_within_its_bounds():
    assert GRID[0] == 5.0 and GRID[-1] <= 2000 < GRID[-1] * STEP
    assert all(1.05 < later / earlier < 1.15 for earlier, later in itertools.pairwise(GRID))


@pytest.mark.parametrize("true", [5.0, 7.0, 49.0, 51.0, 200.0, 1999.0])
def test_the_highest_rate_that_holds_is_found_in_few_tries(true):
    tried = []

    def holds(rate):
        tried.append(rate)
        return rate <= true

    assert find_highest(GRID, holds) == max(rate for rate in GRID if rate <= true)
    assert len(tried) == len(set(tried)) <= 13


def test_nothing_holds_or_everything_does():
    assert find_highest(GRID, lambda _: False) == 0.0
    assert find_highest(GRID, lambda _: True) == GRID[-1]
