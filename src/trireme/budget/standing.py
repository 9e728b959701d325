"""How budgets stand: which caps concern a tenant, and what of each is spent and held now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from trireme.budget.caps import EACH, WINDOWS, Cap, Level, caps_of
from trireme.budget.port import BudgetStore, Counter

# Questions to the store; requests have its other connections.
AT_ONCE = 8
# Tenant, user, window.
Place = tuple[str, str, str]


def place_of(cap: Cap) -> Place:
    """By which a cap's counter is found."""
    return cap.tenant, cap.user, cap.window


def caps_for(caps: Iterable[Cap], tenant: str, user: str = "") -> list[Cap]:
    """Those in force for a tenant and its users, or for one user alone; never the gateway's.

    A rule for each tenant has this one's name; a rule for each user stays one, unless a user is named.
    """
    caps = list(caps)
    if user:
        return [cap for cap in caps_of(caps, tenant, user) if cap.level == "user"]
    own = [cap for cap in caps_of(caps, tenant, "") if cap.level == "tenant"]
    users = {(cap.user, cap.window): cap for cap in caps if cap.user and cap.tenant == tenant}
    for cap in caps:
        if cap.user and cap.tenant == EACH:
            users.setdefault((cap.user, cap.window), replace(cap, tenant=tenant))
    return own + sorted(users.values(), key=lambda cap: (cap.user, WINDOWS.index(cap.window)))


async def read_counters(store: BudgetStore, caps: Iterable[Cap]) -> dict[Place, Counter]:
    """What is spent and held now of each cap that names whose it is. Raises UnavailableError."""
    found: dict[Place, Counter] = {}
    scopes = dict.fromkeys((cap.tenant, cap.user) for cap in caps if EACH not in (cap.tenant, cap.user))
    turns = asyncio.Semaphore(AT_ONCE)

    async def read(tenant: str, user: str) -> None:
        level: Level = "user" if user else "tenant" if tenant else "gateway"
        async with turns:
            counters = await store.read(tenant, user)
        for counter in counters:
            if counter.level == level:
                found[tenant, user, counter.window] = counter

    try:
        # One that fails ends the others.
        async with asyncio.TaskGroup() as group:
            for scope in scopes:
                group.create_task(read(*scope))
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None
    return found
