"""The quality gate: past a threshold, nothing is placed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trireme.errors import GateError
from trireme.quantize.figures import Figures
from trireme.quantize.recipe import QuantizeRecipe


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a model may lose at most. KL is in nats per token."""

    max_perplexity_ratio: float
    max_kl: float
    min_agreement: float


# (method, bits) -> the default thresholds; a recipe or flags override each.
DEFAULTS: Mapping[tuple[str, int], Thresholds] = {
    ("awq", 4): Thresholds(1.05, 0.05, 0.90),
    ("gptq", 4): Thresholds(1.05, 0.05, 0.90),
    ("bnb-nf4", 4): Thresholds(1.05, 0.05, 0.90),
    ("gptq", 8): Thresholds(1.01, 0.005, 0.97),
    ("bnb-int8", 8): Thresholds(1.02, 0.01, 0.95),
    ("none", 16): Thresholds(1.001, 0.001, 0.99),
}


def read_thresholds(recipe: QuantizeRecipe) -> Thresholds:
    """The recipe's thresholds, or the defaults of its method and width."""
    default = DEFAULTS[recipe.method, recipe.width]
    ratio, kl, agreement = recipe.max_perplexity_ratio, recipe.max_kl, recipe.min_agreement
    return Thresholds(
        default.max_perplexity_ratio if ratio is None else ratio,
        default.max_kl if kl is None else kl,
        default.min_agreement if agreement is None else agreement,
    )


def check_gate(name: str, figures: Figures, thresholds: Thresholds) -> None:
    """Raises GateError naming each figure past its limit, with value and limit. NaN is past every limit."""
    most = {
        "perplexity_ratio": thresholds.max_perplexity_ratio,
        "kl": thresholds.max_kl,
    }
    failed = [
        f"{key} {getattr(figures, key):.5f} is above {limit:g}"
        for key, limit in most.items()
        if not getattr(figures, key) <= limit
    ]
    if not figures.agreement >= thresholds.min_agreement:
        failed.append(f"agreement {figures.agreement:.5f} is below {thresholds.min_agreement:g}")
    if failed:
        raise GateError(
            f"{name} is too far from its original, nothing was placed: {'; '.join(failed)}; choose more bits,"
            " a smaller group_size, more calibration text, or set other thresholds"
        )
