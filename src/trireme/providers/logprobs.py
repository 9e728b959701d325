"""Log-probabilities of an answer's tokens in OpenAI's two forms: entries of a chat, the older endpoint's table."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from typing import Any

Entry = Mapping[str, Any]


def cut_entries(entries: Sequence[Entry], text: str) -> tuple[Entry, ...]:
    """The entries of `text`, which is the beginning of theirs; one that is cut in two has the part that is left."""
    if len(entries) == 1 and isinstance(tokens := entries[0].get("tokens"), list):
        return _cut_table(entries[0], tokens, text)
    left = len(text)
    # Characters and not bytes: what is no UTF-8 stands in the text as U+FFFD, which has three.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    kept: list[Entry] = []
    for entry in entries:
        raw = bytes_of(entry)
        used = 0
        while used < len(raw) and left > 0:
            made = len(decoder.decode(raw[used : used + 1]))
            if made > left:
                # It ended a character that was broken off, and is one itself.
                left = 0
                break
            left -= made
            used += 1
        if used < len(raw):
            if used:
                part = raw[:used]
                kept.append({**entry, "token": part.decode("utf-8", "replace"), "bytes": list(part)})
            break
        kept.append(entry)
    return tuple(kept)


def _cut_table(table: Entry, tokens: Sequence[Any], text: str) -> tuple[Entry, ...]:
    """As cut_entries, of the older endpoint's one table."""
    kept = [one["token"] for one in cut_entries([{"token": str(token)} for token in tokens], text)]
    columns = {name: one[: len(kept)] if isinstance(one, list) else one for name, one in table.items()}
    return ({**columns, "tokens": kept},) if kept else ()


def bytes_of(entry: Entry) -> bytes:
    """What its token adds to the text; an upstream may leave the bytes out."""
    raw = entry.get("bytes")
    return bytes(raw) if isinstance(raw, list) else str(entry.get("token", "")).encode()


def write_table(entries: Sequence[Entry], offset: int) -> dict[str, Any]:
    """The table of the older endpoint. offset: characters of the text before them.

    The alternatives of a token are a table themselves, the chosen one among them, as OpenAI has it.
    """
    offsets = []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for entry in entries:
        offsets.append(offset)
        offset += len(decoder.decode(bytes_of(entry)))
    return {
        "tokens": [entry["token"] for entry in entries],
        "token_logprobs": [entry["logprob"] for entry in entries],
        "top_logprobs": [
            {one["token"]: one["logprob"] for one in (*entry["top_logprobs"], entry)} for entry in entries
        ],
        "text_offset": offsets,
    }


def join_tables(first: Mapping[str, Any] | None, second: Mapping[str, Any]) -> dict[str, Any]:
    """The table of two parts of one answer; a column that one of them lacks is null."""
    if first is None:
        return dict(second)
    both = {name: (column, second.get(name)) for name, column in first.items()}
    return {
        name: [*one, *other] if isinstance(one, list) and isinstance(other, list) else None
        for name, (one, other) in both.items()
    }
