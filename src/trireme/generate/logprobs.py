"""Entries of an answer's tokens, in OpenAI's form, given out with the text that the tokens make."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trireme.generate.tokenizer import LlmTokenizer

# What OpenAI writes for a chance of nothing: JSON has no infinity.
LEAST = -9999.0

# Token ids with their log-probabilities.
Row = tuple[int, float]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token of an answer. raw: the bytes that it adds to the text, none where it is a control token.

    logprob: nats, never above 0. top: the likeliest at its place, likeliest first, themselves without any.
    """

    token: str
    logprob: float
    raw: bytes
    top: tuple[TokenLogprob, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As OpenAI writes it: token, logprob, bytes, top_logprobs."""
        return {**self._fields(), "top_logprobs": [one._fields() for one in self.top]}

    def _fields(self) -> dict[str, Any]:
        return {"token": self.token, "logprob": self.logprob, "bytes": list(self.raw)}


class TokenLog:
    """The entries of one answer, and of its shown text what waits for the rest of its token.

    Text goes out in whole tokens, and in whole characters: so the bytes of the entries that go with a text are that
    text, but for bytes that are no UTF-8, which are U+FFFD there.
    """

    def __init__(self, tokenizer: LlmTokenizer) -> None:
        self._tokenizer = tokenizer
        # Tokens between two places where no character is open, and where in the text each such stretch ends.
        self._closed: list[tuple[int, list[TokenLogprob]]] = []
        self._open: list[TokenLogprob] = []
        self._length = self._shown = 0
        self._waiting = ""

    def add(self, token: int, logprob: float, top: Sequence[Row], text: str, *, is_whole: bool) -> None:
        """A token that was chosen. text: what it completed; is_whole: no character is open behind it."""
        likeliest = tuple(self._entry(*row) for row in top)
        self._open.append(replace(self._entry(token, logprob), top=likeliest))
        self._length += len(text)
        if is_whole:
            self._closed.append((self._length, self._open))
            self._open = []

    def release(self, text: str) -> tuple[str, list[TokenLogprob]]:
        """Of the text that may be shown, `text` last, what ends with a token, and its entries."""
        self._waiting += text
        shown = self._shown + len(self._waiting)
        entries: list[TokenLogprob] = []
        released = 0
        while self._closed and self._closed[0][0] <= shown:
            end, stretch = self._closed.pop(0)
            released = end - self._shown
            entries += stretch
        said, self._waiting = self._waiting[:released], self._waiting[released:]
        self._shown += released
        return said, entries

    def finish(self, *, is_cut: bool) -> tuple[str, list[TokenLogprob]]:
        """What is left at the end. is_cut: by a stop string, whose tokens are left out, or their hidden part."""
        left = [entry for _, stretch in self._closed for entry in stretch] + self._open
        return self._waiting, _cut(left, len(self._waiting)) if is_cut else left

    def _entry(self, token: int, logprob: float) -> TokenLogprob:
        raw = self._tokenizer.token_bytes(token)
        name = raw.decode("utf-8", "replace") if raw else self._tokenizer.token_name(token)
        # NaN loses each comparison: in this order it is the least, never a certainty.
        return TokenLogprob(name, max(LEAST, min(logprob, 0.0)), raw)


def _cut(entries: Sequence[TokenLogprob], characters: int) -> list[TokenLogprob]:
    """As many entries as make so many characters; the last one with as many of its bytes as they need."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    kept: list[TokenLogprob] = []
    for entry in entries:
        if characters <= 0:
            break
        used = 0
        while used < len(entry.raw) and characters > 0:
            made = len(decoder.decode(entry.raw[used : used + 1]))
            if made > characters:
                # It ended a character that was broken off, and is one itself.
                characters = 0
                break
            characters -= made
            used += 1
        if not used and entry.raw:
            break
        part = entry.raw[:used]
        kept.append(
            entry
            if used == len(entry.raw)
            else replace(entry, raw=part, token=part.decode("utf-8", "replace"))
        )
    return kept
