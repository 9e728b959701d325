"""What tokens cost, in whole numbers: nano-dollars (billionths of a US dollar) for a million tokens."""

from __future__ import annotations

from dataclasses import dataclass

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an attempt used. input includes cached and cache_write; output includes reasoning."""

    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars for a million tokens of each class. version: where it is from and its date, for the ledger."""

    input: int
    cached: int
    cache_write: int
    output: int
    version: str

    def cost(self, tokens: Tokens) -> int:
        """Nano-dollars, rounded up once, for the sum."""
        plain = tokens.input - tokens.cached - tokens.cache_write
        total = (
            plain * self.input
            + tokens.cached * self.cached
            + tokens.cache_write * self.cache_write
            + tokens.output * self.output
        )
        return -(-total // MILLION)

    def worst(self, input_tokens: int, output_tokens: int) -> int:
        """Nano-dollars where every input token is of the dearest class: no `cost` of so many tokens is above it."""
        dearest = max(self.input, self.cached, self.cache_write)
        return -(-(input_tokens * dearest + output_tokens * self.output) // MILLION)
