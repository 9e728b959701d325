"""The port of the budget store: holds before an attempt, one settlement after it, and counters that never lie.

Invariants, each a property test of every store:
I1  committed + held <= cap at every admission, for each level, window and unit.
I2  Each hold ends exactly once: settled, refunded (settled with 0) or expired.
I3  A settlement records what was really used, above the cap too; the next admission then fails.
I4  The same reserve or settlement once more changes nothing, and gives the same answer.
I5  A crash frees the hold after its lease; what expires is charged with what was last reported; a settlement that
    comes later than that still records what was used.
I6  A hold's windows are fixed when it is reserved: a settlement after midnight goes to the day before.
I7  Integers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from trireme.budget.caps import Cap, Level, Window


@dataclass(frozen=True, slots=True)
class Claim:
    """What one attempt may cost at most. id: of the attempt, unique for ever.

    caps: those in force (`caps_of`). Tokens and nano-dollars are counted at all levels and windows, capped or not.
    spent_tokens, spent_nanos: what is certainly used once the attempt began (its input): what an expiry charges
    before the first report. row: what an expiry records in the ledger (`ledger.encode_row`).
    """

    id: str
    tenant: str
    user: str
    caps: tuple[Cap, ...]
    tokens: int
    nanos: int
    spent_tokens: int
    spent_nanos: int
    lease_seconds: float
    row: bytes


@dataclass(frozen=True, slots=True)
class Hold:
    """A claim that was admitted. at: milliseconds of the store's clock (Unix, UTC), which fix its windows."""

    id: str
    at: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A claim that was not admitted: the first cap, in `LEVELS` and `WINDOWS` order, that it does not fit under.

    unit: tokens or nanos, in which cap, spent, held and left are. resets_at: milliseconds (Unix).
    left_tokens, left_nanos: the least that is left over all caps of the unit, 0 or more; None: no cap of that unit.
    """

    level: Level
    window: Window
    unit: str
    cap: int
    spent: int
    held: int
    resets_at: int
    left_tokens: int | None
    left_nanos: int | None


@dataclass(frozen=True, slots=True)
class Bill:
    """What an attempt really used. row: for the ledger. tenant, user: the claim's, where the store forgot it."""

    id: str
    tokens: int
    nanos: int
    row: bytes
    tenant: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a running attempt has used until now; an expiry charges it."""

    id: str
    tokens: int
    nanos: int


@dataclass(frozen=True, slots=True)
class Counter:
    """One level and window as it stands. start: milliseconds (Unix) of the window's first instant."""

    level: Level
    window: Window
    start: int
    spent_tokens: int
    held_tokens: int
    spent_nanos: int
    held_nanos: int


class BudgetStore(Protocol):
    """Holds and counters. For one event loop; several processes share one store.

    Every verb raises UnavailableError where the store is away, or may evict what it keeps. Amounts of reports and
    bills outside of 0 to MOST count as the nearest that is not.
    """

    async def reserve(self, claim: Claim) -> Hold | Refusal:
        """Admit the claim under all its caps at once, or refuse it and change nothing.

        The same id again gives the same Hold, also when it has ended. A few holds whose lease is over end first.
        Raises InvalidInputError for amounts outside of 0 to MOST, and for caps of a level that the claim has not;
        UnavailableError, once, where the store has lost what it held since this client's last hold or snapshot: its
        counters must be compared with the ledger first.
        """
        ...

    async def extend(self, running: Sequence[Progress], lease_seconds: float) -> list[str]:
        """Keep holds for another lease, and note what they used. Returns the ids that have ended."""
        ...

    async def settle(self, bill: Bill) -> bool:
        """End a hold: what was used counts as spent, the rest is free, the row waits for the ledger.

        False: it was settled before, and nothing changes. One that has expired is corrected to the bill. An id that
        was never reserved, or forgotten (a day after its end), counts in the windows of now.
        """
        ...

    async def read(self, tenant: str, user: str) -> list[Counter]:
        """The counters of now: the gateway's, the tenant's, and the user's if there is one. tenant "": the
        gateway's alone. Changes nothing."""
        ...

    async def close(self) -> None:
        """Free the connections."""
        ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row that waits for the ledger: `entry` names it in the store, epoch and seq are its place in its order.

    tokens, nanos: what the counters were changed by, which the ledger must say as well. Of a hold that expired that
    is what was last reported; its row names the attempt with ".expired" behind. A settlement behind an expiry has
    two rows: its own, and one that takes back what the expiry charged (below 0), with ".reversed" behind. seq
    rises, not by one.
    """

    entry: str
    epoch: str
    seq: int
    at: int
    tokens: int
    nanos: int
    row: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counters of one scope at one instant, with the last place in the order of settlements that they count.

    epoch: names the store's life; one that lost what it held has another. token: of the store, for `correct`.
    """

    epoch: str
    seq: int
    counters: tuple[Counter, ...]
    token: str = ""


class SpendQueue(Protocol):
    """Rows on their way to the ledger, and corrections after a loss. As BudgetStore; usually the same object.

    A settlement changes the counters and appends its row in one step, so counters and rows agree always.
    """

    async def expire(self) -> int:
        """End holds whose lease is over: each is charged and its row appended. Returns how many ended."""
        ...

    async def peek(self, limit: int) -> list[Waiting]:
        """The oldest rows that wait. Changes nothing."""
        ...

    async def remove(self, entries: Sequence[str]) -> None:
        """Forget rows that the ledger has. Names that are not there are passed over."""
        ...

    async def snapshot(self, tenant: str, user: str) -> Snapshot:
        """Counters and place at one instant, as `read` has them."""
        ...

    async def correct(self, snapshot: Snapshot, tenant: str, user: str, counters: Sequence[Counter]) -> bool:
        """Add to what is spent the difference between `counters` and the snapshot's, whatever was settled since.

        False: somebody corrected one of these levels since the snapshot, or the store lost what it held; nothing
        changes. Raises InvalidInputError for a counter that the snapshot does not have.
        """
        ...
