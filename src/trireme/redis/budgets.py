"""The budget store in Valkey or Redis: one script a verb, so that nothing is ever done by half.

All keys share one hash tag: in a cluster they lie on one shard. Beside the counters the store keeps the rows that
wait for the ledger; both change in one step, so they agree whenever a process dies.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from trireme.budget.amounts import check_claim, clamp, differences
from trireme.budget.caps import LEVELS, WINDOWS, Cap
from trireme.budget.late import row_as_charged
from trireme.budget.port import Bill, Claim, Counter, Hold, Progress, Refusal, Snapshot, Waiting
from trireme.errors import UnavailableError
from trireme.redis.connection import RedisStore, Script

SPACE = "trireme"
# Holds that one script ends or extends, and rows that one command removes: all others wait meanwhile.
BATCH = 100
KEEPS_ALL = "noeviction"
# Users whose scopes are remembered: hashing them is a tenth of a reservation.
KEPT_SCOPES = 10_000
# The server's policy is asked for again after so long, and after every fault.
CHECK_SECONDS = 5.0


@cache
def load_script(name: str) -> Script:
    """A script of the folder beside, behind what all have in common."""
    folder = files("trireme.redis") / "scripts"
    return Script((folder / "common.lua").read_text() + (folder / f"{name}.lua").read_text())


@lru_cache(maxsize=KEPT_SCOPES)
def scope_names(tenant: str, user: str) -> tuple[str, ...]:
    """The scopes of a user of a tenant, the widest first; names that differ never give the same."""
    scopes: list[Sequence[str]] = [[]]
    if tenant:
        scopes.append([tenant])
        if user:
            scopes.append([tenant, user])
    return tuple(hashlib.sha256(json.dumps(scope).encode()).hexdigest()[:32] for scope in scopes)


class RedisBudgets:
    """BudgetStore and SpendQueue over one store, which must not evict. For one event loop."""

    def __init__(self, store: RedisStore, now: Callable[[], int] | None = None, space: str = SPACE) -> None:
        """now: milliseconds in place of the server's clock, for tests of other days. space: of its keys; spaces of
        one server know nothing of each other."""
        self._store = store
        self._holds, self._rows = f"{{{space}}}:holds", f"{{{space}}}:rows"
        self._now = now
        self._keeps_all_until = 0.0
        # Of the store as its last hold or snapshot had it; "" before the first.
        self._epoch = ""

    async def reserve(self, claim: Claim) -> Hold | Refusal:
        """See BudgetStore."""
        check_claim(claim)
        scopes = scope_names(claim.tenant, claim.user)
        reply = await self._run(
            "reserve",
            claim.id,
            claim.tokens,
            claim.nanos,
            claim.spent_tokens,
            claim.spent_nanos,
            int(claim.lease_seconds * 1000),
            claim.row,
            " ".join(scopes),
            self._epoch,
            *_caps_of(claim.caps, len(scopes)),
        )
        if len(reply) <= 2:
            self._epoch = reply[0].decode()
            if len(reply) == 1:
                raise UnavailableError("the budget store has lost what it held; try again")
            return Hold(claim.id, int(reply[1]))
        level, window, unit, *amounts = reply
        cap, spent, held, resets_at, left_tokens, left_nanos = map(int, amounts)
        return Refusal(
            level=LEVELS[int(level)],
            window=next(one for one in WINDOWS if one == window.decode()),
            unit=unit.decode(),
            cap=cap,
            spent=spent,
            held=held,
            resets_at=resets_at,
            left_tokens=left_tokens if left_tokens >= 0 else None,
            left_nanos=left_nanos if left_nanos >= 0 else None,
        )

    async def extend(self, running: Sequence[Progress], lease_seconds: float) -> list[str]:
        """See BudgetStore."""
        ended: list[bytes] = []
        for start in range(0, len(running), BATCH):
            some = running[start : start + BATCH]
            words = [word for one in some for word in (one.id, clamp(one.tokens), clamp(one.nanos))]
            ended += await self._run("extend", int(lease_seconds * 1000), *words)
        return [one.decode() for one in ended]

    async def settle(self, bill: Bill) -> bool:
        """See BudgetStore."""
        scopes = " ".join(scope_names(bill.tenant, bill.user))
        tokens, nanos = clamp(bill.tokens), clamp(bill.nanos)
        return bool(await self._run("settle", bill.id, tokens, nanos, bill.row, scopes))

    async def read(self, tenant: str, user: str) -> list[Counter]:
        """See BudgetStore."""
        return list((await self.snapshot(tenant, user)).counters)

    async def close(self) -> None:
        """Close the connections."""
        await self._store.close()

    async def expire(self) -> int:
        """See SpendQueue."""
        total = 0
        while ended := int(await self._run("expire", BATCH)):
            total += ended
            if ended < BATCH:
                break
        return total

    async def peek(self, limit: int) -> list[Waiting]:
        """See SpendQueue."""
        await self._check_policy()
        entries = await self._store.run("XRANGE", self._rows, "-", "+", "COUNT", limit)
        return [_waiting(name, fields) for name, fields in entries]

    async def remove(self, entries: Sequence[str]) -> None:
        """See SpendQueue."""
        await self._check_policy()
        for start in range(0, len(entries), BATCH):
            await self._store.run("XDEL", self._rows, *entries[start : start + BATCH])

    async def snapshot(self, tenant: str, user: str) -> Snapshot:
        """See SpendQueue."""
        scopes = scope_names(tenant, user)
        epoch, seq, token, *rows = await self._run("read", " ".join(scopes))
        places = [(level, window) for level in LEVELS[: len(scopes)] for window in WINDOWS]
        counters = tuple(
            Counter(level, window, *map(int, row)) for (level, window), row in zip(places, rows, strict=True)
        )
        # Whoever reads it knows of a loss.
        self._epoch = epoch.decode()
        return Snapshot(self._epoch, int(seq), counters, token.decode())

    async def correct(self, snapshot: Snapshot, tenant: str, user: str, counters: Sequence[Counter]) -> bool:
        """See SpendQueue."""
        changes = list(differences(snapshot, counters))
        scopes = dict(zip(LEVELS, scope_names(tenant, user), strict=False))
        corrections = dict(zip(LEVELS, snapshot.token.split(), strict=False))
        levels = {one.level for one in counters}
        words: list[str | int] = [len(levels)]
        for level in levels:
            words += [scopes[level], corrections[level]]
        for one, tokens, nanos in changes:
            words += [scopes[one.level], one.window, one.start, tokens, nanos]
        return bool(await self._run("correct", snapshot.epoch, *words))

    async def _run(self, script: str, *words: str | bytes | int) -> Any:
        await self._check_policy()
        clock = "" if self._now is None else str(self._now())
        try:
            return await self._store.run_script(load_script(script), [self._holds], [clock, *words])
        except UnavailableError:
            # Whoever comes back may be another server.
            self._keeps_all_until = 0.0
            raise

    async def _check_policy(self) -> None:
        """Raises UnavailableError for a store that may evict what it holds."""
        if time.monotonic() < self._keeps_all_until:
            return
        policy = await self._store.policy()
        if policy != KEEPS_ALL:
            raise UnavailableError(
                f"the budget store may evict what it holds (maxmemory-policy {policy}); set it to {KEEPS_ALL}, or"
                " give budgets a server of their own in TRIREME_REDIS_URL"
            )
        self._keeps_all_until = time.monotonic() + CHECK_SECONDS


def _caps_of(caps: Sequence[Cap], scopes: int) -> list[int]:
    """Tokens and nanos of each scope and window, -1 for none."""
    found = {(cap.level, cap.window): cap for cap in caps}
    words = []
    for level in LEVELS[:scopes]:
        for window in WINDOWS:
            cap = found.get((level, window))
            for amount in (cap.tokens, cap.nanos) if cap else (None, None):
                words.append(-1 if amount is None else amount)
    return words


def _waiting(name: bytes, fields: Sequence[bytes]) -> Waiting:
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    tokens, nanos = int(found[b"tokens"]), int(found[b"nanos"])
    return Waiting(
        entry=name.decode(),
        epoch=found[b"epoch"].decode(),
        seq=int(found[b"seq"]),
        at=int(found[b"at"]),
        tokens=tokens,
        nanos=nanos,
        row=row_as_charged(found[b"row"], found[b"how"].decode(), tokens, nanos),
    )
