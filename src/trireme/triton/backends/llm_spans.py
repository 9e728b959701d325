"""What the LLM engine did for one request, as spans: it waited, read the prompt, wrote."""

from __future__ import annotations

from collections.abc import Iterator

from trireme.generate.pieces import Piece, PieceTimes
from trireme.observe.spans import SECOND, Span, SpanValue, began_before
from trireme.triton.backends.traced import Asked

QUEUE, PREFILL, DECODE = "queue", "prefill", "decode"
# Of an engine that does not say how long a request waited.
UNTIL_FIRST = "queue and prefill"


def llm_spans(asked: Asked, times: PieceTimes) -> Iterator[Span]:
    """Of a request that is recorded and has just ended."""
    began, ended = began_before(times.total)
    first = ended if times.first is None else began + int(times.first * SECOND)
    if times.waited is None:
        yield asked.child().ended(UNTIL_FIRST, "internal", (began, first))
    else:
        taken = began + int(times.waited * SECOND)
        yield asked.child().ended(QUEUE, "internal", (began, taken))
        yield asked.child().ended(PREFILL, "internal", (taken, first))
    if times.first is not None:
        yield asked.child().ended(DECODE, "internal", (first, ended))


def llm_facts(piece: Piece) -> dict[str, SpanValue]:
    """Figures of a last piece, no words of it."""
    said: dict[str, SpanValue] = {
        "gen_ai.usage.input_tokens": piece.input_tokens,
        "gen_ai.usage.output_tokens": piece.output_tokens,
    }
    if piece.cached_tokens is not None:
        said["gen_ai.usage.cache_read.input_tokens"] = piece.cached_tokens
    if piece.finish_reason:
        said["gen_ai.response.finish_reasons"] = (piece.finish_reason,)
    return said
