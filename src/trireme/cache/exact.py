"""The exact tier: an equal question of the same tenant gets the same answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import quote

import msgspec

from trireme.cache.port import CacheStore, Entry, Found, Question
from trireme.cache.rest import Rest
from trireme.errors import UnavailableError

FIND_SECONDS = 0.05
KEEP_SECONDS = 1.0
FORMAT = 1

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, str, float, bytes]).decode


class ExactTier:
    """See CacheTier. Over a store that all gateways share, which is closed with it."""

    name = "exact"

    def __init__(
        self,
        store: CacheStore,
        *,
        find_seconds: float = FIND_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """find_seconds: that a find may take. now: Unix seconds, of ages; clock: of rests."""
        self._store = store
        self._find_seconds = find_seconds
        self._now = now
        self._rest = Rest(clock=clock)

    async def find(self, question: Question) -> Found | None:
        """See CacheTier."""
        if self._rest.is_on():
            return None
        try:
            async with asyncio.timeout(self._find_seconds):
                value = await self._store.get(place_of(question))
        except (UnavailableError, TimeoutError) as error:
            self._rest.note_failure(error)
            return None
        self._rest.note_answer()
        entry = None if value is None else read_entry(value)
        # What lies there may have been put by anybody who reaches the store.
        if entry is None or entry.key != question.key:
            return None
        age = max(0.0, self._now() - entry.made_at)
        most = question.seconds + (question.stale_seconds if question.takes_stale else 0.0)
        if age > most or (question.max_age is not None and age > question.max_age):
            return None
        return Found(entry, self.name)

    async def keep(self, question: Question, entry: Entry) -> None:
        """See CacheTier."""
        if self._rest.is_on() or question.seconds <= 0:
            return
        try:
            async with asyncio.timeout(KEEP_SECONDS):
                seconds = question.seconds + question.stale_seconds
                await self._store.put(place_of(question), write_entry(entry), seconds)
        except (UnavailableError, TimeoutError) as error:
            self._rest.note_failure(error)

    async def close(self) -> None:
        """See CacheTier."""
        await self._store.close()


def place_of(question: Question) -> str:
    """Where the store has its answer; the tenant stands in front, so that an operator can find all of one."""
    return f"exact:{quote(question.tenant, safe='')}:{question.key}"


def write_entry(entry: Entry) -> bytes:
    """An entry as the store has it."""
    return _encode((FORMAT, entry.key, entry.made_at, entry.body))


def read_entry(value: bytes) -> Entry | None:
    """The entry again; None for anything else."""
    try:
        number, key, made_at, body = _decode(value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return Entry(key, body, made_at) if number == FORMAT else None
