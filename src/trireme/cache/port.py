"""What caches of answers share: a question, an entry, the port of a tier and of the store below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Question:
    """A request as caches see it. Never made without a tenant.

    key: SHA-256 (hex) of the tenant and all that can change the answer: two questions have one key only if the
    answer of one is the answer of the other. partition: the same without the text that varies; entries of
    different partitions never serve each other. text: that text, "" where only an equal question may be served.
    seconds: for how long an answer may be kept. max_age: of an entry that may be served, seconds; None: any.
    stale_seconds: for which it is kept past that, for questions that takes_stale.
    """

    tenant: str
    key: str
    partition: str
    text: str = ""
    model: str = ""
    seconds: float = 3600.0
    max_age: float | None = None
    may_read: bool = True
    may_keep: bool = True
    stale_seconds: float = 0.0
    takes_stale: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A complete answer. body: its events, encoded by the gateway. made_at: Unix seconds. key: of its question."""

    key: str
    body: bytes
    made_at: float


@dataclass(frozen=True, slots=True)
class Found:
    """A hit. tier: its name. details: what the tier says of it, for the header, such as sim=0.97."""

    entry: Entry
    tier: str
    details: Mapping[str, str] = field(default_factory=dict)


class CacheTier(Protocol):
    """One tier. For one event loop. Neither verb raises: a tier that fails or is slow has missed, and says so in
    its metrics."""

    name: str

    async def find(self, question: Question) -> Found | None:
        """The entry that may serve the question, which the caller has checked to be eligible (`may_read`)."""
        ...

    async def keep(self, question: Question, entry: Entry) -> None:
        """Keep a complete answer for `question.seconds`."""
        ...

    async def close(self) -> None:
        """Free what it has opened."""
        ...


class CacheStore(Protocol):
    """Bytes that may be gone at any time. Shared by all gateways. Every verb raises UnavailableError."""

    async def get(self, key: str) -> bytes | None:
        """What was put under the key, if it is there still."""
        ...

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep it for so long at most, in place of what was there."""
        ...

    async def lock(self, key: str, owner: str, seconds: float) -> bool:
        """Take or prolong the lock of a key for so long; False while another owner has it."""
        ...

    async def unlock(self, key: str, owner: str) -> None:
        """Free the lock if `owner` has it."""
        ...

    async def close(self) -> None:
        """Free the connections."""
        ...
