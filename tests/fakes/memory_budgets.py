"""A budget store in memory: as the real one, of one process, by plain Python."""

import itertools
from collections import Counter as Counts
from datetime import UTC, datetime

from trireme.budget.amounts import check_claim, clamp, differences
from trireme.budget.caps import LEVELS, WINDOWS
from trireme.budget.late import row_as_charged
from trireme.budget.port import Counter, Hold, Refusal, Snapshot, Waiting
from trireme.errors import UnavailableError

_epochs = itertools.count(1)


def start_of(window, at):
    moment = datetime.fromtimestamp(at // 1000, UTC).replace(second=0, microsecond=0)
    if window != "minute":
        moment = moment.replace(hour=0, minute=0)
    if window == "month":
        moment = moment.replace(day=1)
    return int(moment.timestamp()) * 1000


def end_of(window, start):
    days = {"minute": 60_000, "day": 86_400_000}
    if window in days:
        return start + days[window]
    return start_of("month", start + 32 * 86_400_000)


class MemoryBudgets:
    """BudgetStore and SpendQueue. `clock` gives milliseconds (Unix). `is_away` makes every verb fail."""

    def __init__(self, clock):
        self.clock = clock
        self.is_away = False
        self.lose()
        # Of the last hold or snapshot; this fake is one client, however many gateways use it.
        self._held_in = self.epoch

    def lose(self):
        """Forget all, as a store does whose files are gone."""
        self.epoch = f"epoch-{next(_epochs)}"
        self.seq = 0
        self.counters, self.holds, self.rows, self.corrections = {}, {}, [], Counts()

    async def reserve(self, claim):
        self._check()
        check_claim(claim)
        if self._held_in != self.epoch:
            self._held_in = self.epoch
            raise UnavailableError("the budget store has lost what it held; try again")
        if claim.id in self.holds:
            return Hold(claim.id, self.holds[claim.id]["at"])
        now = self.clock()
        self._sweep(now)
        caps = {(cap.level, cap.window): cap for cap in claim.caps}
        refusal, left = None, {"tokens": [], "nanos": []}
        for level, window in itertools.product(LEVELS, WINDOWS):
            cap = caps.get((level, window))
            amounts = self._amounts(level, claim.tenant, claim.user, window, now)
            for unit, asked in (("tokens", claim.tokens), ("nanos", claim.nanos)):
                limit = getattr(cap, unit, None)
                if limit is None:
                    continue
                spent, held = amounts[unit]
                left[unit].append(limit - spent - held)
                if spent + held + asked > limit and refusal is None:
                    ends = end_of(window, start_of(window, now))
                    refusal = (level, window, unit, limit, spent, held, ends)
        if refusal is not None:
            return Refusal(*refusal, *(max(min(left[unit]), 0) if left[unit] else None for unit in left))
        self.holds[claim.id] = {
            "at": now,
            "state": "held",
            "who": (claim.tenant, claim.user),
            "held": (claim.tokens, claim.nanos),
            "used": (claim.spent_tokens, claim.spent_nanos),
            "row": claim.row,
            "ends": now + int(claim.lease_seconds * 1000),
        }
        self._add(self.holds[claim.id], (0, 0), self.holds[claim.id]["held"])
        return Hold(claim.id, now)

    async def extend(self, running, lease_seconds):
        self._check()
        ended = []
        for one in running:
            hold = self.holds.get(one.id)
            if hold is None or hold["state"] != "held":
                ended.append(one.id)
                continue
            hold["used"] = (clamp(one.tokens), clamp(one.nanos))
            hold["ends"] = self.clock() + int(lease_seconds * 1000)
        return ended

    async def settle(self, bill):
        self._check()
        hold = self.holds.get(bill.id)
        used = (clamp(bill.tokens), clamp(bill.nanos))
        if hold is None:
            hold = {"at": self.clock(), "state": "new", "who": (bill.tenant, bill.user), "held": (0, 0)}
            self.holds[bill.id] = hold
        state, hold["state"] = hold["state"], "settled"
        if state == "settled":
            return False
        if state == "expired":
            self._charge(hold, (-hold["used"][0], -hold["used"][1]), (0, 0), hold["row"], "reversed")
            hold["held"] = (0, 0)
        self._charge(hold, used, (-hold["held"][0], -hold["held"][1]), bill.row, "settled")
        return True

    async def read(self, tenant, user):
        return list((await self.snapshot(tenant, user)).counters)

    async def close(self):
        pass

    async def expire(self):
        self._check()
        return self._sweep(self.clock())

    async def peek(self, limit):
        self._check()
        return self.rows[:limit]

    async def remove(self, entries):
        self._check()
        self.rows = [row for row in self.rows if row.entry not in entries]

    async def snapshot(self, tenant, user):
        self._check()
        self._held_in = self.epoch
        now, found = self.clock(), []
        levels = LEVELS[: 1 + bool(tenant) + bool(tenant and user)]
        for level, window in itertools.product(levels, WINDOWS):
            amounts = self._amounts(level, tenant, user, window, now)
            found.append(Counter(level, window, start_of(window, now), *amounts["tokens"], *amounts["nanos"]))
        corrections = [self.corrections[self._scope(level, tenant, user)] for level in levels]
        return Snapshot(self.epoch, self.seq, tuple(found), " ".join(map(str, corrections)))

    async def correct(self, snapshot, tenant, user, counters):
        self._check()
        corrections = dict(zip(LEVELS, map(int, snapshot.token.split()), strict=False))
        scopes = {level: self._scope(level, tenant, user) for level in {one.level for one in counters}}
        found = list(differences(snapshot, counters))
        if snapshot.epoch != self.epoch or any(
            self.corrections[scope] != corrections[level] for level, scope in scopes.items()
        ):
            return False
        self.corrections.update(scopes.values())
        for one, tokens, nanos in found:
            amounts = self.counters.setdefault(
                (*self._scope(one.level, tenant, user), one.window, one.start), [0, 0, 0, 0]
            )
            amounts[0] += tokens
            amounts[2] += nanos
        return True

    def _check(self):
        if self.is_away:
            raise UnavailableError("the store of budgets and answers does not answer; try again")

    def _scope(self, level, tenant, user):
        return {"gateway": ("", ""), "tenant": (tenant, ""), "user": (tenant, user)}[level]

    def _amounts(self, level, tenant, user, window, now):
        key = (*self._scope(level, tenant, user), window, start_of(window, now))
        spent_tokens, held_tokens, spent_nanos, held_nanos = self.counters.get(key, (0, 0, 0, 0))
        return {"tokens": (spent_tokens, held_tokens), "nanos": (spent_nanos, held_nanos)}

    def _add(self, hold, spent, held):
        tenant, user = hold["who"]
        scopes = {self._scope(level, tenant, user) for level in LEVELS}
        for scope, window in itertools.product(scopes, WINDOWS):
            amounts = self.counters.setdefault((*scope, window, start_of(window, hold["at"])), [0, 0, 0, 0])
            for place, amount in enumerate((spent[0], held[0], spent[1], held[1])):
                amounts[place] += amount

    def _charge(self, hold, spent, held, row, kind):
        self._add(hold, spent, held)
        self.seq = max(self.seq + 1, self.clock() * 1000)
        row = row_as_charged(row, kind, *spent)
        self.rows.append(Waiting(f"{self.seq}-0", self.epoch, self.seq, hold["at"], *spent, row))

    def _sweep(self, now):
        over = [hold for hold in self.holds.values() if hold["state"] == "held" and hold["ends"] <= now]
        for hold in over:
            hold["state"] = "expired"
            self._charge(hold, hold["used"], (-hold["held"][0], -hold["held"][1]), hold["row"], "expired")
        return len(over)
