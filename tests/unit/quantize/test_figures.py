import math

import pytest
import torch

from trireme.errors import InvalidInputError
from trireme.quantize.figures import Tally


def logits(*rows):
    """Logits whose softmax is exactly these probabilities."""
    return torch.tensor(rows).log()


def test_figures_are_those_computed_by_hand():
    tally = Tally()
    original = logits([0.5, 0.25, 0.25], [0.125, 0.75, 0.125])
    quantized = logits([0.25, 0.5, 0.25], [0.25, 0.5, 0.25])
    # The tokens that came are the first and the second: probabilities 0.5 and 0.75, then 0.25 and 0.5.
    tally.add(original, quantized, torch.tensor([0, 1]))
    figures = tally.figures()
    assert figures.perplexity_original == pytest.approx((0.5 * 0.75) ** -0.5)
    assert figures.perplexity == pytest.approx((0.25 * 0.5) ** -0.5)
    assert figures.perplexity_ratio == pytest.approx(math.sqrt(3))
    # First row: 0.5 ln 2 + 0.25 ln 0.5. Second row: 2 * 0.125 ln 0.5 + 0.75 ln 1.5.
    first, second = 0.25 * math.log(2), 0.75 * math.log(1.5) - 0.25 * math.log(2)
    assert figures.kl == pytest.approx((first + second) / 2)
    assert (figures.agreement, figures.tokens) == (0.5, 2)


def test_batches_add_up_to_one_batch():
    torch.manual_seed(0)
    original, quantized, targets = torch.randn(6, 5), torch.randn(6, 5), torch.arange(6) % 5
    whole, parts = Tally(), Tally()
    whole.add(original, quantized, targets)
    for part in (slice(0, 2), slice(2, 6)):
        parts.add(original[part], quantized[part], targets[part])
    one, two = whole.figures(), parts.figures()
    assert one.kl == pytest.approx(two.kl) and one.perplexity == pytest.approx(two.perplexity)


def test_a_model_against_itself_is_one_zero_one():
    same = torch.randn(8, 16, generator=torch.Generator().manual_seed(1))
    tally = Tally()
    tally.add(same, same, torch.zeros(8, dtype=torch.long))
    figures = tally.figures()
    assert (figures.perplexity_ratio, figures.kl, figures.agreement) == (1.0, 0.0, 1.0)


def test_broken_logits_give_figures_that_no_gate_lets_through():
    tally = Tally()
    tally.add(torch.zeros(1, 3), torch.full((1, 3), math.nan), torch.tensor([0]))
    figures = tally.figures()
    assert math.isnan(figures.kl) and math.isnan(figures.perplexity_ratio)


def test_nothing_measured_is_an_error():
    with pytest.raises(InvalidInputError, match="longer eval text"):
        Tally().figures()
