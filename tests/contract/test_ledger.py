"""One suite for every Ledger, the fake in memory and the real PostgreSQL."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg
import pytest

from fakes.memory_ledger import MemoryLedger
from trireme.budget.ledger import (
    MOST_FOUND,
    MOST_MODELS,
    OTHER,
    REVERSED,
    LedgerRow,
    Recorded,
    Sum,
    SumQuery,
    UsageQuery,
    UsageRow,
)
from trireme.errors import InvalidInputError
from trireme.storage import open_ledger

BIG = 2**53 - 1


class MemoryWorld:
    """One ledger in memory stands for those of several processes."""

    def __init__(self):
        self.ledger = MemoryLedger()

    def open(self):
        return self.ledger

    def close(self):
        pass


class PostgresWorld:
    """Ledgers over one database, which is emptied as its owner alone can."""

    def __init__(self, url):
        self.url = url
        self.opened = []

    def open(self):
        self.opened.append(open_ledger(self.url))
        return self.opened[-1]

    def close(self):
        for one in self.opened:
            one.close()
        with psycopg.connect(self.url) as connection:
            if connection.execute("SELECT to_regclass('trireme.ledger')").fetchone()[0]:
                connection.execute("ALTER TABLE trireme.ledger DISABLE TRIGGER append_only")
                connection.execute("TRUNCATE trireme.ledger")
                connection.execute("ALTER TABLE trireme.ledger ENABLE TRIGGER append_only")


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def world(request):
    """What several processes with a ledger share."""
    is_fake = request.param == "memory"
    made = MemoryWorld() if is_fake else PostgresWorld(request.getfixturevalue("database").url)
    yield made
    made.close()


@pytest.fixture
def ledger(world):
    return world.open()


def at(text):
    """Milliseconds of a time of UTC."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


NOON = at("2026-11-29T12:00")
LATER = at("2100-01-01")


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
        **changes,
    }
    return LedgerRow(attempt, **fields)


def recorded(attempt, epoch="e", seq=1, **changes):
    return Recorded(row(attempt, **changes), epoch, seq)


def usage(ledger, by="tenant", start=0, end=LATER, **scope):
    return ledger.usage(UsageQuery(start, end, by, **scope))


def total(ledger, tenant="", user="", *, start=0, end=LATER, epoch="", seq=0):
    return ledger.sum(SumQuery(tenant, user, start, end, epoch, seq))


def test_what_was_recorded_is_summed_in_every_unit(ledger):
    first = recorded(
        "a1", request="r", input_tokens=10, cached_tokens=4, output_tokens=5, nanos=7, saved_nanos=1
    )
    again = recorded("a2", request="r", input_tokens=1, output_tokens=2, nanos=3, saved_nanos=2)
    assert ledger.record([first, again]) == 2
    assert usage(ledger) == [UsageRow("acme", 1, 2, 11, 4, 7, 10, 3)]
    assert total(ledger) == Sum(18, 10)


def test_an_expiry_that_is_taken_back_and_its_bill_are_one_attempt(ledger):
    expired = recorded(
        "a1.expired", request="r", input_tokens=10, output_tokens=5, nanos=7, outcome="expired"
    )
    assert ledger.record([expired]) == 1
    assert usage(ledger) == [UsageRow("acme", 1, 1, 10, 0, 5, 7, 0)]
    back = recorded(
        f"a1{REVERSED}", request="r", input_tokens=-10, output_tokens=-5, nanos=-7, outcome="expired"
    )
    bill = recorded("a1", request="r", input_tokens=10, output_tokens=3, nanos=4, outcome="ok")
    assert ledger.record([back, bill]) == 2
    assert usage(ledger) == [UsageRow("acme", 1, 1, 10, 0, 3, 4, 0)]
    assert [(row.name, row.attempts) for row in usage(ledger, "outcome")] == [("ok", 1), ("expired", 0)]
    assert total(ledger) == Sum(13, 4)


def test_an_attempt_that_is_there_already_is_passed_over(ledger):
    assert ledger.record([recorded("a1", nanos=7)]) == 1
    assert ledger.record([recorded("a1", nanos=900), recorded("a2", nanos=1)]) == 1
    assert total(ledger).nanos == 8


def test_the_first_of_equal_attempts_in_one_batch_is_kept(ledger):
    assert ledger.record([recorded("a1", nanos=7), recorded("a1", nanos=900)]) == 1
    assert total(ledger).nanos == 7


def test_an_empty_batch_and_an_empty_ledger_are_nothing(ledger):
    assert ledger.record([]) == 0
    assert usage(ledger) == []
    assert total(ledger) == Sum(0, 0)


def test_sums_are_exact_beyond_what_one_amount_may_be(ledger):
    ledger.record([recorded(f"a{n}", nanos=BIG, input_tokens=BIG, output_tokens=BIG) for n in range(2_000)])
    assert total(ledger) == Sum(4_000 * BIG, 2_000 * BIG)
    (group,) = usage(ledger)
    assert (group.nanos, group.input_tokens) == (2_000 * BIG, 2_000 * BIG)


def test_any_text_is_kept_and_no_row_stops_a_batch(ledger):
    odd = {
        "asked": "a\x00b",
        "user": "\ud800",
        "served": "ü:{a,\"b\",'c'}\\N%s",
        "outcome": "NULL",
        "step": "",
    }
    assert ledger.record([recorded("a1", nanos=1, **odd), recorded("a2", nanos=1)]) == 2
    assert total(ledger).nanos == 2
    assert {one.name for one in usage(ledger, "model")} == {odd["served"], "local:llm"}
    assert {one.name for one in usage(ledger, "outcome")} == {"NULL", ""}


def test_a_scope_takes_in_what_is_below_it_and_nothing_beside_it(ledger):
    ledger.record(
        [
            recorded("a1", tenant="acme", user="ann", nanos=1),
            recorded("a2", tenant="acme", user="bob", nanos=10),
            recorded("a3", tenant="acme", user="", nanos=100),
            recorded("a4", tenant="other", user="ann", nanos=1000),
            recorded("a5", tenant="Acme", user="Ann", nanos=10_000),
        ]
    )
    assert total(ledger).nanos == 11_111
    assert total(ledger, "acme").nanos == 111
    assert total(ledger, "acme", "ann").nanos == 1
    assert total(ledger, "nobody") == Sum(0, 0)
    assert [one.nanos for one in usage(ledger, tenant="acme")] == [111]
    assert [one.nanos for one in usage(ledger, tenant="acme", user="bob")] == [10]
    assert usage(ledger, tenant="acme", user="eve") == []


def test_a_span_has_its_first_millisecond_and_not_its_last(ledger):
    ledger.record([recorded("a1", at=NOON - 1, nanos=1), recorded("a2", at=NOON, nanos=10)])
    ledger.record([recorded("a3", at=NOON + 1, nanos=100)])
    assert total(ledger, start=NOON, end=NOON + 1).nanos == 10
    assert total(ledger, start=NOON - 1, end=NOON).nanos == 1
    assert [one.nanos for one in usage(ledger, start=NOON, end=NOON + 2)] == [110]


def test_places_of_the_epoch_above_the_snapshots_are_left_out(ledger):
    ledger.record(
        [
            recorded("a1", "now", 4, nanos=1),
            recorded("a2", "now", 5, nanos=10),
            recorded("a3", "now", 6, nanos=100),
            recorded("a4", "before", 900, nanos=1_000),
            recorded("a5", "", 0, nanos=10_000),
        ]
    )
    assert total(ledger, epoch="now", seq=5).nanos == 11_011
    assert total(ledger, epoch="now", seq=0).nanos == 11_000
    assert total(ledger, epoch="before", seq=1).nanos == 10_111
    assert total(ledger).nanos == 11_111


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("minute", ["2026-11-30T23:59Z", "2026-12-01T00:00Z", "2026-12-01T00:01Z"]),
        ("day", ["2026-11-30", "2026-12-01"]),
        ("month", ["2026-11", "2026-12"]),
    ],
)
def test_times_are_those_of_utc_in_their_order(ledger, by, names):
    times = ("2026-12-01T00:01:30", "2026-12-01T00:00:00", "2026-11-30T23:59:59.999")
    ledger.record([recorded(f"a{n}", at=at(one), nanos=n) for n, one in enumerate(times)])
    assert [one.name for one in usage(ledger, by)] == names


@pytest.mark.parametrize(
    ("by", "field"),
    [("model", "served"), ("user", "user"), ("tenant", "tenant"), ("outcome", "outcome"), ("tier", "tier")],
)
def test_other_groups_come_the_dearest_first(ledger, by, field):
    ledger.record(
        [
            recorded("a1", nanos=1, **{field: "cheap"}),
            recorded("a2", nanos=30, **{field: "dear"}),
            recorded("a3", nanos=20, **{field: ""}),
            recorded("a4", nanos=20, **{field: "dear"}),
            recorded("a5", output_tokens=5, **{field: "free b"}),
            recorded("a6", output_tokens=9, **{field: "free c"}),
            recorded("a7", output_tokens=5, **{field: "free a"}),
        ]
    )
    assert [(one.name, one.nanos) for one in usage(ledger, by)] == [
        ("dear", 50),
        ("", 20),
        ("cheap", 1),
        ("free c", 0),
        ("free a", 0),
        ("free b", 0),
    ]


def test_two_tenants_requests_of_one_name_are_two(ledger):
    ledger.record(
        [
            recorded("a1", request="r", tenant="acme"),
            recorded("a2", request="r", tenant="other"),
            recorded("a3", request="r", tenant="other"),
        ]
    )
    (group,) = usage(ledger, "day")
    assert (group.requests, group.attempts) == (2, 3)


def test_a_group_that_nobody_knows_is_refused(ledger):
    with pytest.raises(InvalidInputError) as caught:
        usage(ledger, "key; DROP TABLE trireme.ledger")
    assert caught.value.param == "by"


def test_a_batch_that_several_record_at_once_is_recorded_once(world):
    ledgers = [world.open() for _ in range(3)]
    start = threading.Barrier(6)

    def record(n):
        start.wait()
        batch = [recorded(f"a{k}", nanos=1) for k in range(300)]
        # From either end: they meet.
        return ledgers[n % 3].record(batch[:: 1 - n % 2 * 2])

    with ThreadPoolExecutor(6) as pool:
        new = list(pool.map(record, range(6)))
    assert sum(new) == 300
    assert total(ledgers[0]).nanos == 300


def test_every_field_of_a_row_is_kept(world, ledger):
    full = {
        one.name: {"int": 1_000 + n, "str": f"of {one.name}"}.get(one.type, "provider")
        for n, one in enumerate(dataclasses.fields(LedgerRow))
    }
    kept = Recorded(LedgerRow(**full | {"at": NOON + 1}), "epoch", 77)
    ledger.record([kept])
    if isinstance(world, MemoryWorld):
        assert list(ledger.rows.values()) == [kept]
        return
    with psycopg.connect(world.url) as connection:
        (found,) = connection.execute("SELECT * FROM trireme.ledger").fetchall()
    values = [value if name != "at" else None for name, value in dataclasses.asdict(kept.row).items()]
    when = found[list(full).index("at")]
    assert round(when.timestamp() * 1000) == NOON + 1
    assert when.microsecond == 1_000
    # Columns of later versions stand behind the place in the store's order.
    release = values.pop()
    assert [value if value != when else None for value in found] == [*values, "epoch", 77, release]


def test_a_closed_ledger_opens_again(ledger):
    ledger.record([recorded("a1", nanos=1)])
    ledger.close()
    ledger.close()
    assert total(ledger).nanos == 1


def test_the_rows_of_a_request_are_found_in_the_order_of_their_time(ledger):
    full = row(
        "b",
        request="r",
        at=NOON + 7,
        tier="exact",
        step="big",
        input_tokens=1,
        cached_tokens=2,
        cache_write_tokens=3,
        output_tokens=4,
        reasoning_tokens=5,
        counted_by="provider",
        prices="p",
        nanos=BIG,
        saved_nanos=-7,
        held_tokens=8,
        held_nanos=9,
        outcome="ok",
        first_ms=10,
        total_ms=11,
        release="v1",
    )
    ledger.record([Recorded(full, "e", 1), recorded("c", request="r", at=NOON), recorded("a", request="r2")])
    assert ledger.find("r") == [row("c", request="r", at=NOON), full]
    assert ledger.find("r3") == []


def test_the_rows_of_a_request_are_those_of_the_scope_that_is_named(ledger):
    scopes = [("acme", "ann"), ("acme", "bob"), ("other", "ann")]
    ledger.record([recorded(f"{t}{u}", request="r", tenant=t, user=u) for t, u in scopes])

    def found(*scope):
        return sorted((one.tenant, one.user) for one in ledger.find("r", *scope))

    assert found() == scopes
    assert found("acme") == scopes[:2]
    assert found("acme", "bob") == scopes[1:2]
    assert found("acme", "eve") == []


def test_of_a_name_that_very_many_requests_have_the_latest_rows_are_found(ledger):
    ledger.record([recorded(f"a{n:05d}", request="r", at=NOON + n) for n in range(MOST_FOUND + 3)])
    found = ledger.find("r")
    assert (len(found), found[0].at, found[-1].at) == (MOST_FOUND, NOON + 3, NOON + MOST_FOUND + 2)


@pytest.mark.parametrize("name", ["a\x00b", "\ud800", "%", "x" * 5000])
def test_a_name_that_cannot_be_stored_is_no_requests_name_and_no_fault(ledger, name):
    ledger.record([recorded("a", request="r")])
    assert ledger.find(name) == []


def test_what_nobody_serves_is_one_group_by_model_and_sums_stay_exact(ledger):
    made_up = [
        recorded(f"a{n}", request="r", served=f"local:made up {n}", outcome="not_found", total_ms=n)
        for n in range(5)
    ]
    ledger.record(
        [
            *made_up,
            recorded("free", served="local:free", outcome="ok", input_tokens=3),
            recorded("billed", served="p:billed", outcome="unavailable", nanos=7),
            recorded("cut", served="local:cut", outcome="client_gone", output_tokens=2),
            recorded("broken", served="local:broken", outcome="unavailable", input_tokens=9),
        ]
    )
    assert [
        (one.name, one.requests, one.attempts, one.input_tokens, one.nanos) for one in usage(ledger, "model")
    ] == [
        ("p:billed", 1, 1, 0, 7),
        ("local:broken", 1, 1, 9, 0),
        ("local:free", 1, 1, 3, 0),
        ("local:cut", 1, 1, 0, 0),
        (OTHER, 1, 5, 0, 0),
    ]


def test_models_beyond_the_most_are_one_group_the_cheapest(ledger):
    count = MOST_MODELS + 3
    ledger.record(
        [
            recorded(f"a{n}", served=f"p:{n:03d}", outcome="ok", nanos=10 * n + 10, request="r")
            for n in range(count)
        ]
    )
    groups = usage(ledger, "model")
    assert len(groups) == MOST_MODELS + 1
    assert [(one.nanos, one.requests, one.attempts) for one in groups if one.name == OTHER] == [(60, 1, 3)]
    assert sum(one.nanos for one in groups) == total(ledger).nanos


def test_a_model_is_known_by_what_it_answered_in_the_scope_and_the_time(ledger):
    ledger.record(
        [
            recorded("a", tenant="acme", served="local:m", outcome="ok"),
            recorded("b", tenant="other", served="local:m", outcome="not_found"),
            recorded("c", tenant="acme", served="local:m", outcome="not_found", at=NOON + 9),
        ]
    )
    assert [one.name for one in usage(ledger, "model")] == ["local:m"]
    assert [one.name for one in usage(ledger, "model", tenant="other")] == [OTHER]
    assert [one.name for one in usage(ledger, "model", start=NOON + 1)] == [OTHER]
