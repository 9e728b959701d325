import random
from fractions import Fraction

import pytest

from trireme.cost.machines import DAY, HOUR, HourPrice, Span
from trireme.cost.port import CostGroup
from trireme.cost.report import CostLine, MachineLine, make_report, per_million_tokens, per_success

DOLLAR = 1_000_000_000
PRICES = {"gpu": (HourPrice(0, 2 * DOLLAR),)}


def group(name, own=0, provider=0, **more):
    return CostGroup(name, own_nanos=own, provider_nanos=provider, **more)


def report(by, groups, whole, spans=(), *, prices=PRICES, end=2 * DAY):
    return make_report(by, 0, end, groups, whole, spans=spans, prices=prices)


def up(hours, release="v1", start=0, kind="gpu"):
    return Span("m", kind, release, start, start + hours * HOUR)


def test_a_machine_is_paid_for_also_where_it_does_nothing():
    made = report(
        "tenant", [group("acme", own=3 * DOLLAR, provider=DOLLAR)], group("", 3 * DOLLAR, DOLLAR), [up(5)]
    )
    assert made.machines == (MachineLine("gpu", 5 * HOUR, 10 * DOLLAR, True),)
    assert made.bill_nanos == 11 * DOLLAR
    # 10 dollars of machines of which 3 were used.
    assert made.total.idle_nanos == 7 * DOLLAR
    assert made.total.usage_nanos == 4 * DOLLAR
    assert made.total.allocation_nanos == 11 * DOLLAR
    # Whose an idle second is nobody knows: it is spread over no tenant.
    assert [line.idle_nanos for line in made.lines] == [None]
    assert made.unexplained_nanos == 0


def test_a_release_pays_for_its_own_machines():
    groups = [group("v1", own=DOLLAR), group("v2", own=2 * DOLLAR)]
    made = report("release", groups, group("", 3 * DOLLAR), [up(1), up(3, "v2"), up(1, "v3")])
    assert [(line.group.name, line.idle_nanos, line.machine_milliseconds) for line in made.lines] == [
        ("v1", DOLLAR, HOUR),
        ("v2", 4 * DOLLAR, 3 * HOUR),
        # It was up and answered nothing.
        ("v3", 2 * DOLLAR, HOUR),
    ]
    assert made.unexplained_nanos == 0


def test_a_day_pays_for_its_own_hours():
    made = report("day", [group("1970-01-02", own=DOLLAR)], group("", DOLLAR), [up(4, start=DAY - HOUR)])
    assert [(line.group.name, line.idle_nanos) for line in made.lines] == [
        ("1970-01-01", 2 * DOLLAR),
        ("1970-01-02", 5 * DOLLAR),
    ]


def test_without_machines_the_bill_is_what_was_charged():
    made = report("model", [group("a", 5, 7)], group("", 5, 7))
    assert made.bill_nanos == 12
    assert made.total == CostLine(group("total", 5, 7))
    assert made.unexplained_nanos == 0


def test_more_charged_than_machines_cost_is_less_than_nothing_idle():
    made = report("all", [group("", own=5 * DOLLAR)], group("", own=5 * DOLLAR), [up(1)])
    assert made.total.idle_nanos == -3 * DOLLAR
    assert made.unexplained_nanos == 0


def test_a_kind_without_a_price_is_named_and_costs_nothing():
    made = report("all", [], group(""), [up(1, kind="tpu"), up(1)])
    assert made.machines == (
        MachineLine("gpu", HOUR, 2 * DOLLAR, True),
        MachineLine("tpu", HOUR, 0, False),
    )


def test_a_row_that_was_counted_twice_is_found():
    made = report("model", [group("a", 5), group("b", 5)], group("", 5), [up(1)])
    assert made.unexplained_nanos == -5


def test_cost_of_a_success_is_all_cost_by_those_that_succeeded():
    assert per_success(10, group("", succeeded=4, failed=3, requests=9)) == Fraction(5, 2)
    assert per_success(10, group("", failed=3)) is None


def test_cost_of_a_million_tokens_counts_those_read_and_those_written():
    assert per_million_tokens(5, group("", input_tokens=1_500_000, output_tokens=500_000)) == Fraction(5, 2)
    assert per_million_tokens(5, group("")) is None


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("by", ["release", "day", "model", "all"])
def test_lines_and_idle_are_the_bill_whatever_was_up_and_used(by, seed):
    chance = random.Random(seed)
    names = {"day": ["1970-01-01", "1970-01-03"], "all": [""]}.get(by, ["v1", "v2", ""])
    groups = [group(name, chance.randrange(10**13), chance.randrange(10**13)) for name in names]
    whole = group("", sum(one.own_nanos for one in groups), sum(one.provider_nanos for one in groups))
    spans = [
        Span(
            f"m{n}",
            chance.choice(["gpu", "cpu"]),
            chance.choice(["v1", "v3"]),
            at,
            at + chance.randrange(1, DAY),
        )
        for n in range(15)
        for at in [chance.randrange(3 * DAY)]
    ]
    prices = {
        "gpu": (HourPrice(0, chance.randrange(10**10)), HourPrice(chance.randrange(1, DAY), 7)),
        "cpu": (HourPrice(DAY, 333_333_333, always=2),),
    }
    made = report(by, groups, whole, spans, prices=prices, end=4 * DAY)
    assert made.unexplained_nanos == 0
    if by != "model":
        assert sum(line.allocation_nanos for line in made.lines) == made.bill_nanos
        assert sum(line.machine_milliseconds for line in made.lines) == made.total.machine_milliseconds
    assert made.total.allocation_nanos == made.bill_nanos
