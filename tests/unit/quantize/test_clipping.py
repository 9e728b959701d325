import pytest
import torch

from trireme.quantize.clipping import BOUNDS, STEPS, find_bounds, find_moments

GROUP = 8


def quantize_into(source, target):
    """Round to 16 levels between the least and the largest weight of each group, as AWQ does."""
    least, most = source.amin(-1, keepdim=True), source.amax(-1, keepdim=True)
    scale = (most - least).clamp(min=1e-5) / 15
    target.copy_((torch.round((source - least) / scale)) * scale + least)


@pytest.fixture
def weight():
    torch.manual_seed(1)
    # A few large weights, so that clipping them pays.
    return torch.randn(12, 4 * GROUP) * (1 + 6 * (torch.rand(12, 4 * GROUP) > 0.95))


@pytest.fixture
def inputs():
    torch.manual_seed(2)
    return torch.randn(3, 50, 4 * GROUP) * torch.rand(4 * GROUP)


def search_by_token(weight, inputs):
    """The search as auto-awq writes it: every token times every weight, at every bound."""
    tokens = inputs.reshape(1, -1, 4, GROUP)
    rows = weight.reshape(12, 1, 4, GROUP)
    widest = rows.abs().amax(-1, keepdim=True)
    best, least = widest.clone(), torch.full_like(widest, 1e9)
    for step in range(BOUNDS):
        bound = widest * (1 - step / STEPS)
        rounded = torch.empty_like(rows)
        quantize_into(torch.clamp(rows, -bound, bound), rounded)
        change = (tokens * rounded).sum(-1) - (tokens * rows).sum(-1)
        error = change.pow(2).mean(dim=1).view(least.shape)
        better = error < least
        least[better], best[better] = error[better], bound[better]
    return best.squeeze(1)


def test_bounds_are_those_of_a_search_token_by_token(weight, inputs):
    found = find_bounds(weight, inputs, GROUP, quantize_into)
    assert found.shape == (12, 4, 1)
    assert torch.equal(found, search_by_token(weight, inputs))
    widest = weight.reshape(12, 4, GROUP).abs().amax(-1, keepdim=True)
    assert (found < widest).any() and (found == widest).any(), "some groups are clipped, some are not"


def test_many_outputs_and_tokens_are_searched_in_parts(weight, inputs, monkeypatch):
    whole = find_bounds(weight, inputs, GROUP, quantize_into)
    monkeypatch.setattr("trireme.quantize.clipping.OUTPUTS", 5)
    monkeypatch.setattr("trireme.quantize.clipping.TOKENS", 7)
    assert torch.equal(find_bounds(weight, inputs, GROUP, quantize_into), whole)


def test_moments_are_means_of_products_in_float32(inputs):
    found = find_moments(inputs.bfloat16(), GROUP, torch.device("cpu"))
    tokens = inputs.bfloat16().float().reshape(-1, 4, GROUP)
    assert found.dtype is torch.float32
    assert torch.allclose(found, torch.einsum("tgi,tgj->gij", tokens, tokens) / len(tokens), atol=1e-5)


def test_equal_bounds_give_the_widest_and_weights_stay_as_they_are(inputs):
    zeros = torch.zeros(12, 4 * GROUP)
    zeros[:, 0] = 1.0
    kept = zeros.clone()
    found = find_bounds(zeros, torch.zeros_like(inputs), GROUP, quantize_into)
    assert found[:, 0].eq(1.0).all() and torch.equal(zeros, kept)
