"""How a prompt says which adapter it is read with, to a graph of ours: by the id of its first token."""

from __future__ import annotations

from collections.abc import Sequence

# Numbers of a head of the graph's attention that looks for the mark are a multiple of this.
_MULTIPLE = 32
# Ids above are not told apart where a graph calculates with them in float32.
MOST_IDS = 1 << 24


def mark_prompt(prompt: Sequence[int], number: int, vocabulary: int) -> list[int]:
    """The prompt for a graph with adapters. number: of the adapter, from 1; 0 for none."""
    return [prompt[0] + number * vocabulary, *prompt[1:]]


def choice_size(count: int) -> int:
    """Numbers of a key, and of a value, that a graph with so many adapters keeps of each token to find the mark."""
    return -(-count // _MULTIPLE) * _MULTIPLE
