"""Answers that are fetched again by their digest."""

import asyncio

from trireme.errors import UnavailableError
from trireme.gateway.caching.kept_replies import KeptReplies, KeptReply

TAG = "a" * 64


class Store:
    def __init__(self):
        self.held = {}
        self.is_away = False

    async def get(self, key):
        self._check()
        return self.held.get(key)

    async def put(self, key, value, seconds):
        self._check()
        self.held[key] = value

    def _check(self):
        if self.is_away:
            raise UnavailableError("away")


def reply(tenant="acme", made_at=100.0, body=b"{}"):
    return KeptReply(tenant, "/v1/embeddings", "embeddings", "m", "", "", "v", made_at, 60, body)


def replies(store, now=100.0, most=100):
    return KeptReplies(store, most, clock=lambda: now)


def test_what_is_kept_is_found_by_its_tenant_alone():
    store = Store()
    assert asyncio.run(replies(store).keep(TAG, reply()))
    assert asyncio.run(replies(store).find("acme", TAG)) == reply()
    for other in ("acm", "acme ", "", "ACME"):
        assert asyncio.run(replies(store).find(other, TAG)) is None
    # Also where a store would give away another one's entry.
    store.held = {key: value for key in map(str, range(3)) for value in store.held.values()}
    assert asyncio.run(replies(store).find("acme", TAG)) is None


def test_what_is_too_large_or_too_old_is_not_given():
    store = Store()
    assert not asyncio.run(replies(store, most=1).keep(TAG, reply()))
    assert asyncio.run(replies(store).keep(TAG, reply()))
    assert asyncio.run(replies(store, now=159.0).find("acme", TAG)) == reply()
    assert asyncio.run(replies(store, now=160.0).find("acme", TAG)) is None


def test_a_store_that_is_away_or_holds_something_else_is_a_miss():
    store = Store()
    assert asyncio.run(replies(store).keep(TAG, reply()))
    store.is_away = True
    assert asyncio.run(replies(store).find("acme", TAG)) is None
    assert not asyncio.run(replies(store).keep(TAG, reply()))
    store.is_away = False
    whole = next(iter(store.held.values()))
    # The last one is no UTF-8 where a text should be.
    for value in (b"\x93nonsense", whole[:-1], whole.replace(b"acme", b"\xff\xfe\xfd\xfc")):
        store.held = dict.fromkeys(store.held, value)
        assert asyncio.run(replies(store).find("acme", TAG)) is None
    assert asyncio.run(replies(None).find("acme", TAG)) is None
    assert not asyncio.run(replies(None).keep(TAG, reply()))
