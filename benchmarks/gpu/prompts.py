"""The same prompts for vLLM alone and for the server: random words of the tokenizer, each one token."""

import random
from pathlib import Path

from tokenizers import Tokenizer

PROMPT_TOKENS = 128
OUTPUT_TOKENS = 128


class Prompts:
    """Texts of exactly PROMPT_TOKENS tokens, the start token included, and their ids. Same seed, same texts."""

    def __init__(self, model_dir: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self._start = len(self._tokenizer.encode("").ids)
        vocabulary = self._tokenizer.get_vocab()
        # A word after a space, as byte-level tokenizers write it, that is read back as that one token.
        words = sorted(token[1:] for token in vocabulary if token[0] == "\u0120" and token[1:].isalpha())
        self._words = [word for word in words if self._ids(" " + word) == [vocabulary["\u0120" + word]]]
        if len(self._words) < 100:
            raise SystemExit(f"{model_dir}: too few words that are one token")

    def texts(self, count: int, seed: int) -> list[str]:
        random.seed(seed)
        texts = []
        for _ in range(count):
            words = random.choices(self._words, k=PROMPT_TOKENS - self._start)  # noqa: S311 - no secrets
            texts.append("".join(f" {word}" for word in words))
        return texts

    def ids(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(text).ids
        if len(ids) != PROMPT_TOKENS:
            raise SystemExit(f"a prompt has {len(ids)} tokens instead of {PROMPT_TOKENS}")
        return ids

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids
