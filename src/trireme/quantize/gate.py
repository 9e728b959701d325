"""What a quantized model may lose at most, by method and width."""

from __future__ import annotations

from collections.abc import Mapping

from trireme.artifacts.gate import Thresholds
from trireme.quantize.recipe import QuantizeRecipe

ADVICE = "choose more bits, a smaller group_size, more calibration text, or set other thresholds"


def make_thresholds(max_perplexity_ratio: float, max_kl: float, min_agreement: float) -> Thresholds:
    """The thresholds of quantize.figures. KL is in nats per token."""
    return Thresholds({"agreement": min_agreement}, {"perplexity_ratio": max_perplexity_ratio, "kl": max_kl})


# (method, bits) -> the default thresholds; a recipe or flags override each.
DEFAULTS: Mapping[tuple[str, int], Thresholds] = {
    ("awq", 4): make_thresholds(1.05, 0.05, 0.90),
    ("gptq", 4): make_thresholds(1.05, 0.05, 0.90),
    ("bnb-nf4", 4): make_thresholds(1.05, 0.05, 0.90),
    ("gptq", 8): make_thresholds(1.01, 0.005, 0.97),
    ("bnb-int8", 8): make_thresholds(1.02, 0.01, 0.95),
    ("none", 16): make_thresholds(1.001, 0.001, 0.99),
}


def read_thresholds(recipe: QuantizeRecipe) -> Thresholds:
    """The recipe's thresholds, or the defaults of its method and width."""
    values = DEFAULTS[recipe.method, recipe.width].named()
    chosen = {name: getattr(recipe, name) for name in values}
    return make_thresholds(
        **{**values, **{name: value for name, value in chosen.items() if value is not None}}
    )
