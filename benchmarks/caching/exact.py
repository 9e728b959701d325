"""Times of the exact tier over a Valkey that holds many answers."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trireme.cache.exact import ExactTier, place_of, write_entry
from trireme.cache.port import Entry, Question
from trireme.local.valkey import start_valkey
from trireme.redis.cache import PREFIX, RedisCache
from trireme.redis.connection import RedisStore
from trireme.tune.perf_analyzer import compute_percentile

# Bytes of an answer's events: of some 300 words.
ANSWER_BYTES = 1_500
# Stored at once while the store is filled.
BATCH = 1_000
WARMUP = 50
STORE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class LookupTimes:
    """Milliseconds of lookups one after the other among so many entries. left: entries after the lookups."""

    what: str
    entries: int
    lookups: int
    p50_ms: float
    p99_ms: float
    left: int


def make_question(number: int) -> Question:
    """One of a tenant's."""
    return Question("acme", hashlib.sha256(str(number).encode()).hexdigest(), "all", model="llm")


def make_entry(question: Question, seed: int) -> Entry:
    """An answer that cannot be compressed."""
    body = random.Random(f"{seed} {question.key}").randbytes(ANSWER_BYTES)  # noqa: S311 - no secret
    return Entry(question.key, body, time.time())


def measure_exact(folder: Path, sizes: tuple[int, ...], lookups: int, seed: int) -> list[LookupTimes]:
    """Of hits, misses and keeps at each size, ascending, in a Valkey of `folder`. Blocks; raises TriremeError."""
    with start_valkey(folder, STORE_BYTES) as valkey:
        return asyncio.run(_measure(valkey.cache_url, sizes, lookups, seed))


async def _measure(url: str, sizes: tuple[int, ...], lookups: int, seed: int) -> list[LookupTimes]:
    store = RedisStore(url)
    # A busy machine must not become misses: the times show it.
    tier = ExactTier(RedisCache(store), find_seconds=1.0)
    rows, there = [], 0
    draw = random.Random(seed)  # noqa: S311 - a sample, no secret
    try:
        for size in sizes:
            await _fill(store, range(there, size), seed)
            there = size
            known = [make_question(draw.randrange(size)) for _ in range(lookups + WARMUP)]
            unknown = [make_question(size + 10**9 + number) for number in range(lookups + WARMUP)]
            hits = [await _time_find(tier, question, is_there=True) for question in known]
            misses = [await _time_find(tier, question, is_there=False) for question in unknown]
            # In place of what is there: the number of entries stays.
            keeps = [await _time_keep(tier, question, seed) for question in known]
            left = int(await store.run("DBSIZE"))
            for what, times in (("hit", hits), ("miss", misses), ("keep", keeps)):
                rows.append(summarize(what, size, times[WARMUP:], left))
    finally:
        await tier.close()
    return rows


def summarize(what: str, entries: int, times_ms: list[float], left: int) -> LookupTimes:
    """Percentiles of at least one time."""
    p50, p99 = (round(compute_percentile(times_ms, percent), 3) for percent in (50.0, 99.0))
    return LookupTimes(what, entries, len(times_ms), p50, p99, left)


async def _fill(store: RedisStore, numbers: range, seed: int) -> None:
    for start in range(numbers.start, numbers.stop, BATCH):
        some = range(start, min(start + BATCH, numbers.stop))
        await store.pipeline(list(_puts(some, seed)))


def _puts(numbers: range, seed: int) -> Iterator[tuple[str | bytes | int, ...]]:
    for number in numbers:
        question = make_question(number)
        value = write_entry(make_entry(question, seed))
        yield ("SET", PREFIX + place_of(question), value, "PX", 3_600_000)


async def _time_find(tier: ExactTier, question: Question, *, is_there: bool) -> float:
    """Milliseconds. Raises AssertionError for an answer that should not, or should, be there."""
    began = time.perf_counter()
    found = await tier.find(question)
    spent = time.perf_counter() - began
    assert (found is not None) == is_there, "the store does not hold what it should"
    return 1000 * spent


async def _time_keep(tier: ExactTier, question: Question, seed: int) -> float:
    entry = make_entry(question, seed)
    began = time.perf_counter()
    await tier.keep(question, entry)
    return 1000 * (time.perf_counter() - began)
