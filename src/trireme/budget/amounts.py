"""What all budget stores do to amounts before they count them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trireme.budget.caps import LEVELS, MOST
from trireme.budget.port import Claim, Counter, Snapshot
from trireme.errors import InvalidInputError


def check_claim(claim: Claim) -> None:
    """Raises InvalidInputError, whose `param` is the field, for amounts that are not whole numbers from 0 to MOST,
    and for a cap of a level that the claim does not have."""
    for name in ("tokens", "nanos", "spent_tokens", "spent_nanos"):
        _check(name, getattr(claim, name))
    levels = LEVELS[: 1 + bool(claim.tenant) + bool(claim.tenant and claim.user)]
    for cap in claim.caps:
        if cap.level not in levels:
            raise InvalidInputError(f"a budget of a {cap.level} was given to a claim without one", "caps")
        for amount in (cap.tokens, cap.nanos):
            if amount is not None:
                _check("caps", amount)


def clamp(amount: int) -> int:
    """The nearest that can be counted, of what a provider says was used: its bill must not be lost."""
    return min(max(int(amount), 0), MOST)


def differences(snapshot: Snapshot, counters: Iterable[Counter]) -> Iterator[tuple[Counter, int, int]]:
    """Each counter, and how many tokens and nano-dollars are spent in it more than in the snapshot's (or less).

    Raises InvalidInputError for a counter that the snapshot does not have.
    """
    seen = {(one.level, one.window, one.start): one for one in snapshot.counters}
    for one in counters:
        was = seen.get((one.level, one.window, one.start))
        if was is None:
            text = (
                f"the snapshot has no counter of this {one.window} of the {one.level}; take another snapshot"
            )
            raise InvalidInputError(text, "counters")
        yield one, one.spent_tokens - was.spent_tokens, one.spent_nanos - was.spent_nanos


def _check(name: str, amount: int) -> None:
    if type(amount) is not int or not 0 <= amount <= MOST:
        raise InvalidInputError(f"{name} must be whole and from 0 to {MOST}, got {amount!r}", name)
