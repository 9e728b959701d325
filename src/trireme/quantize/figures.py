"""How far a quantized model is from its original: perplexity ratio, KL divergence, top-1 agreement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from trireme.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Figures:
    """Over `tokens` predicted tokens. `kl` is the mean of KL(original || quantized) per token, in nats;
    `agreement` the share of positions at which both put the same token first.
    """

    perplexity_original: float
    perplexity: float
    perplexity_ratio: float
    kl: float
    agreement: float
    tokens: int


class Tally:
    """Sums over batches of logits. The tensors are torch's, on any device; sums are kept as Python floats."""

    def __init__(self) -> None:
        self._loss_original = self._loss = self._kl = 0.0
        self._agreed = self._tokens = 0

    def add(self, original: Any, quantized: Any, targets: Any) -> None:
        """Adds logits [tokens, vocabulary] of both models and the ids [tokens] that came next."""
        first = original.float().log_softmax(-1)
        second = quantized.float().log_softmax(-1)
        chosen = targets.unsqueeze(-1)
        self._loss_original -= float(first.gather(-1, chosen).sum())
        self._loss -= float(second.gather(-1, chosen).sum())
        self._kl += float((first.exp() * (first - second)).sum())
        self._agreed += int((first.argmax(-1) == second.argmax(-1)).sum())
        self._tokens += int(targets.numel())

    def figures(self) -> Figures:
        """The means so far. Raises InvalidInputError when nothing was added."""
        count = self._tokens
        if not count:
            raise InvalidInputError("nothing was measured; give a longer eval text")
        before, after = _exp(self._loss_original / count), _exp(self._loss / count)
        return Figures(
            perplexity_original=before,
            perplexity=after,
            perplexity_ratio=_exp((self._loss - self._loss_original) / count),
            # Rounding alone can push the KL of a model to itself below zero.
            kl=self._kl / count if math.isnan(self._kl) else max(self._kl / count, 0.0),
            agreement=self._agreed / count,
            tokens=count,
        )


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
