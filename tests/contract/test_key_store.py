"""One suite for every KeyStore, the fake in memory and the real PostgreSQL."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from keys import MemoryKeyWorld, PostgresKeyWorld, create, digest, key

from trireme.access.keys import Key, KeyQuery
from trireme.errors import InvalidInputError

FULL = Key(
    "key_full",
    "acme",
    "ann",
    models=("llm", "a model"),
    collections=("ünï", "{a,\"b\",'c'}", "\\"),
    endpoints=("chat", "search"),
    requests_per_minute=7,
    priority="batch",
)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def world(request):
    """What several processes with a key store share."""
    is_fake = request.param == "memory"
    made = MemoryKeyWorld() if is_fake else PostgresKeyWorld(request.getfixturevalue("database").url)
    yield made
    made.close()


@pytest.fixture
def store(world):
    return world.open()


def test_a_key_is_read_by_the_digest_of_its_secret_with_all_that_limits_it(store):
    store.create(FULL, digest("full"))
    (found,) = store.read(-1).keys.items()
    assert found[0] == digest("full")
    assert dataclasses.replace(found[1], created_at=0.0) == FULL
    assert found[1].created_at > 1_700_000_000


def test_a_key_that_says_nothing_is_limited_by_nothing(store):
    create(store, "plain")
    (found,) = store.read(-1).keys.values()
    assert (found.user, found.models, found.collections, found.endpoints) == ("", (), (), ())
    assert found.requests_per_minute == 0
    assert found.priority == "normal"


def test_a_key_is_in_force_when_it_is_made_whatever_it_says_of_itself(store):
    create(store, "a", is_revoked=True, created_at=5.0)
    (found,) = store.read(-1).keys.values()
    assert not found.is_revoked
    assert found.created_at > 5.0


def test_without_a_key_there_is_a_revision_and_nothing_else(store):
    assert store.read(-1).keys == {}


def test_the_keys_are_read_again_after_a_change_of_any_process_alone(world):
    here, elsewhere = world.open(), world.open()
    before = here.read(-1)
    assert here.read(before.revision) is None
    create(elsewhere, "a")
    after = here.read(before.revision)
    assert after.revision > before.revision
    assert set(after.keys) == {digest("a")}
    assert here.read(after.revision) is None
    elsewhere.revoke(["key_a"])
    last = here.read(after.revision)
    assert last.revision > after.revision
    assert last.keys == {}


def test_another_revision_than_the_stores_reads_in_any_case(store):
    create(store, "a")
    held = store.read(-1)
    assert store.read(held.revision + 1) == held


def test_a_key_that_is_there_is_not_made_again_and_nothing_changes(store):
    create(store, "a")
    held = store.read(-1)
    for again in ((key("a"), digest("b")), (key("b"), digest("a"))):
        with pytest.raises(InvalidInputError, match="there already"):
            store.create(*again)
    assert store.read(held.revision) is None


def ids(store, *query, **more):
    return [one.id for one in store.find(KeyQuery(*query, **more))]


def test_keys_are_found_newest_first_of_one_tenant_or_of_all(world):
    store = world.open()
    for n, (name, tenant) in enumerate((("b", "t"), ("a", "u"), ("c", "t"))):
        world.set_clock(n)
        create(store, name, tenant)
    store.revoke(["key_b"])
    assert [(one.id, one.is_revoked) for one in store.find()] == [
        ("key_c", False),
        ("key_a", False),
        ("key_b", True),
    ]
    assert ids(store, "t") == ["key_c", "key_b"]
    assert ids(store, "nobody") == []
    assert ids(store, is_revoked=True) == ["key_b"]
    assert ids(store, "t", is_revoked=False) == ["key_c"]


def test_pages_of_keys_follow_each_other_while_keys_come_and_are_revoked(world):
    store = world.open()
    for n, name in enumerate("abcde"):
        world.set_clock(n)
        create(store, name, "t" if name in "ace" else "u")
    assert ids(store, limit=2) == ["key_e", "key_d"]
    world.set_clock(9)
    create(store, "new")
    store.revoke(["key_d", "key_c"])
    assert ids(store, after="key_d", limit=2) == ["key_c", "key_b"]
    assert ids(store, after="key_b", limit=2) == ["key_a"]
    assert ids(store, "t", after="key_d", is_revoked=False, limit=2) == ["key_a"]
    assert ids(store, after="key_a") == []


def test_keys_of_one_moment_are_each_on_one_page(store):
    for n in range(7):
        create(store, f"k{n}")
    found, last = [], ""
    while part := ids(store, after=last, limit=3):
        found += part
        last = part[-1]
    assert sorted(found) == [f"key_k{n}" for n in range(7)]


@pytest.mark.parametrize("after", ["key_none", "\x00", "é", "\ud800", "' OR 1=1 --", "k" * 65])
def test_a_page_after_a_key_that_is_not_there_is_refused(store, after):
    create(store, "a")
    with pytest.raises(InvalidInputError) as caught:
        store.find(KeyQuery(after=after))
    assert caught.value.param == "after"


def test_no_other_tenant_has_a_key_however_like_its_name_is(store):
    create(store, "a", "tenant")
    for other in ("Tenant", "tenant ", "ten\u200bant", "t\u0435nant"):
        assert store.find(KeyQuery(other)) == []
        assert store.revoke(["key_a"], other) == []
    assert len(store.read(-1).keys) == 1


def test_revoking_tells_which_keys_were_in_force(store):
    create(store, "a", "t")
    create(store, "b", "u")
    create(store, "c", "t")
    assert store.revoke(["key_c", "key_b", "key_none", "\x00", "é", "\ud800", "key_a"], "t") == [
        "key_c",
        "key_a",
    ]
    held = store.read(-1)
    assert {one.id for one in held.keys.values()} == {"key_b"}
    assert store.revoke(["key_a"]) == []
    assert store.revoke([]) == []
    assert store.read(held.revision) is None
    assert store.revoke(["key_b", "key_b"]) == ["key_b"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"id": ""}, "id"),
        ({"id": "a b"}, "id"),
        ({"tenant": ""}, "tenant"),
        ({"tenant": "ä" * 257}, "tenant"),
        ({"tenant": "a\x00"}, "tenant"),
        ({"tenant": "\ud800"}, "tenant"),
        ({"user": "a\nb"}, "user"),
        ({"user": "\x7f"}, "user"),
        ({"user": "\x00"}, "user"),
        ({"user": "\udc00"}, "user"),
        ({"user": "u" * 513}, "user"),
        ({"models": ("llm", "")}, "models"),
        ({"models": ("m",) * 1001}, "models"),
        ({"collections": ("c\x00",)}, "collections"),
        ({"endpoints": ("chat", "chats")}, "endpoints"),
        ({"requests_per_minute": -1}, "requests_per_minute"),
        ({"requests_per_minute": 2**31}, "requests_per_minute"),
    ],
)
def test_a_key_that_cannot_be_kept_is_refused_by_the_name_of_what_is_wrong(store, changes, param):
    before = store.read(-1)
    with pytest.raises(InvalidInputError) as caught:
        store.create(dataclasses.replace(key("a"), **changes), digest("a"))
    assert caught.value.param == param
    assert store.read(before.revision) is None


@pytest.mark.parametrize("wrong", ["", "secret", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_what_is_no_digest_is_refused(store, wrong):
    with pytest.raises(InvalidInputError, match="SHA-256"):
        store.create(key("a"), wrong)


def test_the_longest_names_are_kept(store):
    longest = key("a", "ä" * 256, user="ü" * 256, models=("m" * 512,), requests_per_minute=2**31 - 1)
    store.create(longest, digest("a"))
    (found,) = store.find(KeyQuery("ä" * 256))
    assert dataclasses.replace(found, created_at=0.0) == longest


def test_a_name_that_no_tenant_can_have_is_refused(store):
    for verb in (lambda: store.find(KeyQuery("\x00")), lambda: store.revoke(["key_a"], "a" * 513)):
        with pytest.raises(InvalidInputError):
            verb()


def test_requests_over_the_limit_wait_for_the_next_minute_and_are_not_counted(world):
    store = world.open()
    world.set_clock(40)
    assert [store.count("key_a", 3) for _ in range(5)] == [0.0, 0.0, 0.0, 20.0, 20.0]
    # A higher limit finds the three that were counted.
    assert [store.count("key_a", 5) for _ in range(3)] == [0.0, 0.0, 20.0]
    world.set_clock(59.5)
    assert store.count("key_a", 5) == 0.5
    world.set_clock(60)
    assert [store.count("key_a", 2) for _ in range(3)] == [0.0, 0.0, 60.0]
    world.set_clock(60 * 60)
    assert [store.count("key_a", 1) for _ in range(2)] == [0.0, 60.0]


def test_each_key_has_its_own_count_which_all_processes_share(world):
    here, elsewhere = world.open(), world.open()
    assert here.count("key_a", 2) == 0.0
    assert elsewhere.count("key_a", 2) == 0.0
    assert here.count("key_a", 2) == elsewhere.count("key_a", 2) == 60.0
    assert here.count("key_b", 2) == 0.0


def test_no_limit_counts_nothing(store):
    assert [store.count("key_a", 0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert [store.count("key_a", 1) for _ in range(2)] == [0.0, 60.0]


def test_a_request_that_comes_late_counts_for_the_minute_that_has_begun(world):
    store = world.open()
    world.set_clock(60)
    assert store.count("key_a", 2) == 0.0
    world.set_clock(59)
    assert store.count("key_a", 2) == 0.0
    assert store.count("key_a", 2) == 1.0
    world.set_clock(61)
    assert store.count("key_a", 2) == 59.0


def test_a_clock_that_is_put_back_locks_nobody_out(world):
    store = world.open()
    world.set_clock(3600)
    assert [store.count("key_a", 1) for _ in range(2)] == [0.0, 60.0]
    world.set_clock(0)
    assert [store.count("key_a", 1) for _ in range(2)] == [0.0, 60.0]


def test_requests_that_come_at_once_never_exceed_the_limit(world):
    stores = [world.open() for _ in range(3)]
    start = threading.Barrier(6)

    def ask(n):
        start.wait()
        return [stores[n % 3].count("key_a", 50) for _ in range(15)]

    with ThreadPoolExecutor(6) as pool:
        waits = [wait for one in pool.map(ask, range(6)) for wait in one]
    assert waits.count(0.0) == 50
    assert waits.count(60.0) == 40


def test_who_reads_only_what_changed_misses_nothing_that_was_made_meanwhile(world):
    stores = [world.open() for _ in range(4)]
    start = threading.Barrier(5)

    def make(n):
        start.wait()
        for k in range(10):
            create(stores[n], f"{n}-{k}")
        stores[n].revoke([f"key_{n}-{k}" for k in range(5)])

    reader = world.open()
    held = reader.read(-1)
    with ThreadPoolExecutor(4) as pool:
        making = [pool.submit(make, n) for n in range(4)]
        start.wait()
        while not all(one.done() for one in making):
            found = reader.read(held.revision)
            if found is not None:
                assert found.revision > held.revision
                held = found
        for one in making:
            one.result()
    held = reader.read(held.revision) or held
    assert held == reader.read(-1)
    assert len(held.keys) == 20


def test_a_closed_store_opens_again(store):
    create(store, "a")
    store.close()
    store.close()
    assert len(store.read(-1).keys) == 1
    assert store.count("key_a", 1) == 0.0


@pytest.mark.parametrize("field", ["tenant", "user"])
def test_a_key_of_each_is_refused_since_budgets_mean_everybody_by_it(store, field):
    with pytest.raises(InvalidInputError, match="which stands for each in budgets"):
        store.create(dataclasses.replace(FULL, id="key_each", **{field: "*"}), digest("each"))
