"""What vLLM says of a request since the last time, as a chunk of the engine port."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trireme.errors import UnavailableError
from trireme.generate.engine import Chunk, FinishReason

_FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "abort": "cancelled"}


def read_output(request_id: str, output: Any, most: int | None) -> Chunk:
    """One RequestOutput with the tokens since the last one. most: alternatives that were asked for, or None."""
    completion = output.outputs[0]
    tokens = tuple(completion.token_ids)
    # Of its first prefill, in every output; 0 as well before there was one, as in an abort of what waits.
    cached = output.num_cached_tokens if tokens else None
    reason = completion.finish_reason if output.finished else ""
    if reason == "stop":
        # vLLM delivers the token that ended the request; stop strings, which have none, are never given to it.
        tokens = tokens[:-1]
    chunk = Chunk(request_id, tokens, cached_tokens=cached, **_read_logprobs(completion, tokens, most))
    if not output.finished:
        return chunk
    if reason not in _FINISH_REASONS:
        return replace(chunk, error=engine_failed())
    return replace(chunk, finish_reason=_FINISH_REASONS[reason])


def _read_logprobs(completion: Any, tokens: tuple[int, ...], most: int | None) -> dict[str, Any]:
    """Fields of a Chunk: of each of `tokens`, and of the `most` likeliest at its place.

    vLLM has a table by token id for each token: the chosen one and the likeliest. An output without tokens carries
    the tables of the whole answer (`logprobs[-0:]`), so what goes beyond the tokens is not theirs.
    """
    if most is None:
        return {}
    tables = (completion.logprobs or ())[: len(tokens)]
    likeliest = [
        sorted(((token, one.logprob) for token, one in table.items()), key=_by_chance) for table in tables
    ]
    return {
        "logprobs": tuple(table[token].logprob for token, table in zip(tokens, tables, strict=True)),
        "top_logprobs": tuple(tuple(rows[:most]) for rows in likeliest),
    }


def _by_chance(row: tuple[int, float]) -> float:
    return -row[1]


def engine_failed() -> UnavailableError:
    """The error of a request that vLLM could not end."""
    return UnavailableError("the engine failed while it worked on this request; send it again in a minute")
