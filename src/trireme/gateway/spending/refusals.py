"""What a client is told whose budget leaves too little."""

from __future__ import annotations

from datetime import UTC, datetime

from trireme.budget.caps import Cap
from trireme.budget.port import Refusal
from trireme.budget.prices import Price
from trireme.errors import BudgetExceededError, ResourceExhaustedError

NANOS = 1_000_000_000


def refusal_error(
    refusal: Refusal,
    tokens: int,
    nanos: int,
    now: float,
    advice: str = "a smaller max_tokens needs less",
) -> BudgetExceededError:
    """The error of a claim of so many tokens and nano-dollars. now: Unix seconds. advice: what would fit sooner.

    Only a minute is worth waiting for: `retry_after` is 0 for a day and a month.
    """
    asked = tokens if refusal.unit == "tokens" else nanos
    resets = datetime.fromtimestamp(refusal.resets_at / 1000, UTC)
    text = (
        f"the {refusal.level}'s budget of this {refusal.window} leaves too little: "
        f"{amount(refusal.cap, refusal.unit)} in all, {amount(refusal.spent, refusal.unit)} spent, "
        f"{amount(refusal.held, refusal.unit)} held for running requests, and this one may need "
        f"{amount(asked, refusal.unit)}; it begins anew at {resets:%Y-%m-%dT%H:%M:%SZ}; " + advice
    )
    # One that never fits is not helped by waiting either.
    is_worth_waiting = refusal.window == "minute" and asked <= refusal.cap
    wait = max(1.0, refusal.resets_at / 1000 - now) if is_worth_waiting else 0.0
    return BudgetExceededError(
        text,
        wait,
        level=refusal.level,
        window=refusal.window,
        unit=refusal.unit,
        cap=refusal.cap,
        spent=refusal.spent,
        held=refusal.held,
        resets_at=refusal.resets_at,
    )


def check_price(label: str, price: Price | None, caps: tuple[Cap, ...]) -> None:
    """Raises ResourceExhaustedError for a target (provider:model) without a price where a level is budgeted in
    money alone: nothing would keep to that."""
    if price is not None:
        return
    with_tokens = {cap.level for cap in caps if cap.tokens is not None}
    for cap in caps:
        if cap.nanos is not None and cap.level not in with_tokens:
            raise ResourceExhaustedError(
                f"the {cap.level}'s budget of this {cap.window} is in money alone, and no price of {label} is "
                f'known; set prices."{label}" in gateway.toml, or a budget in tokens beside it'
            )


def amount(number: int, unit: str) -> str:
    """For people: 1,200 tokens, or US dollars to the last nano that counts."""
    if unit == "tokens":
        return f"{number:,} tokens"
    text = f"{number // NANOS:,}.{number % NANOS:09d}".rstrip("0").rstrip(".")
    return f"{text} US dollars"
