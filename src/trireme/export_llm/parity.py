"""The parity gate of a generator: logits as they are served against the checkpoint's own, in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trireme.artifacts.gate import Thresholds
from trireme.artifacts.manifest import TOKENIZER_FILE
from trireme.artifacts.parity_texts import TEXTS
from trireme.artifacts.recipe import Recipe
from trireme.errors import InvalidInputError
from trireme.types import FloatArray

PROMPTS = 4
PROMPT_TOKENS = 160


class Limits(NamedTuple):
    """Of one precision, what recipes may set: see compare_logits."""

    logit_error: float
    top1_agreement: float
    kl: float


# "": room for bfloat16; an error in the graph is far beyond. A checkpoint's own integers (OWN) bring activations in
# int8 along; rounded weights add a loss. docs/decisions/0015-default-llm.md has what 135 M parameters lost.
OWN = "own integers"
_LIMITS = {
    "": Limits(0.05, 0.95, 0.03),
    OWN: Limits(0.1, 0.9, 0.03),
    "int8": Limits(0.15, 0.85, 0.05),
    "int4": Limits(0.6, 0.5, 0.8),
}


def read_thresholds(recipe: Recipe, *, is_quantized: bool = False) -> Thresholds:
    """The recipe's thresholds, or the defaults of its precision; none for a checkpoint that is placed as it is.

    is_quantized: the checkpoint has integers of its own, which are kept.
    """
    if recipe.target == "gpu":
        return Thresholds({}, {})
    limits = _LIMITS[OWN if is_quantized else recipe.precision]
    error, agreement, kl = recipe.max_logit_error, recipe.min_top1_agreement, recipe.max_kl
    return Thresholds(
        {"top1_agreement": limits.top1_agreement if agreement is None else agreement},
        {
            "logit_error": limits.logit_error if error is None else error,
            "kl": limits.kl if kl is None else kl,
        },
    )


def make_prompts(folder: Path, longest: int) -> list[list[int]]:
    """Fixed texts of many scripts as token ids, PROMPT_TOKENS long, or `longest` where that is less.

    Raises InvalidInputError when the tokenizer makes nothing of them.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokens = min(PROMPT_TOKENS, longest)
    prompts = []
    for number in range(PROMPTS):
        ids: list[int] = tokenizer.encode("\n".join(TEXTS[number::PROMPTS])).ids
        if not ids:
            raise InvalidInputError(f"{folder / TOKENIZER_FILE} makes no tokens of plain text")
        prompts.append((ids * (tokens // len(ids) + 1))[:tokens])
    return prompts


def compare_logits(before: Sequence[FloatArray], after: Sequence[FloatArray]) -> Mapping[str, float]:
    """Figures over prompts of logits [tokens, vocabulary].

    `logit_error` is the largest of a prompt: the length of the difference over the length of the original,
    each token's mean taken out, since softmax does not see it. `top1_agreement` is the share of all tokens
    after which both put the same token first. `kl` is the mean over all tokens of what is lost where the served
    probabilities stand for the original's (Kullback-Leibler divergence), in nats.
    """
    errors, agreed, total, lost = [], 0, 0, 0.0
    for original, served in zip(before, after, strict=True):
        first = original - original.mean(axis=-1, keepdims=True)
        second = served - served.mean(axis=-1, keepdims=True)
        errors.append(float(np.linalg.norm(second - first) / np.linalg.norm(first)))
        agreed += int((first.argmax(axis=-1) == second.argmax(axis=-1)).sum())
        ours, theirs = _log_shares(first), _log_shares(second)
        lost += float((np.exp(ours) * (ours - theirs)).sum())
        total += len(first)
    # max() lets a NaN pass or not by its place; numpy's always hands it on, and the gate refuses it.
    return {"logit_error": float(np.max(errors)), "top1_agreement": agreed / total, "kl": lost / total}


def _log_shares(logits: FloatArray) -> FloatArray:
    """The logarithm of softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    shares: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shares
