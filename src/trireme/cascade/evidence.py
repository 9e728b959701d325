"""What is known of a small model's answer before anybody sees it."""

from __future__ import annotations

from dataclasses import dataclass

# Low quantiles tell more than the mean or the sum, which depend on the length (arXiv 2404.10136).
QUANTILES = (0.05, 0.1)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One answer's features; None where a feature is not known. features.py makes it.

    tokens: of the answer, or of as much of it as was read. is_cut: ended at max_tokens, or read in part.
    is_refusal: it says that it does not know. logprob_p05, logprob_p10, logprob_least, logprob_first: of its
    tokens' log-probabilities, nats, never above 0. margin_p10: of the differences to the second likeliest token,
    nats. sentence_score, passage_score, passage_gap: the reranker's of the best sentence, of the best passage, and
    how far the second passage lies behind. citations: how many hold. citation_support: the best one's share of
    the words of its sentence that its passage has.
    """

    tokens: int
    is_cut: bool = False
    is_refusal: bool = False
    logprob_p05: float | None = None
    logprob_p10: float | None = None
    logprob_least: float | None = None
    logprob_first: float | None = None
    margin_p10: float | None = None
    sentence_score: float | None = None
    passage_score: float | None = None
    passage_gap: float | None = None
    citations: int | None = None
    citation_support: float | None = None
