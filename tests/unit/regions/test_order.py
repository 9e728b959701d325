import random

import pytest

from trireme.regions.options import RegionOptions
from trireme.regions.order import Nearer, Order
from trireme.regions.round_trips import RoundTrips

RULE = Nearer(percent=25, seconds=0.005, hold=30.0)


def ordered(order, seconds, **milliseconds):
    """The order after `seconds` in which the round trips were these, looked at each second."""
    begin = getattr(order, "clock", 0)
    for now in range(begin, begin + seconds + 1):
        found = order.look({one: None if ms is None else ms / 1000 for one, ms in milliseconds.items()}, now)
    order.clock = now + 1
    return "".join(found)


class Clocked(Order):
    clock = 0


def placed(names):
    return Clocked(names, names, RULE)


@pytest.mark.parametrize(
    ("seconds", "b", "c", "expected"),
    [
        # Nearer by a quarter and by 5 ms, for 30 s.
        (30, 80, 60, "cb"),
        (29, 80, 60, "bc"),
        (600, 80, 61, "bc"),
        (600, 18, 12, "cb"),
        # By more than a quarter, and less than 5 ms.
        (600, 16, 12, "bc"),
        (600, 5, 0.1, "bc"),
        # By more than 5 ms, and less than a quarter.
        (600, 200, 155, "bc"),
        # The first is the nearer one.
        (600, 30, 82, "bc"),
        (600, 50, 50, "bc"),
    ],
)
def test_a_region_goes_before_another_that_is_farther_by_both_for_long_enough(seconds, b, c, expected):
    assert ordered(placed("bc"), seconds, b=b, c=c) == expected


def test_what_is_nearer_for_a_while_and_then_is_not_begins_anew():
    order = placed("bc")
    assert ordered(order, 29, b=80, c=40) == "bc"
    assert ordered(order, 0, b=80, c=79) == "bc"
    assert ordered(order, 29, b=80, c=40) == "bc"
    assert ordered(order, 1, b=80, c=40) == "cb"


def test_a_region_that_was_passed_comes_back_by_the_same_rule():
    order = placed("bc")
    assert ordered(order, 30, b=80, c=40) == "cb"
    assert ordered(order, 600, b=35, c=40) == "cb"
    assert ordered(order, 30, b=25, c=40) == "bc"


def test_one_that_becomes_the_nearest_passes_all_others_at_once():
    assert ordered(placed("bcd"), 30, b=80, c=75, d=20) == "dbc"


def test_one_that_is_near_enough_to_its_neighbour_does_not_pass_it_to_pass_another():
    # d is nearer than b by more than a quarter, than c it is not.
    assert ordered(placed("bcd"), 600, b=100, c=80, d=70) == "bcd"
    assert ordered(placed("bcd"), 600, b=100, c=80, d=55) == "dbc"


def test_a_region_that_does_not_answer_keeps_its_place():
    assert ordered(placed("bc"), 600, b=None, c=5) == "bc"
    assert ordered(placed("bc"), 600, b=80, c=None) == "bc"
    assert ordered(placed("bcd"), 600, b=None, c=80, d=20) == "bdc"
    # In the middle: the others change places around it.
    assert ordered(placed("bcd"), 600, b=80, c=None, d=20) == "dcb"


def test_the_time_that_a_region_was_nearer_is_forgotten_with_its_round_trip():
    order = placed("bc")
    assert ordered(order, 29, b=80, c=40) == "bc"
    assert ordered(order, 0, b=80, c=None) == "bc"
    assert ordered(order, 29, b=80, c=40) == "bc"


def test_regions_without_a_place_get_one_as_soon_as_their_round_trip_is_known():
    order = Clocked("bcd", "", RULE)
    assert "".join(order.regions) == "bcd"
    assert ordered(order, 0, b=80, c=None, d=None) == "bcd"
    assert ordered(order, 0, b=80, c=30, d=None) == "cbd"
    assert ordered(order, 0, b=80, c=30, d=50) == "cdb"
    # Then they have one.
    assert ordered(order, 29, b=20, c=30, d=50) == "cdb"


def test_places_that_were_there_before_hold_and_names_that_are_gone_are_left_out():
    order = Clocked("bcd", ["x", "d", "b"], RULE)
    assert "".join(order.regions) == "dbc"
    assert ordered(order, 0, b=80, c=90, d=85) == "dbc"


def medians(seeds, trips, seconds, options, jitter):
    """Orders over time, of probes each second that are off by up to `jitter`."""
    random_ones = random.Random(seeds)
    rule = Nearer(options.nearer_percent, options.nearer, options.hold)
    order = Order(trips(0), trips(0), rule)
    known = {one: RoundTrips(options.window, options.misses) for one in trips(0)}
    for now in range(seconds):
        for one, seconds_there in trips(now).items():
            known[one].hear(seconds_there * random_ones.uniform(1 - jitter, 1 + jitter))
        yield now, order.look({one: heard.median for one, heard in known.items()}, now)


@pytest.fixture
def options(tmp_path):
    return RegionOptions(tmp_path, tmp_path)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("trip", [0.007, 0.082, 0.3])
def test_a_fifth_of_jitter_around_equal_round_trips_never_changes_the_order(options, seed, trip):
    hours = 6 * 3600
    found = {order for _, order in medians(seed, lambda _: {"b": trip, "c": trip}, hours, options, 0.2)}
    assert found == {("b", "c")}


def test_medians_at_the_very_ends_of_a_tenth_of_jitter_never_do():
    assert RULE.is_met(0.9, 1.1) is False


@pytest.mark.parametrize("seed", range(5))
def test_a_way_that_falls_from_82_to_30_ms_moves_its_region_within_40_s(options, seed):
    change = 100

    def trips(now):
        return {"b": 0.06, "c": 0.082 if now < change else 0.03}

    orders = dict(medians(seed, trips, change + 60, options, 0.2))
    assert {orders[now] for now in range(change + int(options.hold))} == {("b", "c")}
    moved = next(now for now, order in orders.items() if order == ("c", "b"))
    assert moved - change <= 40
    assert {orders[now] for now in range(moved, change + 60)} == {("c", "b")}
