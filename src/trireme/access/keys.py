"""The key store's port, and what a key is. A key's secret is shown once; the store has its SHA-256 alone."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from trireme.access.priorities import NORMAL, Priority

# Ours are recognizable, for scanners of leaked secrets.
SECRET_PREFIX = "tr-"  # noqa: S105 - a prefix, no secret
# 256 random bits: a plain hash suffices, since nothing can be guessed.
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret. Empty tuples allow all; `requests_per_minute` 0 is no limit.

    models, collections, endpoints: names that it may use. endpoints are those of `trireme.access.endpoints`.
    priority: of its requests; one may ask for a lower one, and for no higher one.
    """

    id: str
    tenant: str
    user: str = ""
    models: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    requests_per_minute: int = 0
    created_at: float = 0.0
    is_revoked: bool = False
    priority: Priority = NORMAL


@dataclass(frozen=True, slots=True)
class KeySet:
    """All keys in force by the SHA-256 (hex) of their secrets. `revision` rises with every change of any key."""

    revision: int
    keys: dict[str, Key]


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """Which keys, and which part of them. tenant "": of all. is_revoked None: in force or not. after: the id of the
    last key of the part before; limit None: all that are left."""

    tenant: str = ""
    is_revoked: bool | None = None
    after: str = ""
    limit: int | None = None


ALL_KEYS = KeyQuery()


class KeyStore(Protocol):
    """Keys, kept for good. Safe to use from several threads and processes. Every verb raises UnavailableError."""

    def create(self, key: Key, digest: str) -> None:
        """Keep a key with the SHA-256 (hex) of its secret, in force and made now by the store's clock.

        Raises InvalidInputError for bad names (`access.checks`), and for an id or secret that is there already.
        """
        ...

    def find(self, query: KeyQuery = ALL_KEYS) -> list[Key]:
        """Keys, the newest first. Raises InvalidInputError for an `after` that is no key's."""
        ...

    def revoke(self, ids: Sequence[str], tenant: str = "") -> list[str]:
        """Take keys out of force, of `tenant` alone where it is given; returns those ids that were in force."""
        ...

    def read(self, revision: int) -> KeySet | None:
        """All keys in force, or None where nothing changed since `revision`. -1 reads in any case."""
        ...

    def count(self, key_id: str, limit: int) -> float:
        """Count one request of this minute (of the store's clock). 0.0 if it is within `limit`, else the seconds
        until the next minute; a request over the limit is not counted. Shared by all processes. A limit below 1 is
        none: nothing is counted."""
        ...

    def close(self) -> None:
        """Free the connections. Idempotent; a later verb opens new ones."""
        ...


def new_secret() -> str:
    """A secret for a new key."""
    return SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def new_key_id() -> str:
    """An id for a new key: names it in lists and logs, and opens nothing."""
    return f"key_{secrets.token_hex(6)}"


def digest_of(secret: str) -> str:
    """SHA-256 (hex) by which a key is found."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
