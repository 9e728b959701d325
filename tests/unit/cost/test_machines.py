import random
from fractions import Fraction
from itertools import pairwise

import pytest

from trireme.cost.machines import (
    DAY,
    HOUR,
    HourPrice,
    Span,
    always_up,
    by_day,
    cost_of,
    cut,
    milliseconds_of,
    round_together,
)

DOLLAR = 1_000_000_000
PRICES = {"gpu": (HourPrice(0, 3 * DOLLAR + DOLLAR // 2), HourPrice(DAY, 2 * DOLLAR))}


def span(start, end, kind="gpu", machine="m", release="v1"):
    return Span(machine, kind, release, start, end)


def test_an_hour_costs_the_price_of_an_hour():
    assert cost_of([span(0, HOUR)], PRICES) == 3_500_000_000
    assert cost_of([span(0, HOUR), span(0, HOUR, machine="n")], PRICES) == 7_000_000_000
    assert cost_of([span(0, 1)], PRICES) == Fraction(3_500_000_000, 3_600_000)


def test_each_second_has_the_price_of_its_time():
    assert cost_of([span(DAY - HOUR, DAY + 2 * HOUR)], PRICES) == 3_500_000_000 + 2 * 2_000_000_000


def test_before_the_first_price_and_of_an_unknown_kind_nothing_is_known():
    assert cost_of([span(-5 * HOUR, 0)], PRICES) == 0
    assert cost_of([span(-5 * HOUR, HOUR)], PRICES) == 3_500_000_000
    assert cost_of([span(0, HOUR, kind="cpu")], PRICES) == 0


def test_what_is_paid_for_all_the_time_is_up_from_its_price_on():
    prices = {"db": (HourPrice(HOUR, DOLLAR, always=2), HourPrice(3 * HOUR, DOLLAR))}
    found = always_up(prices, 0, DAY)
    assert found == [
        Span("db-1", "db", "", HOUR, 3 * HOUR),
        Span("db-2", "db", "", HOUR, 3 * HOUR),
    ]
    assert cost_of(found, prices) == 4 * DOLLAR
    assert always_up(prices, 2 * HOUR, 2 * HOUR + 1)[0].start == 2 * HOUR
    assert always_up(PRICES, 0, DAY) == []


def test_what_is_to_come_is_not_paid_for_yet():
    prices = {"db": (HourPrice(0, DOLLAR, always=1),)}
    assert always_up(prices, DAY, 9 * DAY, DAY + HOUR) == [Span("db-1", "db", "", DAY, DAY + HOUR)]
    assert always_up(prices, 2 * DAY, 9 * DAY, DAY) == []
    # By the clock, however far away the end is.
    far = 250_000_000_000_000
    (found,) = always_up(prices, 0, far)
    assert found.end < far


def test_spans_are_cut_and_what_lies_outside_is_left_out():
    spans = [span(0, 10), span(20, 30), span(40, 50)]
    assert list(cut(spans, 5, 25)) == [span(5, 10), span(20, 25)]
    assert list(cut(spans, 10, 20)) == []


def test_a_span_over_midnight_belongs_to_both_days():
    pieces = list(by_day([span(DAY - 1, 2 * DAY + 5)]))
    assert pieces == [
        (0, span(DAY - 1, DAY)),
        (DAY, span(DAY, 2 * DAY)),
        (2 * DAY, span(2 * DAY, 2 * DAY + 5)),
    ]


def random_spans(chance, count):
    starts = [chance.randrange(5 * DAY) for _ in range(count)]
    kinds = ["gpu", "cpu"]
    return [span(at, at + chance.randrange(DAY), chance.choice(kinds)) for at in starts]


@pytest.mark.parametrize("seed", range(50))
def test_any_division_of_the_time_has_the_cost_of_the_whole(seed):
    chance = random.Random(seed)
    prices = {
        kind: tuple(
            HourPrice(since, chance.randrange(10**11))
            for since in sorted(chance.sample(range(6 * DAY), chance.randrange(1, 5)))
        )
        for kind in ("gpu", "cpu")
    }
    spans = random_spans(chance, 20)
    marks = [0, *sorted(chance.sample(range(1, 7 * DAY), 9)), 7 * DAY]
    parts = [list(cut(spans, first, last)) for first, last in pairwise(marks)]
    assert sum(cost_of(part, prices) for part in parts) == cost_of(spans, prices)
    assert sum(milliseconds_of(part) for part in parts) == milliseconds_of(spans)
    days = [piece for _, piece in by_day(spans)]
    assert cost_of(days, prices) == cost_of(spans, prices)
    assert sum(cost_of([one], prices) for one in spans) == cost_of(spans, prices)


@pytest.mark.parametrize("seed", range(50))
def test_parts_that_are_rounded_together_make_the_rounded_whole(seed):
    chance = random.Random(seed)
    parts = [
        Fraction(chance.randrange(-(10**12), 10**15), chance.randrange(1, 10**7))
        for _ in range(chance.randrange(40))
    ]
    rounded = round_together(parts)
    assert sum(rounded) == round(sum(parts))
    assert all(abs(whole - part) <= 1 for whole, part in zip(rounded, parts, strict=True))
