"""The arithmetic of a prefix cache: which input tokens of a trace an engine with so many blocks would have."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trireme.errors import InvalidInputError

# Tokens of a block of the Mooncake traces.
BLOCK_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request of a trace: input tokens, and names of its blocks, each of which stands for all before it."""

    tokens: int
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PrefixRow:
    """Of a trace. blocks: of the cache, 0 for one without an end. tenants: that share nothing; 1: no salt.

    share: of the input tokens that were found.
    """

    blocks: int
    tenants: int
    requests: int
    input_tokens: int
    found_tokens: int

    @property
    def share(self) -> float:
        return self.found_tokens / self.input_tokens


class PrefixCache:
    """Blocks by name and salt; the one that was not used for the longest goes first, of a prompt its last."""

    def __init__(self, most: int) -> None:
        """most: blocks; 0: without an end."""
        self._most = most
        self._blocks: OrderedDict[tuple[int, int], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def read(self, prompt: Prompt, salt: int = 0) -> int:
        """Tokens of the prompt that are there, in whole blocks from its beginning; then all its whole blocks are.

        The last token is always computed: an engine needs what comes after it.
        """
        whole = [(salt, name) for name in prompt.blocks[: prompt.tokens // BLOCK_TOKENS]]
        found = 0
        for block in whole:
            if block not in self._blocks:
                break
            found += 1
        # From the end on, so that the beginning stays the longest.
        for block in reversed(whole):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while self._most and len(self._blocks) > self._most:
            self._blocks.popitem(last=False)
        return min(found * BLOCK_TOKENS, prompt.tokens - 1)


def read_trace(path: Path) -> list[Prompt]:
    """A trace of Mooncake's, in the order of its times. Raises InvalidInputError for another file."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        return [Prompt(int(row["input_length"]), tuple(map(int, row["hash_ids"]))) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{path.name} is no trace of Mooncake's ({type(error).__name__})") from None


def pick_tenant(prompt: Prompt, tenants: int, seed: int) -> int:
    """The same for all turns of a conversation: by its first block that not all begin with."""
    name = prompt.blocks[min(1, len(prompt.blocks) - 1)] if prompt.blocks else 0
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % tenants


def replay(trace: Sequence[Prompt], blocks: int, tenants: int, seed: int) -> PrefixRow:
    """What a cache of so many blocks finds. A pure function."""
    cache = PrefixCache(blocks)
    found = sum(cache.read(prompt, pick_tenant(prompt, tenants, seed)) for prompt in trace)
    return PrefixRow(blocks, tenants, len(trace), sum(prompt.tokens for prompt in trace), found)


def replay_all(
    trace: Sequence[Prompt], sizes: Iterable[int], tenants: Iterable[int], seed: int
) -> list[PrefixRow]:
    """Of each size, each number of tenants."""
    counts = list(tenants)
    return [replay(trace, size, count, seed) for size in sizes for count in counts]
