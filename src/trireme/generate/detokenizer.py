"""Tokens to text, as they come: whole characters only."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from trireme.generate.tokenizer import LlmTokenizer


class Detokenizer:
    """The text of one request's answer. Bytes of a character that is not complete yet are held back.

    Pieces joined are what decoding prompt and answer at once adds to the decoded prompt, however the tokens
    are cut into calls. One exception: where a model writes byte tokens that are not UTF-8, each bad stretch
    becomes U+FFFD and the characters beside it stay, while `tokenizers` gives up the whole run of bytes.
    """

    def __init__(self, tokenizer: LlmTokenizer, shown: frozenset[int] = frozenset()) -> None:
        """shown: control tokens whose names are part of the text."""
        self._tokenizer = tokenizer
        self._shown = shown
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, tokens: Iterable[int]) -> str:
        """The characters that these tokens complete."""
        return self._decoder.decode(b"".join(map(self._bytes_of, tokens)))

    def _bytes_of(self, token: int) -> bytes:
        if token in self._shown:
            return self._tokenizer.token_name(token).encode()
        return self._tokenizer.token_bytes(token)

    @property
    def is_whole(self) -> bool:
        """Whether no character is open: every byte so far is in a text that `push` gave."""
        return not self._decoder.getstate()[0]

    def finish(self) -> str:
        """U+FFFD for a character that was cut off, else nothing."""
        return self._decoder.decode(b"", final=True)
