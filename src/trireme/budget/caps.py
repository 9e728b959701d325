"""Caps: how much a tenant, a user or the whole gateway may spend in a window; and the port that keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

Level = Literal["gateway", "tenant", "user"]
# A minute, day or month of UTC, from its first instant on.
Window = Literal["minute", "day", "month"]
LEVELS: tuple[Level, ...] = ("gateway", "tenant", "user")
WINDOWS: tuple[Window, ...] = ("minute", "day", "month")
# As a tenant: each that has no cap of its own for the window. As a user: each user of the tenant, likewise.
EACH = "*"
# Largest amount: counters are doubles in scripts of the store.
MOST = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `tokens` and `nanos` (billionths of a US dollar) in one window; None: no limit of that unit.

    tenant "": the whole gateway. user "": the tenant. Either may be EACH where it is set.
    """

    tenant: str
    user: str
    window: Window
    tokens: int | None = None
    nanos: int | None = None

    @property
    def level(self) -> Level:
        """Whose it is."""
        if not self.tenant:
            return "gateway"
        return "user" if self.user else "tenant"


@dataclass(frozen=True, slots=True)
class CapSet:
    """All caps. `revision` rises with every change of any."""

    revision: int
    caps: tuple[Cap, ...]


class CapStore(Protocol):
    """Caps, kept for good. Safe to use from several threads and processes. Every verb raises UnavailableError."""

    def put(self, cap: Cap) -> None:
        """Keep a cap in place of the one of its tenant, user and window. One without tokens and nanos is removed.

        Raises InvalidInputError for bad names, a user without a tenant, and amounts outside of 0 to MOST.
        """
        ...

    def find(self, tenant: str = "") -> list[Cap]:
        """Caps of one tenant and its users, or of all, the gateway's first, then by tenant, user, window."""
        ...

    def read(self, revision: int) -> CapSet | None:
        """All caps, or None where nothing changed since `revision`. -1 reads in any case."""
        ...

    def close(self) -> None:
        """Free the connections. Idempotent; a later verb opens new ones."""
        ...


def caps_of(caps: Iterable[Cap], tenant: str, user: str) -> tuple[Cap, ...]:
    """Those in force for a user ("": none) of a tenant, names instead of EACH; the gateway's first.

    For each level and window the one that names tenant and user comes before the one of EACH.
    """
    found: dict[tuple[Level, Window], tuple[int, Cap]] = {}
    for cap in caps:
        if cap.tenant not in ("", EACH, tenant) or cap.user not in ("", EACH, user):
            continue
        if cap.user and not user:
            continue
        exactness = 2 * (cap.tenant == tenant) + (cap.user == user)
        place = (cap.level, cap.window)
        if place not in found or exactness > found[place][0]:
            named = replace(cap, tenant=tenant if cap.tenant else "", user=user if cap.user else "")
            found[place] = (exactness, named)
    order: Sequence[tuple[Level, Window]] = [(level, window) for level in LEVELS for window in WINDOWS]
    return tuple(found[place][1] for place in order if place in found)
