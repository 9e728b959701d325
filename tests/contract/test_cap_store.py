"""One suite for every CapStore, the fake in memory and the real PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from fakes.memory_caps import MemoryCaps
from trireme.budget.caps import EACH, MOST, Cap
from trireme.errors import InvalidInputError
from trireme.storage import open_caps


class MemoryWorld:
    """One store in memory stands for the stores of several processes."""

    def __init__(self):
        self.store = MemoryCaps()

    def open(self):
        return self.store

    def close(self):
        pass


class PostgresWorld:
    """Stores over one database."""

    def __init__(self, url):
        self.url = url
        self.opened = []

    def open(self):
        self.opened.append(open_caps(self.url))
        return self.opened[-1]

    def close(self):
        for store in self.opened:
            store.close()
        with psycopg.connect(self.url) as connection:
            if connection.execute("SELECT to_regclass('trireme.caps')").fetchone()[0]:
                connection.execute("DELETE FROM trireme.caps")


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def world(request):
    """What several processes with a store of caps share."""
    is_fake = request.param == "memory"
    made = MemoryWorld() if is_fake else PostgresWorld(request.getfixturevalue("database").url)
    yield made
    made.close()


@pytest.fixture
def store(world):
    return world.open()


def test_a_cap_is_read_as_it_was_put(store):
    caps = [
        Cap("", "", "month", nanos=MOST),
        Cap(EACH, "", "day", tokens=0),
        Cap("acme", "", "minute", tokens=MOST, nanos=0),
        Cap("acme", EACH, "minute", tokens=1),
        Cap("acme", "ünï {a,\"b\",'c'} \\", "day", nanos=1),
    ]
    for cap in caps:
        store.put(cap)
    assert list(store.read(-1).caps) == caps
    assert store.find() == caps


def test_without_a_cap_there_is_a_revision_and_nothing_else(store):
    assert store.read(-1).caps == ()
    assert store.find() == []


def test_a_cap_takes_the_place_of_the_one_of_its_tenant_user_and_window(store):
    store.put(Cap("acme", "", "day", tokens=5))
    store.put(Cap("acme", "", "day", nanos=7))
    store.put(Cap("acme", "", "month", tokens=9))
    assert store.find() == [Cap("acme", "", "day", nanos=7), Cap("acme", "", "month", tokens=9)]


def test_a_cap_without_any_limit_is_removed(store):
    store.put(Cap("acme", "", "day", tokens=5))
    store.put(Cap("acme", "ann", "day", tokens=5))
    store.put(Cap("acme", "", "day"))
    assert store.find() == [Cap("acme", "ann", "day", tokens=5)]


def test_caps_are_read_again_after_a_change_of_any_process_alone(world):
    here, elsewhere = world.open(), world.open()
    before = here.read(-1)
    assert here.read(before.revision) is None
    elsewhere.put(Cap("acme", "", "day", tokens=5))
    after = here.read(before.revision)
    assert after.revision > before.revision
    assert here.read(after.revision) is None
    elsewhere.put(Cap("acme", "", "day", tokens=6))
    changed = here.read(after.revision)
    assert changed.revision > after.revision
    assert changed.caps == (Cap("acme", "", "day", tokens=6),)
    elsewhere.put(Cap("acme", "", "day"))
    last = here.read(changed.revision)
    assert last.revision > changed.revision
    assert last.caps == ()


def test_what_changes_nothing_makes_nobody_read(store):
    store.put(Cap("acme", "", "day", tokens=5))
    held = store.read(-1)
    store.put(Cap("acme", "", "day", tokens=5))
    store.put(Cap("acme", "", "month"))
    assert store.read(held.revision) is None


def test_another_revision_than_the_stores_reads_in_any_case(store):
    store.put(Cap("acme", "", "day", tokens=5))
    held = store.read(-1)
    assert store.read(held.revision + 1) == held


def test_caps_are_found_in_order_of_one_tenant_or_of_all(store):
    ordered = [
        Cap("", "", "minute", tokens=1),
        Cap("", "", "month", tokens=1),
        Cap("*", "", "day", tokens=1),
        Cap("Z", "", "day", tokens=1),
        Cap("a", "", "minute", tokens=1),
        Cap("a", "", "day", tokens=1),
        Cap("a", "", "month", tokens=1),
        Cap("a", "B", "day", tokens=1),
        Cap("a", "b", "day", tokens=1),
        Cap("ä", "", "day", tokens=1),
    ]
    for cap in reversed(ordered):
        store.put(cap)
    assert store.find() == ordered
    assert list(store.read(-1).caps) == ordered
    assert store.find("a") == ordered[4:9]
    assert store.find("*") == [ordered[2]]
    assert store.find("nobody") == []


def test_no_other_tenant_has_a_cap_however_like_its_name_is(store):
    store.put(Cap("tenant", "", "day", tokens=5))
    for other in ("Tenant", "tenant ", "ten\u200bant", "t\u0435nant"):
        assert store.find(other) == []
        store.put(Cap(other, "", "day"))
    assert len(store.find()) == 1


@pytest.mark.parametrize(
    ("cap", "param"),
    [
        (Cap("", "ann", "day", tokens=1), "tenant"),
        (Cap("", EACH, "day", tokens=1), "tenant"),
        (Cap("ä" * 257, "", "day", tokens=1), "tenant"),
        (Cap("a\x00", "", "day", tokens=1), "tenant"),
        (Cap("\ud800", "", "day", tokens=1), "tenant"),
        (Cap("a", "b\n", "day", tokens=1), "user"),
        (Cap("a", "u" * 513, "day", tokens=1), "user"),
        (Cap("a", "\udc00", "day", tokens=1), "user"),
        (Cap("a", "", "week", tokens=1), "window"),
        (Cap("a", "", "day", tokens=-1), "tokens"),
        (Cap("a", "", "day", tokens=MOST + 1), "tokens"),
        (Cap("a", "", "day", nanos=-1), "dollars"),
        (Cap("a", "", "day", tokens=1, nanos=MOST + 1), "dollars"),
    ],
)
def test_a_cap_that_cannot_be_kept_is_refused_by_the_name_of_what_is_wrong(store, cap, param):
    before = store.read(-1)
    with pytest.raises(InvalidInputError) as caught:
        store.put(cap)
    assert caught.value.param == param
    assert store.read(before.revision) is None


def test_a_name_that_no_tenant_can_have_is_refused(store):
    with pytest.raises(InvalidInputError):
        store.find("\x00")


def test_who_reads_only_what_changed_misses_nothing_that_was_put_meanwhile(world):
    stores = [world.open() for _ in range(4)]

    def put(n):
        for k in range(10):
            stores[n].put(Cap(f"t{n}", f"u{k}", "day", tokens=k + 1))
        for k in range(5):
            stores[n].put(Cap(f"t{n}", f"u{k}", "day"))

    reader = world.open()
    held = reader.read(-1)
    with ThreadPoolExecutor(4) as pool:
        putting = [pool.submit(put, n) for n in range(4)]
        while not all(one.done() for one in putting):
            found = reader.read(held.revision)
            if found is not None:
                assert found.revision > held.revision
                held = found
        for one in putting:
            one.result()
    held = reader.read(held.revision) or held
    assert held == reader.read(-1)
    assert len(held.caps) == 20


def test_a_closed_store_opens_again(store):
    store.put(Cap("acme", "", "day", tokens=5))
    store.close()
    store.close()
    assert len(store.read(-1).caps) == 1
