"""What an answer's headers say of the caches, and what other notes mean to them."""

from __future__ import annotations

from trireme.gateway.caching.wishes import SHORTENED
from trireme.gateway.exchange import Exchange, header_text

HEADER = "x-trireme-cache"


def mark(exchange: Exchange, text: str) -> None:
    """Say in the answer's header where it came from; of several prompts in one request, of each."""
    exchange.notes.append((HEADER, header_text([text])))


def note_hit(exchange: Exchange, tier: str, text: str) -> None:
    """The answer is a tier's; `text` says so in its header."""
    exchange.cache_tier = tier
    exchange.tiers_hit.append(tier)
    mark(exchange, text)


def is_shortened(exchange: Exchange) -> bool:
    """Whether a budget cut the answer."""
    return any(name == SHORTENED for name, _ in exchange.notes)
