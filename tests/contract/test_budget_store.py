"""What every budget store does: the invariants I1 to I7 of trireme.budget.port, one by one."""

import asyncio
from dataclasses import replace

import pytest
from budgets import NOON, Stores, bill, cap, claim

from trireme.budget.caps import EACH, MOST, WINDOWS, Cap, caps_of
from trireme.budget.ledger import decode_row
from trireme.budget.port import Hold, Progress, Refusal
from trireme.errors import InvalidInputError, UnavailableError
from valkeys import valkey

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


@pytest.fixture(scope="module")
def server():
    with valkey(maxmemory_policy="noeviction") as running:
        yield running


@pytest.fixture(params=["memory", "valkey"])
def stores(request, server):
    return Stores(request.param, server)


def run(stores, play):
    async def go():
        async with stores.open() as store:
            await play(store)

    asyncio.run(go())


async def amounts(store, level="tenant", window="day", tenant="acme", user="ann"):
    """Spent and held tokens, spent and held nanos."""
    (one,) = [c for c in await store.read(tenant, user) if (c.level, c.window) == (level, window)]
    return one.spent_tokens, one.held_tokens, one.spent_nanos, one.held_nanos


def test_a_claim_is_held_at_every_level_and_window_and_its_bill_is_spent(stores):
    async def play(store):
        held = await store.reserve(claim("a", 10, 500))
        assert held == Hold("a", NOON)
        assert [(c.spent_tokens, c.held_tokens, c.held_nanos) for c in await store.read("acme", "ann")] == [
            (0, 10, 500)
        ] * 9
        assert await store.settle(bill("a", 4, 200))
        assert [(c.spent_tokens, c.held_tokens, c.spent_nanos) for c in await store.read("acme", "ann")] == [
            (4, 0, 200)
        ] * 9

    run(stores, play)


def test_the_counters_of_others_are_not_touched(stores):
    async def play(store):
        await store.reserve(claim("a", 10))
        assert await amounts(store, "tenant", tenant="acm", user="") == (0, 0, 0, 0)
        assert await amounts(store, "user", tenant="acme", user="bob") == (0, 0, 0, 0)
        assert await amounts(store, "gateway", tenant="", user="") == (0, 10, 0, 0)
        assert len(await store.read("", "")) == 3
        assert len(await store.read("acme", "")) == 6

    run(stores, play)


@pytest.mark.parametrize(
    "names",
    [
        [("a", "b:c"), ("a:b", "c"), ("a", "b"), ("a:b:c", "")],
        [("a", "*"), ("*", "a"), ("a*", "")],
        [("e\u0301", ""), ("\u00e9", "")],
        [("x" * 512, "y"), ("x" * 511, "xy")],
        [("a b", ""), ("a", "b"), ('a","b', "")],
    ],
    ids=["colons", "stars", "normal forms", "long", "spaces"],
)
def test_names_that_look_alike_never_share_a_counter(stores, names):
    async def play(store):
        for number, (tenant, user) in enumerate(names):
            await store.reserve(claim(f"a{number}", 10**number, tenant=tenant, user=user))
        for number, (tenant, user) in enumerate(names):
            level = "user" if user else "tenant"
            shared = [n for n, (other, whose) in enumerate(names) if not user and other == tenant]
            expected = sum(10**n for n in shared) if not user else 10**number
            assert (await amounts(store, level, "month", tenant, user))[1] == expected

    run(stores, play)


@pytest.mark.parametrize("unit", ["tokens", "nanos"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("level", ["gateway", "tenant", "user"])
def test_i1_what_does_not_fit_under_a_cap_is_refused_and_changes_nothing(stores, level, window, unit):
    tenant, user = {"gateway": ("", ""), "tenant": ("acme", ""), "user": ("acme", "ann")}[level]
    caps = [cap(tenant=tenant, user=user, window=window, **{unit: 100})]

    async def play(store):
        amount = {"tokens": 60, "nanos": 0} if unit == "tokens" else {"tokens": 0, "nanos": 60}
        assert isinstance(await store.reserve(claim("a", **amount, caps=caps)), Hold)
        before = await store.read("acme", "ann")
        refused = await store.reserve(claim("b", **amount, caps=caps))
        assert isinstance(refused, Refusal)
        assert (refused.level, refused.window, refused.unit) == (level, window, unit)
        assert (refused.cap, refused.spent, refused.held) == (100, 0, 60)
        assert (refused.left_tokens, refused.left_nanos) == ((40, None) if unit == "tokens" else (None, 40))
        assert await store.read("acme", "ann") == before
        exact = {key: value * 40 // 60 for key, value in amount.items()}
        assert isinstance(await store.reserve(claim("c", **exact, caps=caps)), Hold)

    run(stores, play)


def test_the_first_cap_that_refuses_is_named_and_the_least_that_is_left_over_all(stores):
    async def play(store):
        caps = [cap(1000, tenant="", window="month"), cap(50, 900), cap(20, user="ann", window="minute")]
        refused = await store.reserve(claim("a", 60, 100, caps=caps))
        assert (refused.level, refused.window, refused.cap) == ("tenant", "day", 50)
        assert (refused.left_tokens, refused.left_nanos) == (20, 900)
        assert isinstance(await store.reserve(claim("a", 20, 900, caps=caps)), Hold)

    run(stores, play)


def test_a_cap_of_nothing_refuses_everything_but_nothing(stores):
    async def play(store):
        assert isinstance(await store.reserve(claim("a", 1, caps=[cap(0)])), Refusal)
        assert isinstance(await store.reserve(claim("b", 0, caps=[cap(0)])), Hold)

    run(stores, play)


@pytest.mark.parametrize(
    ("window", "resets"),
    [("minute", NOON + 30_000), ("day", NOON - 30_000 + 12 * HOUR), ("month", NOON - 30_000 + 60 * HOUR)],
)
def test_a_refusal_says_when_its_window_ends(stores, window, resets):
    async def play(store):
        refused = await store.reserve(claim("a", 2, caps=[cap(1, window=window)]))
        assert refused.resets_at == resets
        stores.clock.now = resets - 1
        assert isinstance(await store.reserve(claim("a", 2, caps=[cap(1, window=window)])), Refusal)

    run(stores, play)


@pytest.mark.parametrize(
    ("year", "month", "start", "end"),
    [
        (2024, 2, 1_706_745_600_000, 1_709_251_200_000),
        (2026, 12, 1_796_083_200_000, 1_798_761_600_000),
        (2100, 2, 4_105_123_200_000, 4_107_542_400_000),
    ],
)
def test_months_are_those_of_the_calendar(stores, year, month, start, end):
    async def play(store):
        for instant in (start, end - 1):
            stores.clock.now = instant
            refused = await store.reserve(claim("a", 2, caps=[cap(1, window="month")]))
            assert refused.resets_at == end, (year, month)
            (counter,) = [c for c in await store.read("", "") if c.window == "month"]
            assert counter.start == start

    run(stores, play)


def test_i2_a_hold_that_was_refunded_holds_nothing(stores):
    async def play(store):
        await store.reserve(claim("a", 10, caps=[cap(10)]))
        assert await store.settle(bill("a", 0))
        assert await amounts(store) == (0, 0, 0, 0)
        assert isinstance(await store.reserve(claim("b", 10, caps=[cap(10)])), Hold)

    run(stores, play)


def test_i3_more_than_was_held_is_recorded_and_the_next_claim_fails(stores):
    async def play(store):
        await store.reserve(claim("a", 10, caps=[cap(12)]))
        assert await store.settle(bill("a", 25))
        assert await amounts(store) == (25, 0, 0, 0)
        refused = await store.reserve(claim("b", 1, caps=[cap(12)]))
        assert (refused.spent, refused.left_tokens) == (25, 0)

    run(stores, play)


def test_i3_more_money_than_was_held_is_recorded_and_the_next_claim_fails(stores):
    async def play(store):
        await store.reserve(claim("a", 10, 10, caps=[cap(None, 12)]))
        assert await store.settle(bill("a", 25, 25))
        refused = await store.reserve(claim("b", 1, 1, caps=[cap(None, 12)]))
        assert (refused.unit, refused.spent, refused.held, refused.left_nanos) == ("nanos", 25, 0, 0)

    run(stores, play)


def test_i4_the_same_again_changes_nothing(stores):
    async def play(store):
        first = await store.reserve(claim("a", 10))
        stores.clock.now += 5
        assert await store.reserve(claim("a", 99)) == first
        assert await amounts(store) == (0, 10, 0, 0)
        assert await store.settle(bill("a", 4))
        assert not await store.settle(bill("a", 4))
        assert not await store.settle(bill("a", 9))
        assert await store.reserve(claim("a", 10)) == first
        assert await amounts(store) == (4, 0, 0, 0)
        assert len(await store.peek(10)) == 1

    run(stores, play)


def test_i5_an_expiry_charges_what_was_last_reported(stores):
    async def play(store):
        await store.reserve(claim("silent", 10, spent=3, lease=60.0))
        await store.reserve(claim("telling", 10, spent=3, lease=60.0))
        assert await store.extend([Progress("telling", 7, 0)], 60.0) == []
        stores.clock.now += 60_000
        assert await store.expire() == 2
        assert await store.expire() == 0
        assert await amounts(store) == (10, 0, 0, 0)
        assert sorted(one.tokens for one in await store.peek(10)) == [3, 7]
        assert sorted(await store.extend([Progress("telling", 8, 0), Progress("nobody", 1, 0)], 60.0)) == [
            "nobody",
            "telling",
        ]

    run(stores, play)


def test_i5_a_hold_that_is_extended_lives_on(stores):
    async def play(store):
        await store.reserve(claim("a", 10, lease=60.0))
        for _ in range(5):
            stores.clock.now += 40_000
            assert await store.extend([Progress("a", 5, 0)], 60.0) == []
            assert await store.expire() == 0
        assert (await amounts(store))[:2] == (0, 10)

    run(stores, play)


def test_i5_a_settlement_behind_an_expiry_makes_good_the_difference(stores):
    async def play(store):
        for attempt, used in (("more", 9), ("less", 1)):
            await store.reserve(claim(attempt, 10, spent=3, lease=1.0))
            stores.clock.now += 1000
            assert await store.expire() == 1
            assert await store.settle(bill(attempt, used))
            assert not await store.settle(bill(attempt, used))
        assert await amounts(store) == (10, 0, 0, 0)
        rows = await store.peek(10)
        assert [one.tokens for one in rows] == [3, -3, 9, 3, -3, 1]
        names = ["more.expired", "more.reversed", "more", "less.expired", "less.reversed", "less"]
        assert [decode_row(one.row).attempt for one in rows] == names

    run(stores, play)


def test_i5_what_was_never_reserved_counts_now_once(stores):
    async def play(store):
        assert await store.settle(bill("a", 4, 5))
        assert not await store.settle(bill("a", 4, 5))
        assert await amounts(store) == (4, 0, 5, 0)
        assert await amounts(store, "user") == (4, 0, 5, 0)

    run(stores, play)


def test_i6_a_settlement_after_midnight_goes_to_the_day_before(stores):
    async def play(store):
        midnight = NOON - 30_000 + 12 * HOUR
        stores.clock.now = midnight - 1
        await store.reserve(claim("a", 10, caps=[cap(10)]))
        stores.clock.now = midnight
        assert isinstance(await store.reserve(claim("b", 10, caps=[cap(10)])), Hold)
        assert await store.settle(bill("a", 8))
        assert await amounts(store) == (0, 10, 0, 0)
        assert await amounts(store, window="month") == (8, 10, 0, 0)
        stores.clock.now = midnight - 1
        assert await amounts(store) == (8, 0, 0, 0)

    run(stores, play)


def test_i7_amounts_stay_whole_up_to_the_largest(stores):
    async def play(store):
        assert isinstance(await store.reserve(claim("a", MOST - 1, MOST - 1, caps=[cap(MOST, MOST)])), Hold)
        assert isinstance(await store.reserve(claim("b", 2, 0, caps=[cap(MOST, MOST)])), Refusal)
        assert isinstance(await store.reserve(claim("c", 1, 1, caps=[cap(MOST, MOST)])), Hold)
        assert await amounts(store) == (0, MOST, 0, MOST)
        await store.settle(bill("a", MOST - 2, MOST - 2))
        assert await amounts(store) == (MOST - 2, 1, MOST - 2, 1)

    run(stores, play)


def test_rows_wait_in_the_order_of_their_settlements_until_they_are_removed(stores):
    async def play(store):
        for number in range(5):
            await store.reserve(claim(f"a{number}", 10))
            await store.settle(bill(f"a{number}", number, number * 2))
        rows = await store.peek(3)
        assert rows[0].seq < rows[1].seq < rows[2].seq
        assert [(one.tokens, one.nanos, one.at) for one in rows] == [(0, 0, NOON), (1, 2, NOON), (2, 4, NOON)]
        assert rows[1].row == bill("a1", 1, 2).row
        await store.remove([rows[0].entry, rows[1].entry])
        await store.remove([rows[0].entry])
        await store.remove([])
        rows = await store.peek(10)
        assert [one.tokens for one in rows] == [2, 3, 4]
        assert (await store.snapshot("acme", "ann")).seq == rows[-1].seq
        assert {one.epoch for one in rows} == {(await store.snapshot("", "")).epoch}

    run(stores, play)


def test_a_correction_adds_its_difference_to_whatever_was_settled_since_and_holds_once(stores):
    async def play(store):
        await store.settle(bill("a", 4, 4))
        first = await store.snapshot("acme", "")
        second = await store.snapshot("acme", "")
        await store.settle(bill("b", 10, 10))
        right = [replace(c, spent_tokens=7, spent_nanos=1) for c in first.counters if c.window == "day"]
        assert await store.correct(first, "acme", "", right)
        assert not await store.correct(second, "acme", "", right)
        assert await amounts(store) == (17, 0, 11, 0)
        assert await amounts(store, window="month") == (14, 0, 14, 0)

    run(stores, play)


def test_a_store_that_lost_all_has_another_name_and_takes_no_old_correction(stores):
    async def go():
        async with stores.open() as store:
            await store.settle(bill("a", 4))
            before = await store.snapshot("acme", "")
        stores.clock.now += 1
        async with stores.open() as store:
            after = await store.snapshot("acme", "")
            assert after.epoch != before.epoch
            assert not await store.correct(before, "acme", "", [replace(before.counters[0], spent_tokens=9)])

    asyncio.run(go())


def test_a_store_that_lost_all_tells_who_held_before_it_admits_anew(stores):
    """Its counters begin at 0: they admit what is spent already."""

    async def go():
        async with stores.open() as store:
            await store.reserve(claim("a", 10, caps=[cap(10)]))
            stores.clock.now += 1
            await stores.lose()
            with pytest.raises(UnavailableError, match="lost what it held"):
                await store.reserve(claim("b", 10, caps=[cap(10)]))
            assert await amounts(store) == (0, 0, 0, 0)
            assert isinstance(await store.reserve(claim("b", 10, caps=[cap(10)])), Hold)

    asyncio.run(go())


def test_two_clients_see_one_store(stores):
    async def go():
        async with stores.open() as one:
            await one.reserve(claim("a", 10, caps=[cap(10)]))
            async with stores.open(keep=True) as two:
                assert isinstance(await two.reserve(claim("b", 1, caps=[cap(10)])), Refusal)
                assert await two.settle(bill("a", 2))
                assert isinstance(await one.reserve(claim("b", 8, caps=[cap(10)])), Hold)

    asyncio.run(go())


class Ledger:
    """As every ledger: of an attempt that is there already nothing more is recorded."""

    def __init__(self):
        self.rows = {}

    def record(self, row):
        self.rows.setdefault(row.attempt, row)

    async def drain(self, store):
        while rows := await store.peek(7):
            for one in rows:
                row = decode_row(one.row)
                # What the gateway writes is what the store has charged.
                assert (row.tokens, row.nanos) == (one.tokens, one.nanos)
                self.record(row)
            await store.remove([one.entry for one in rows])

    def sums(self):
        return sum(row.tokens for row in self.rows.values()), sum(row.nanos for row in self.rows.values())


@pytest.mark.parametrize("is_direct", [False, True], ids=["drained", "written by the gateway"])
@pytest.mark.parametrize("used", [0, 2, 3, 9, 25])
def test_i5_ledger_and_counters_agree_however_late_a_bill_comes(stores, used, is_direct):
    """While the store is away a gateway writes its bill to the ledger itself; the hold expires meanwhile."""

    async def play(store):
        ledger = Ledger()
        await store.reserve(claim("a", 10, 50, spent=3, lease=1.0))
        await store.extend([Progress("a", 5, 20)], 1.0)
        if is_direct:
            ledger.record(decode_row(bill("a", used, used * 7).row))
        stores.clock.now += 1000
        assert await store.expire() == 1
        await ledger.drain(store)
        assert await store.settle(bill("a", used, used * 7))
        await ledger.drain(store)
        assert ledger.sums() == (used, used * 7)
        assert await amounts(store) == (used, 0, used * 7, 0)

    run(stores, play)


def test_i5_a_late_bill_goes_to_the_windows_of_its_reservation(stores):
    async def play(store):
        midnight = NOON - 30_000 + 12 * HOUR
        stores.clock.now = midnight - 1
        await store.reserve(claim("a", 10, spent=3, lease=1.0))
        stores.clock.now = midnight + HOUR
        assert await store.expire() == 1
        assert await store.settle(bill("a", 8))
        assert await amounts(store) == (0, 0, 0, 0)
        assert await amounts(store, window="month") == (8, 0, 0, 0)
        assert {one.at for one in await store.peek(10)} == {midnight - 1}

    run(stores, play)


def test_i4_an_expired_hold_is_not_admitted_again(stores):
    async def play(store):
        first = await store.reserve(claim("a", 10, lease=1.0, caps=[cap(10)]))
        stores.clock.now += 1000
        assert await store.expire() == 1
        assert await store.reserve(claim("a", 10, caps=[cap(10)])) == first
        assert await amounts(store) == (3, 0, 0, 0)

    run(stores, play)


def test_i4_a_refund_that_is_there_before_its_reservation_wins(stores):
    """A reservation that nobody waits for any more may come to the store after what gives it back."""

    async def play(store):
        assert await store.settle(bill("a", 0))
        assert isinstance(await store.reserve(claim("a", 10)), Hold)
        assert await amounts(store) == (0, 0, 0, 0)

    run(stores, play)


def test_a_lease_that_is_over_frees_what_it_held_at_the_next_reservation(stores):
    async def play(store):
        await store.reserve(claim("a", 10, spent=0, lease=1.0, caps=[cap(10)]))
        stores.clock.now += 999
        assert isinstance(await store.reserve(claim("b", 1, caps=[cap(10)])), Refusal)
        stores.clock.now += 1
        assert isinstance(await store.reserve(claim("c", 10, caps=[cap(10)])), Hold)

    run(stores, play)


def test_many_leases_that_are_over_end_at_once(stores):
    async def play(store):
        for number in range(230):
            await store.reserve(claim(f"a{number}", 10, spent=1, lease=1.0))
        assert await store.extend([Progress(f"a{number}", 2, 0) for number in range(230)], 1.0) == []
        stores.clock.now += 1000
        assert await store.expire() == 230
        assert await amounts(store) == (460, 0, 0, 0)
        rows = await store.peek(1000)
        assert len(rows) == 230
        await store.remove([one.entry for one in rows])
        assert await store.peek(1) == []

    run(stores, play)


def test_caps_of_each_hold_for_everyone_on_their_own(stores):
    rules = [Cap(EACH, EACH, "day", 10), Cap("acme", "bob", "day", 20)]

    async def ask(store, attempt, tokens, tenant, user):
        return await store.reserve(
            claim(attempt, tokens, caps=caps_of(rules, tenant, user), tenant=tenant, user=user)
        )

    async def play(store):
        assert isinstance(await ask(store, "a", 10, "acme", "ann"), Hold)
        assert isinstance(await ask(store, "b", 1, "acme", "ann"), Refusal)
        assert isinstance(await ask(store, "c", 20, "acme", "bob"), Hold)
        assert isinstance(await ask(store, "d", 10, "other", "ann"), Hold)
        assert (await ask(store, "e", 1, "acme", "bob")).cap == 20

    run(stores, play)


@pytest.mark.parametrize(
    "changes", [{"tokens": -1}, {"nanos": MOST + 1}, {"tokens": 1.0}, {"spent_nanos": -1}]
)
def test_i7_a_claim_that_cannot_be_counted_is_refused_by_the_name_of_what_is_wrong(stores, changes):
    async def play(store):
        with pytest.raises(InvalidInputError) as caught:
            await store.reserve(replace(claim("a"), **changes))
        assert caught.value.param == next(iter(changes))
        assert await amounts(store) == (0, 0, 0, 0)

    run(stores, play)


def test_a_cap_of_a_level_that_a_claim_has_not_is_refused(stores):
    async def play(store):
        with pytest.raises(InvalidInputError, match="of a user"):
            await store.reserve(claim("a", caps=[cap(1, user="ann")], user=""))

    run(stores, play)


def test_i7_what_no_provider_can_have_used_is_counted_as_the_nearest_that_can(stores):
    async def play(store):
        await store.reserve(claim("less"))
        await store.reserve(claim("more"))
        assert await store.extend([Progress("less", -5, 2**60), Progress("more", 1, 1)], 60.0) == []
        assert await store.settle(bill("less", -100, -1))
        assert await amounts(store) == (0, 10, 0, 0)
        assert await store.settle(bill("more", 2**60, 2**70))
        assert await amounts(store) == (MOST, 0, MOST, 0)
        assert [(one.tokens, one.nanos) for one in await store.peek(9)] == [(0, 0), (MOST, MOST)]

    run(stores, play)


def test_corrections_of_one_scope_leave_those_of_others_to_be_made(stores):
    """Gateways compare many scopes at once: each must be able to make good its own."""

    async def play(store):
        snapshots = {one: await store.snapshot(*one) for one in (("", ""), ("acme", ""), ("acme", "ann"))}
        other = await store.snapshot("other", "ann")
        for (tenant, user), level in zip(snapshots, ("gateway", "tenant", "user"), strict=True):
            snapshot = snapshots[tenant, user]
            right = [replace(c, spent_tokens=5) for c in snapshot.counters if c.level == level]
            assert await store.correct(snapshot, tenant, user, right)
            assert not await store.correct(snapshot, tenant, user, right)
        assert [one.spent_tokens for one in await store.read("acme", "ann")] == [5] * 9
        assert await store.correct(other, "other", "ann", [replace(other.counters[-1], spent_nanos=2)])
        assert not await store.correct(other, "other", "ann", [replace(other.counters[0], spent_nanos=2)])

    run(stores, play)


def test_a_correction_may_lower_what_is_spent(stores):
    async def play(store):
        await store.settle(bill("a", 10, 20))
        snapshot = await store.snapshot("acme", "")
        right = [replace(c, spent_tokens=0, spent_nanos=0) for c in snapshot.counters if c.level == "tenant"]
        assert await store.correct(snapshot, "acme", "", right)
        assert await amounts(store) == (0, 0, 0, 0)
        assert await amounts(store, "gateway") == (10, 0, 20, 0)

    run(stores, play)


def test_a_counter_that_the_snapshot_has_not_is_not_corrected(stores):
    async def play(store):
        snapshot = await store.snapshot("acme", "")
        with pytest.raises(InvalidInputError, match="take another snapshot"):
            await store.correct(snapshot, "acme", "", [replace(snapshot.counters[0], start=0)])

    run(stores, play)
