"""How much a call may use at a target at most, by what is known of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from trireme.errors import UnsupportedError
from trireme.gateway.file import GatewayFile
from trireme.gateway.spending.estimates import (
    OwnEstimates,
    input_bound,
    output_bound,
    pairs_bound,
    texts_bound,
)
from trireme.providers.chat import ChatCall
from trireme.providers.targets import Target
from trireme.types import OverLength

# Of one text that an encoder reads: special tokens, and the bytes of its prompt ("query: ").
TEXT_OVERHEAD = 32
# How many times its tokens a text that is split costs at most: what stands before each window takes no more than
# half of it, and three quarters of the rest are filled.
WINDOWS_OVERHEAD = 3
OWN = "triton"


@dataclass(frozen=True, slots=True)
class ChatBound:
    """Tokens of a call at most, of all choices. must_send: it holds where most_output is sent as max_tokens."""

    input: int
    output: int
    must_send: bool


class Bounds:
    """For one event loop."""

    def __init__(self, file: GatewayFile, own: OwnEstimates) -> None:
        self._file = file
        self._own = own
        # Our own models whose tokenizer was tried.
        self._tried: set[str] = set()

    async def chat(self, call: ChatCall, target: Target, *, is_capped: bool) -> ChatBound:
        """Bounds of one attempt. is_capped: a near bound is worth milliseconds in a thread."""
        kind = self._file.providers[target.entry.name].kind
        limit: int | None = None
        if kind == OWN:
            tokens = await self._own_input(call, target.model) if is_capped else input_bound(call, kind)
            limit = self._own.output_limit(target.model)
        else:
            tokens = input_bound(call, kind)
        output, must_send = output_bound(call, limit, self._file.budgets.most_output)
        return ChatBound(tokens, output, must_send)

    async def _own_input(self, call: ChatCall, model: str) -> int:
        if model not in self._tried or self._own.is_long(call):
            self._tried.add(model)
            try:
                return await asyncio.to_thread(self._own.count_exact, call, model)
            except UnsupportedError:
                pass
        return self._own.input_bound(call, model)


def bound_of_texts(texts: Sequence[str], over_length: OverLength | None = None) -> int:
    """Tokens that an encoder reads of texts, at most."""
    return texts_bound(texts, TEXT_OVERHEAD) * _times_read(over_length)


def bound_of_pairs(query: str, texts: Sequence[str], over_length: OverLength | None = None) -> int:
    """As `bound_of_texts`, of a model that reads the query with each text."""
    return pairs_bound(query, texts, TEXT_OVERHEAD) * _times_read(over_length)


def _times_read(over_length: OverLength | None) -> int:
    return WINDOWS_OVERHEAD if over_length == "split" else 1
