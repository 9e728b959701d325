"""Who pays for what requests use: here nobody, in `metered` the budgets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from trireme.budget.caps import Cap
from trireme.gateway.exchange import Exchange
from trireme.providers.chat import Usage
from trireme.providers.meter import FreeMeter, Meter
from trireme.providers.targets import Target

Answer = TypeVar("Answer")


class Spending:
    """For one event loop. `start` before use; `close` waits for what is not settled yet.

    This one lets everything through and counts nothing; `MeteredSpending` is the gateway's.
    """

    async def start(self) -> None:
        """Read the caps, and go on doing so in the background."""

    async def close(self) -> None:
        """Settle what has ended, and stop."""

    def meter(self, exchange: Exchange) -> Meter:
        """What pays for the attempts of a chat of this exchange."""
        return FreeMeter()

    def caps(self, tenant: str, user: str) -> tuple[Cap, ...]:
        """Budgets in force for a user ("": none) of a tenant ("": those of the gateway), as they were last read."""
        return ()

    def is_capped(self, exchange: Exchange) -> bool:
        """Whether a budget holds for this exchange's key: a call without max_tokens may be sent with one then.

        Does not raise."""
        return False

    async def pay(
        self,
        exchange: Exchange,
        tokens: int,
        act: Callable[[], Awaitable[Answer]],
        count: Callable[[Answer], int | None],
    ) -> Answer:
        """Run `act`, a call of one of our own models (`exchange.served_by`), behind a hold of `tokens` at most;
        `count` says how many it used, None where the model does not say: then all are charged.

        Raises what `act` raises; ResourceExhaustedError, UnavailableError before.
        """
        return await act()

    def record_hit(self, exchange: Exchange, tier: str, usage: Usage | None, target: Target) -> None:
        """Note that a cache answered: what it spared, and what the policy charges for it. Does not block."""

    def faults(self) -> list[str]:
        """Why requests under a budget are refused now; none while all is well."""
        return []
