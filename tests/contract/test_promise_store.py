"""One suite for every PromiseStore, the fake in memory and the real PostgreSQL."""

import uuid

import pytest

from fakes.memory_promises import MemoryPromises
from trireme.cache.promise import Check, Evidence

MOST = 5


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def open_store(request):
    """Opens stores over the same checks, as several processes do."""
    opened = []

    def make():
        if request.param == "memory":
            return opened[0] if opened else opened.append(MemoryPromises(MOST)) or opened[0]
        from trireme.postgres.semantic_promises import PostgresPromises

        opened.append(PostgresPromises(request.getfixturevalue("database").url, MOST))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store):
    return open_store()


@pytest.fixture
def scope():
    return f"models.{uuid.uuid4().hex}"


def test_a_scope_without_checks_is_on_and_has_no_evidence(store, scope):
    assert store.read(scope) == Evidence((), is_off=False)


def test_checks_are_read_in_their_order_by_every_process(open_store, scope):
    here, elsewhere = open_store(), open_store()
    checks = (Check(scope, "t/m", 1.5, True), Check(scope, "t/n", -0.25, False))
    for check in checks:
        here.record(check)
    assert elsewhere.read(scope).checks == checks


def test_a_scope_has_its_own_checks_and_state(store, scope):
    store.record(Check(scope, "t/m", 1.0, False))
    store.turn(scope, is_off=True)
    assert store.read(scope + "x") == Evidence()


def test_the_oldest_checks_go(store, scope):
    for n in range(MOST + 3):
        store.record(Check(scope, "t/m", float(n), True))
    assert [check.score for check in store.read(scope).checks] == [3.0, 4.0, 5.0, 6.0, 7.0]


def test_a_turn_says_whether_it_changed_anything(store, scope):
    assert not store.turn(scope, is_off=False)
    assert store.turn(scope, is_off=True)
    assert not store.turn(scope, is_off=True)
    assert store.read(scope).is_off
    assert store.turn(scope, is_off=False)
    assert not store.read(scope).is_off


def test_a_reset_forgets_the_checks_and_turns_on(store, scope):
    for _ in range(3):
        store.record(Check(scope, "t/m", 1.0, False))
    store.turn(scope, is_off=True)
    assert store.reset(scope) == 3
    assert store.read(scope) == Evidence()
    assert store.reset(scope) == 0


def test_a_closed_store_opens_again(store, scope):
    store.record(Check(scope, "t/m", 1.0, True))
    store.close()
    store.close()
    assert len(store.read(scope).checks) == 1
