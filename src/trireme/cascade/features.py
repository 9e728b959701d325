"""What the small model's answer says of itself: from its tokens, scores, citations and text to Evidence.

Low quantiles of token log-probabilities as in Gupta and others (arXiv 2404.10136), margins to the second likeliest
token as in UCCI (arXiv 2605.18796).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from trireme.cascade.evidence import QUANTILES, Evidence
from trireme.refusals import is_refusal

# What a decision before the whole answer waits for.
FIRST_TOKENS = 32
# Of a token that an engine gives no chance: -inf, and OpenAI's -9999, would outweigh all else. Nats.
LEAST_LOGPROB = -100.0

_P05, _P10 = QUANTILES


def make_evidence(
    text: str,
    *,
    logprobs: Sequence[float] | None = None,
    margins: Sequence[float] | None = None,
    tokens: int | None = None,
    is_cut: bool = False,
    first: int | None = None,
    sentence_score: float | None = None,
    passage_scores: Sequence[float] = (),
    supports: Sequence[float] | None = None,
) -> Evidence:
    """Evidence of an answer whose text, or as much of it as was read, is `text`. Pure.

    logprobs: of its tokens in their order, nats. margins: of each to the second likeliest, nats. tokens: their
    count where logprobs are not known; without both the words are counted. first: read so many of the tokens, as
    if no more had come; the caller cuts the text. passage_scores: the reranker's, best first. supports: of each
    citation that holds; None where citations were not checked. What is not given is None in the Evidence.
    """
    known = _bounded(logprobs, first, LEAST_LOGPROB, 0.0)
    apart = _bounded(margins, first, LEAST_LOGPROB, -LEAST_LOGPROB)
    count = len(logprobs) if logprobs is not None else tokens if tokens is not None else len(text.split())
    best, *others = passage_scores or (None,)
    return Evidence(
        tokens=count if first is None else min(count, first),
        # Who reads so many does not know whether that was all.
        is_cut=is_cut or (first is not None and count >= first),
        is_refusal=is_refusal(text),
        logprob_p05=quantile(known, _P05),
        logprob_p10=quantile(known, _P10),
        logprob_least=quantile(known, 0.0),
        logprob_first=known[0] if known else None,
        margin_p10=quantile(apart, _P10),
        sentence_score=None if sentence_score is None else float(sentence_score),
        passage_score=None if best is None else float(best),
        passage_gap=float(best - others[0]) if best is not None and others else None,
        citations=None if supports is None else len(supports),
        citation_support=None if supports is None else float(max(supports, default=0.0)),
    )


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value of rank ceil(share * n), counted from 1 at the least; None of none.

    Always one that was there: of 1 token it is that token's, and of fewer than 1 / share the least.
    """
    if not values:
        return None
    # 0.05 * 20 is not above 1: 1e-9 keeps rounding from saying so.
    rank = max(math.ceil(share * len(values) - 1e-9), 1)
    return sorted(values)[rank - 1]


def _bounded(values: Sequence[float] | None, first: int | None, least: float, most: float) -> list[float]:
    """The first values within bounds; what is no number is the least."""
    if values is None:
        return []
    return [least if math.isnan(value) else min(max(float(value), least), most) for value in values[:first]]
