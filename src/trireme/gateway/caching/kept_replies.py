"""Answers of encoders and searches that are fetched again by their digest: by a GET, which any HTTP cache keeps."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import msgspec

from trireme.cache.port import CacheStore
from trireme.errors import UnavailableError


class KeptReply(msgspec.Struct, frozen=True, array_like=True):
    """One answer. path: that it was asked at. version: of the models and the collection that made it."""

    tenant: str
    path: str
    endpoint: str
    model: str
    collection: str
    user: str
    version: str
    made_at: float
    seconds: int
    body: bytes


class KeptReplies:
    """Over a store that may forget; without one nothing is kept. Neither verb raises."""

    def __init__(
        self, store: CacheStore | None, most_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        """most_bytes: of one answer. The store is the caller's to close."""
        self._store = store
        self._most = most_bytes
        self._clock = clock

    async def keep(self, tag: str, reply: KeptReply) -> bool:
        """Keep an answer for its seconds. False where it is not kept."""
        if self._store is None or len(reply.body) > self._most:
            return False
        try:
            await self._store.put(_key(reply.tenant, tag), msgspec.msgpack.encode(reply), reply.seconds)
        except UnavailableError:
            return False
        return True

    async def find(self, tenant: str, tag: str) -> KeptReply | None:
        """The tenant's answer of that tag, if it is still kept and young enough."""
        if self._store is None:
            return None
        try:
            raw = await self._store.get(_key(tenant, tag))
            reply = None if raw is None else msgspec.msgpack.decode(raw, type=KeptReply)
        except (UnavailableError, msgspec.DecodeError, ValueError):
            return None
        if reply is None or reply.tenant != tenant or self._clock() >= reply.made_at + reply.seconds:
            return None
        return reply


def _key(tenant: str, tag: str) -> str:
    whose = hashlib.sha256(tenant.encode()).hexdigest()[:32]
    return f"trireme:reply:{whose}:{tag}"
