import math
from dataclasses import replace

import pytest

from trireme.errors import GateError
from trireme.quantize.figures import Figures
from trireme.quantize.gate import DEFAULTS, Thresholds, check_gate, read_thresholds
from trireme.quantize.recipe import METHODS, QuantizeRecipe

GOOD = Figures(20.0, 20.2, 1.01, 0.01, 0.97, 1000)
LIMITS = Thresholds(1.05, 0.05, 0.90)


def test_every_method_and_width_has_defaults():
    assert set(DEFAULTS) == {(method, bits) for method, widths in METHODS.items() for bits in widths}
    assert read_thresholds(QuantizeRecipe("m", "awq")) == LIMITS


def test_more_bits_have_tighter_limits():
    four, eight = DEFAULTS["gptq", 4], DEFAULTS["gptq", 8]
    assert eight.max_perplexity_ratio < four.max_perplexity_ratio
    assert eight.max_kl < four.max_kl and eight.min_agreement > four.min_agreement


def test_a_recipe_overrides_each_threshold():
    chosen = QuantizeRecipe("m", max_kl=0.2, min_agreement=0.0)
    assert read_thresholds(chosen) == Thresholds(1.05, 0.2, 0.0)


def test_figures_at_the_limit_pass():
    check_gate("m", GOOD, LIMITS)
    check_gate("m", replace(GOOD, perplexity_ratio=1.05, kl=0.05, agreement=0.90), LIMITS)


@pytest.mark.parametrize(
    ("worse", "message"),
    [
        ({"perplexity_ratio": 1.06}, "perplexity_ratio 1.06000 is above 1.05"),
        ({"kl": 0.0512}, "kl 0.05120 is above 0.05"),
        ({"agreement": 0.89}, "agreement 0.89000 is below 0.9"),
        ({"kl": math.nan}, "kl nan is above 0.05"),
        ({"agreement": math.nan}, "agreement nan is below 0.9"),
        ({"kl": 1.0, "agreement": 0.1}, "kl 1.00000 is above 0.05; agreement 0.10000 is below 0.9"),
    ],
)
def test_a_figure_past_its_limit_is_named_with_value_and_limit(worse, message):
    with pytest.raises(GateError, match="nothing was placed") as caught:
        check_gate("m", replace(GOOD, **worse), LIMITS)
    assert message in str(caught.value)
