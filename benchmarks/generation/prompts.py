"""The same prompts for an engine alone and for the server: random words of the tokenizer, each one token."""

from __future__ import annotations

import random
from pathlib import Path

from trireme.errors import InvalidInputError


class Prompts:
    """Texts of exactly `tokens` tokens, the start token included, and their ids. Same seed, same texts."""

    def __init__(self, model_dir: Path, tokens: int) -> None:
        """Raises InvalidInputError for a tokenizer that is not byte-level or has too few such words."""
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self._tokens, start = tokens, len(self._tokenizer.encode("").ids)
        self._count = tokens - start
        vocabulary = self._tokenizer.get_vocab()
        # A word after a space, as byte-level tokenizers write it, that is read back as that one token.
        words = sorted(token[1:] for token in vocabulary if token[0] == "\u0120" and token[1:].isalpha())
        self._words = [
            word
            for word in words
            if self._tokenizer.encode(f" {word}", add_special_tokens=False).ids
            == [vocabulary[f"\u0120{word}"]]
        ]
        if len(self._words) < 100:
            raise InvalidInputError(f"{model_dir}: too few words that are one token")

    def texts(self, count: int, seed: int) -> list[str]:
        """So many texts."""
        drawn = random.Random(seed)  # noqa: S311 - no secrets
        return [
            "".join(f" {word}" for word in drawn.choices(self._words, k=self._count)) for _ in range(count)
        ]

    def ids(self, text: str) -> list[int]:
        """What the server makes of a text. Raises InvalidInputError where that are not `tokens` ids."""
        ids: list[int] = self._tokenizer.encode(text).ids
        if len(ids) != self._tokens:
            raise InvalidInputError(f"a prompt has {len(ids)} tokens instead of {self._tokens}")
        return ids
