"""One suite for every CostBook, the fake in memory and the real PostgreSQL: figures that a person can reckon."""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise

import psycopg
import pytest

from fakes.memory_costs import MemoryCosts
from fakes.memory_ledger import MemoryLedger
from trireme.budget.ledger import MOST_MODELS, OTHER, REVERSED, LedgerRow, Recorded
from trireme.cost.machines import HOUR, HourPrice, Span
from trireme.cost.port import COST_BY, Beat, CostGroup, CostQuery, Own
from trireme.cost.report import read_report
from trireme.errors import InvalidInputError
from trireme.storage import open_costs, open_ledger

NOON = round(datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp() * 1000)
DAY = 24 * HOUR
OWN = Own(("local",), ("rented:big",))


class MemoryWorld:
    """A ledger and its book in one process."""

    def __init__(self):
        self.ledger = MemoryLedger()
        self.book = MemoryCosts(self.ledger, lambda: NOON)

    def open(self):
        return self.book

    def close(self):
        pass


class PostgresWorld:
    """Books over one database, which is emptied as its owner alone can."""

    def __init__(self, url):
        self.url = url
        self.ledger = open_ledger(url)
        self.opened = [self.ledger]

    def open(self):
        self.opened.append(open_costs(self.url))
        return self.opened[-1]

    def close(self):
        for one in self.opened:
            one.close()
        with psycopg.connect(self.url) as connection:
            connection.execute("ALTER TABLE trireme.ledger DISABLE TRIGGER append_only")
            connection.execute("TRUNCATE trireme.ledger, trireme.machine_spans")
            connection.execute("ALTER TABLE trireme.ledger ENABLE TRIGGER append_only")


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def world(request):
    """A ledger, and what opens books over it."""
    is_fake = request.param == "memory"
    with closing(
        MemoryWorld() if is_fake else PostgresWorld(request.getfixturevalue("database").url)
    ) as made:
        yield made


@pytest.fixture
def book(world):
    return world.open()


def row(attempt, **changes):
    fields = {
        "request": f"req of {attempt}",
        "tenant": "acme",
        "user": "ann",
        "key": "key_a",
        "endpoint": "chat",
        "provider": "local",
        "asked": "llm",
        "served": "local:llm",
        "at": NOON,
        "outcome": "ok",
        **changes,
    }
    return Recorded(LedgerRow(attempt, **fields))


def groups(book, by="all", start=0, end=2 * NOON, own=OWN, **scope):
    return book.groups(CostQuery(start, end, by, own, **scope))


def test_an_empty_ledger_has_no_group(book):
    assert [groups(book, by) for by in COST_BY] == [[]] * len(COST_BY)


def test_a_request_that_a_fallback_answered_succeeded_once_and_costs_all_its_attempts(world, book):
    world.ledger.record(
        [
            row("a1", request="r", served="p:x", provider="p", outcome="unavailable", nanos=5, total_ms=100),
            row(
                "a2",
                request="r",
                nanos=7,
                input_tokens=10,
                cached_tokens=4,
                output_tokens=3,
                total_ms=20,
                first_ms=8,
            ),
        ]
    )
    assert groups(book) == [CostGroup("", 1, 1, 0, 2, 10, 4, 3, 7, 5, 0, 120, (20, 20), (8, 8))]
    # In the group of the target that failed it did not succeed.
    assert [(one.name, one.succeeded, one.failed) for one in groups(book, "model")] == [
        ("local:llm", 1, 0),
        ("p:x", 0, 1),
    ]


def test_escalated_left_and_unheld_requests_neither_succeeded_nor_failed(world, book):
    ends = ("ok", "stopped", "escalated", "client_gone", "unheld", "cut", "expired", "invalid_input")
    world.ledger.record([row(f"a{n}", outcome=end) for n, end in enumerate(ends)])
    (one,) = groups(book)
    assert (one.requests, one.succeeded, one.failed) == (8, 2, 3)


def test_an_expiry_that_was_taken_back_is_one_attempt_that_succeeded(world, book):
    world.ledger.record(
        [
            row("a1.expired", request="r", outcome="expired", nanos=9, input_tokens=9),
            row(f"a1{REVERSED}", request="r", outcome="expired", nanos=-9, input_tokens=-9),
            row("a1", request="r", nanos=4, input_tokens=5),
        ]
    )
    (one,) = groups(book)
    assert (one.requests, one.succeeded, one.failed, one.attempts) == (1, 1, 0, 1)
    assert (one.own_nanos, one.input_tokens) == (4, 5)


def test_own_are_rows_of_own_providers_and_of_targets_by_the_hour(world, book):
    world.ledger.record(
        [
            row("a1", nanos=1),
            row("a2", provider="rented", served="rented:big", nanos=10),
            row("a3", provider="rented", served="rented:small", nanos=100),
        ]
    )
    (one,) = groups(book)
    assert (one.own_nanos, one.provider_nanos) == (11, 100)
    (one,) = groups(book, own=Own())
    assert (one.own_nanos, one.provider_nanos) == (0, 111)


def test_hits_of_caches_succeed_and_say_nothing_of_how_long_models_take(world, book):
    world.ledger.record(
        [row("a1", tier="exact", saved_nanos=50, total_ms=1, first_ms=1), row("a2", total_ms=900, nanos=50)]
    )
    assert [(one.name, one.succeeded, one.saved_nanos, one.took) for one in groups(book, "tier")] == [
        ("", 1, 0, (900, 900)),
        ("exact", 1, 50, None),
    ]


def test_the_median_and_the_95th_percentile_are_times_that_were(world, book):
    world.ledger.record([row(f"a{n}", total_ms=n, first_ms=n // 2) for n in range(1, 101)])
    (one,) = groups(book)
    assert one.took == (50, 95)
    assert one.first == (25, 47)


@pytest.mark.parametrize(
    ("by", "field"),
    [("tenant", "tenant"), ("model", "served"), ("step", "step"), ("tier", "tier"), ("release", "release")],
)
def test_groups_come_the_dearest_first(world, book, by, field):
    world.ledger.record(
        [row(f"a{n}", nanos=n, **{field: name}) for n, name in enumerate(("b", "", "a"))]
        + [row("a9", nanos=9, **{field: "b"})]
    )
    assert [(one.name, one.own_nanos) for one in groups(book, by)] == [("b", 9), ("a", 2), ("", 1)]


def test_days_are_those_of_utc_in_their_order_and_a_span_has_its_first_millisecond(world, book):
    midnight = NOON + 12 * HOUR
    world.ledger.record([row("a1", at=midnight), row("a2", at=midnight - 1), row("a3", at=midnight + DAY)])
    assert [one.name for one in groups(book, "day")] == ["2026-11-29", "2026-11-30", "2026-12-01"]
    assert [one.name for one in groups(book, "day", midnight, midnight + DAY)] == ["2026-11-30"]


def test_a_scope_has_no_row_of_another_tenant_or_user(world, book):
    world.ledger.record(
        [row("a1", nanos=1), row("a2", user="bob", nanos=10), row("a3", tenant="other", nanos=100)]
    )
    assert groups(book, tenant="acme")[0].own_nanos == 11
    assert groups(book, tenant="acme", user="bob")[0].own_nanos == 10
    assert groups(book, tenant="nobody") == []


def test_a_group_that_nobody_knows_is_refused(book):
    with pytest.raises(InvalidInputError) as caught:
        groups(book, "key; DROP TABLE trireme.ledger")
    assert caught.value.param == "by"


def charges(book, start=0, end=2 * NOON, tenant=""):
    found = []
    book.charges(start, end, OWN, tenant, found.extend)
    return found


def test_attempts_of_one_hour_that_are_alike_are_one_charge(world, book):
    world.ledger.record(
        [
            row("a1", request="r", nanos=1, input_tokens=2, output_tokens=3, release="v1", prices="file"),
            row("a2", request="r", at=NOON + 5, nanos=10, cached_tokens=1, release="v1", prices="file"),
            row("a3", at=NOON + HOUR, nanos=100, release="v1", prices="file"),
            row("a4", at=NOON - 1, tier="exact", saved_nanos=1_000),
            row("a5", tenant="other", provider="p", served="p:m", nanos=7),
        ]
    )
    found = charges(book)
    assert [(one.hour - NOON, one.tenant, one.tier, one.is_own, one.nanos) for one in found] == [
        (-HOUR, "acme", "exact", True, 0),
        (0, "acme", "", True, 11),
        (0, "other", "", False, 7),
        (HOUR, "acme", "", True, 100),
    ]
    assert asdict(found[1]) == {
        "hour": NOON,
        "tenant": "acme",
        "user": "ann",
        "endpoint": "chat",
        "provider": "local",
        "asked": "llm",
        "served": "local:llm",
        "tier": "",
        "step": "",
        "release": "v1",
        "prices": "file",
        "is_own": True,
        "requests": 1,
        "attempts": 2,
        "input_tokens": 2,
        "cached_tokens": 1,
        "output_tokens": 3,
        "nanos": 11,
        "saved_nanos": 0,
    }
    assert found[0].saved_nanos == 1_000
    assert [one.tenant for one in charges(book, tenant="other")] == ["other"]
    assert charges(book, NOON + 2 * HOUR) == []


def test_charges_come_in_parts_and_an_error_of_the_taker_is_raised(world, book):
    world.ledger.record([row(f"a{n}", user=f"u{n}") for n in range(2_500)])
    sizes = []
    book.charges(0, 2 * NOON, OWN, "", lambda some: sizes.append(len(some)))
    assert sum(sizes) == 2_500
    assert len(sizes) > 2
    with pytest.raises(ZeroDivisionError):
        book.charges(0, 2 * NOON, OWN, "", lambda some: 1 / 0)
    assert len(charges(book)) == 2_500


def beats(book, *seconds, machine="m1", kind="gpu", release="v1"):
    for second in seconds:
        book.beat(Beat(machine, kind, release, NOON + second * 1000))


def spans(book, start=-DAY, end=DAY):
    """Machine, kind, release, and seconds behind noon."""
    return [
        (one.machine, one.kind, one.release, (one.start - NOON) / 1000, (one.end - NOON) / 1000)
        for one in book.spans(NOON + start, NOON + end)
    ]


def test_beats_of_a_machine_are_one_span_until_it_was_silent_for_too_long(book):
    beats(book, 0, 60, 120, 270, 421, 481)
    assert spans(book) == [("m1", "gpu", "v1", 0, 270), ("m1", "gpu", "v1", 421, 481)]


def test_a_machine_that_beat_once_was_up_for_no_time(book):
    beats(book, 0)
    assert spans(book) == []


def test_another_release_or_kind_goes_on_where_the_span_before_ended(book):
    beats(book, 0, 60)
    beats(book, 120, 180, release="v2")
    beats(book, 190, kind="cpu")
    assert spans(book) == [
        ("m1", "gpu", "v1", 0, 60),
        ("m1", "gpu", "v2", 60, 180),
        ("m1", "cpu", "v1", 180, 190),
    ]


def test_a_clock_that_goes_back_makes_no_spans_overlap(book):
    beats(book, 0, 60, 50)
    beats(book, 40, 100, release="v2")
    assert spans(book) == [("m1", "gpu", "v1", 0, 60), ("m1", "gpu", "v2", 60, 100)]


def test_spans_are_cut_to_the_time_that_is_asked_for(book):
    beats(book, 0, 100, 200)
    beats(book, 0, 100, machine="m2")
    assert spans(book, 50_000, 150_000) == [("m1", "gpu", "v1", 50, 150), ("m2", "gpu", "v1", 50, 100)]
    assert spans(book, 300_000) == []


def test_a_beat_without_a_time_is_now(world, book):
    book.beat(Beat("m1", "gpu", "v1"))
    book.beat(Beat("m1", "gpu", "v2"))
    book.beat(Beat("m1", "gpu", "v2"))
    assert all(one.start <= one.end for one in book.spans(0, 10 * NOON))


def test_processes_of_one_machine_that_beat_at_once_never_make_two_spans(world):
    books = [world.open() for _ in range(3)]
    start = threading.Barrier(6)

    def keep_beating(n):
        start.wait()
        beats(books[n % 3], *range(0, 600, 60), release=f"v{n % 2}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(keep_beating, range(6)))
    found = sorted(books[0].spans(0, 2 * NOON), key=lambda one: one.start)
    assert all(one.end <= after.start for one, after in pairwise(found))
    assert sum(one.end - one.start for one in found) == 540_000


PRICES = {
    "gpu": (HourPrice(NOON - DAY, 3_500_000_001), HourPrice(NOON + 90_001, 1_999_999_999)),
    "cpu": (HourPrice(0, 123_456_789, always=1),),
}


def fill(world, book, seed):
    """Rows and beats over two days, and what they must come to."""
    chance = random.Random(seed)
    rows = [
        row(
            f"{seed}-{n}",
            request=f"r{chance.randrange(150)}",
            tenant=chance.choice(["acme", "other", ""]),
            at=NOON + chance.randrange(-DAY, DAY),
            provider=(provider := chance.choice(["local", "openai"])),
            served=f"{provider}:{chance.choice('ab')}",
            tier=chance.choice(["", "", "exact"]),
            step=chance.choice(["", "s1", "s2"]),
            release=chance.choice(["", "v1", "v2"]),
            outcome=chance.choice(["ok", "escalated", "unavailable"]),
            nanos=chance.randrange(10**12),
        )
        for n in range(400)
    ]
    world.ledger.record(rows)
    at = -DAY // 1000
    while at < DAY // 1000:
        at += chance.choice([60, 60, 60, 149, 151, 4_000])
        beats(book, at, machine=chance.choice(["m1", "m2"]), release=chance.choice(["v1", "v1", "v2"]))
    return rows


@pytest.mark.parametrize("seed", [1, 2])
def test_all_requests_and_what_is_idle_are_the_bill_by_whatever_they_are_grouped(world, book, seed):
    rows = fill(world, book, seed)
    start, end = NOON - DAY, NOON + DAY
    providers = sum(
        one.row.nanos for one in rows if one.row.provider == "openai" and start <= one.row.at < end
    )
    # By another way: each millisecond of each span at the price of then, and of the machine that is always there.
    paid = sum(reckon(span) for span in book.spans(start, end)) + (end - start) * 123_456_789
    for by in COST_BY:
        report = read_report(book, CostQuery(start, end, by, OWN), PRICES, now=end)
        assert report.unexplained_nanos == 0
        # A nano-dollar is 1e-9 of a dollar; two kinds of machines are rounded together.
        assert abs(report.bill_nanos - providers - Fraction(paid, HOUR)) <= Fraction(1, 2)
        assert Counter(one.kind for one in report.machines) == {"gpu": 1, "cpu": 1}
        idle = [one.idle_nanos for one in report.lines]
        if by in ("day", "release", "all"):
            assert sum(idle) == report.total.idle_nanos
            assert sum(one.machine_milliseconds for one in report.lines) == report.total.machine_milliseconds
        else:
            assert set(idle) == {None}


def reckon(span: Span):
    first, second = PRICES["gpu"]
    early = max(0, min(span.end, second.since) - span.start)
    return early * first.nanos + (span.end - span.start - early) * second.nanos


def test_what_nobody_serves_is_one_group_in_which_a_request_counts_once(world, book):
    world.ledger.record(
        [
            row("a1", request="r", served="local:made up", outcome="not_found", total_ms=2),
            row("a2", request="r", served="local:made up too", outcome="not_found", total_ms=3),
            row("a3", request="r2", served="local:made up", outcome="not_found", total_ms=4),
            row("a4", request="r", served="local:llm", outcome="ok", total_ms=9),
            row("a5", served="p:billed", provider="p", outcome="not_found", nanos=7),
            row("a6", served="p:failing", provider="p", outcome="unavailable"),
        ]
    )
    by_name = {one.name: one for one in groups(book, "model")}
    assert set(by_name) == {"local:llm", "p:billed", "p:failing", OTHER}
    other = by_name[OTHER]
    assert (other.requests, other.succeeded, other.failed, other.attempts, other.milliseconds) == (
        2,
        0,
        2,
        3,
        9,
    )
    (whole,) = groups(book, "all")
    assert sum(one.attempts for one in by_name.values()) == whole.attempts
    assert sum(one.provider_nanos for one in by_name.values()) == whole.provider_nanos


def test_models_beyond_the_most_are_one_group_the_cheapest(world, book):
    world.ledger.record(
        [
            row(f"a{n}", request="r", served=f"local:{n:03d}", nanos=n + 1, total_ms=n, first_ms=500 - n)
            for n in range(MOST_MODELS + 3)
        ]
    )
    found = groups(book, "model")
    assert len(found) == MOST_MODELS + 1
    (other,) = [one for one in found if one.name == OTHER]
    assert (other.own_nanos, other.requests, other.succeeded, other.took, other.first) == (
        6,
        1,
        1,
        (2, 2),
        (498, 498),
    )
