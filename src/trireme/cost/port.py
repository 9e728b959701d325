"""The port of what cost is reckoned from: the ledger in groups, and which machines were up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from trireme.budget.ledger import ANSWERED
from trireme.cost.machines import Span

# all: one group of everything, in which a request counts once.
CostBy = Literal["tenant", "model", "step", "tier", "release", "day", "all"]
COST_BY: tuple[CostBy, ...] = get_args(CostBy)
GOOD = ANSWERED
# An end that is no fault of those who answer: the next step was asked, the client left, it was never made.
NEUTRAL = ("escalated", "client_gone", "unheld")


@dataclass(frozen=True, slots=True)
class Own:
    """Which attempts own machines answer, and no provider bills: those of these providers, or of these targets."""

    providers: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CostQuery:
    """Whose attempts, reserved from start to before end (milliseconds, Unix), grouped by what. tenant "": all."""

    start: int
    end: int
    by: CostBy
    own: Own
    tenant: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class CostGroup:
    """One group of the ledger. requests: different ones. succeeded: those that have an attempt in the group that
    ended with one of GOOD. failed: those that have none, and one that ended in a fault.

    milliseconds: of all attempts together. took, first: of the answers that models gave, milliseconds to the end
    and to the first content: the median and the 95th percentile; None where there is none.
    """

    name: str
    requests: int = 0
    succeeded: int = 0
    failed: int = 0
    attempts: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    own_nanos: int = 0
    provider_nanos: int = 0
    saved_nanos: int = 0
    milliseconds: int = 0
    took: tuple[int, int] | None = None
    first: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """A machine is up now. at: milliseconds (Unix); None: by the database's clock, since machines' differ."""

    machine: str
    kind: str
    release: str
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """Attempts of one hour that are alike, added up. hour: its first millisecond (Unix).

    is_own: no provider bills it. requests: different ones. What a cache spared is in saved_nanos alone.
    """

    hour: int
    tenant: str
    user: str
    endpoint: str
    provider: str
    asked: str
    served: str
    tier: str
    step: str
    release: str
    prices: str
    is_own: bool
    requests: int
    attempts: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    nanos: int
    saved_nanos: int


class CostBook(Protocol):
    """Safe to use from several threads and processes. Every verb blocks and raises UnavailableError."""

    def groups(self, query: CostQuery) -> list[CostGroup]:
        """Days in their order, else the dearest first; models as `Ledger.usage` names them.

        Raises InvalidInputError for an unknown `by`.
        """
        ...

    def charges(
        self, start: int, end: int, own: Own, tenant: str, take: Callable[[Sequence[Charge]], None]
    ) -> None:
        """Hand all charges of the time to `take`, some at a time, by rising hour: a month need not fit in memory.

        Raises what `take` raises.
        """
        ...

    def spans(self, start: int, end: int) -> list[Span]:
        """When which machines were up, cut to the time, by rising start."""
        ...

    def beat(self, beat: Beat) -> None:
        """Note that a machine is up, and was since its last beat unless that is more than GAP_SECONDS ago."""
        ...

    def close(self) -> None:
        """Free the connections. Idempotent; a later verb opens new ones."""
        ...
