"""Kept answers and locks of questions in Valkey or Redis, shared by all gateways. The server may drop any of it."""

from __future__ import annotations

from trireme.redis.connection import RedisStore, Script

PREFIX = "trireme:cache:"
LOCK_PREFIX = "trireme:cache-lock:"

# Takes the lock, or prolongs one's own.
_LOCK = Script("""
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")
# A lock that ran out may be another's by now.
_UNLOCK = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
""")


class RedisCache:
    """See CacheStore. Closes the store when it is closed."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def get(self, key: str) -> bytes | None:
        """See CacheStore."""
        found = await self._store.run("GET", PREFIX + key)
        return None if found is None else bytes(found)

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """See CacheStore."""
        await self._store.run("SET", PREFIX + key, value, "PX", _milliseconds(seconds))

    async def lock(self, key: str, owner: str, seconds: float) -> bool:
        """See CacheStore."""
        words = (owner, _milliseconds(seconds))
        return bool(await self._store.run_script(_LOCK, (LOCK_PREFIX + key,), words))

    async def unlock(self, key: str, owner: str) -> None:
        """See CacheStore."""
        await self._store.run_script(_UNLOCK, (LOCK_PREFIX + key,), (owner,))

    async def close(self) -> None:
        """See CacheStore."""
        await self._store.close()


def _milliseconds(seconds: float) -> int:
    # The server refuses 0.
    return max(1, round(seconds * 1000))
