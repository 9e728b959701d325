import pytest

from trireme.quantize.evaluate import judge, keep_weights, use_float_activations
from trireme.quantize.unquantized import load_original

WINDOWS = tuple(tuple((7 * start + 3 * place) % 300 for place in range(40)) for start in range(3))


def test_float_activations_give_what_a_float32_model_gives(llama):
    import torch

    whole, stored = load_original(llama, "cpu"), load_original(llama, "cpu")
    with torch.no_grad():
        for weight in whole.parameters():
            weight.copy_(weight.bfloat16())
    stored = stored.bfloat16()
    use_float_activations(stored, keep_weights)
    assert stored.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    ids = torch.tensor([WINDOWS[0]])
    with torch.inference_mode():
        assert torch.allclose(whole(ids).logits, stored(ids).logits, atol=1e-5)


def test_every_position_but_the_last_of_each_window_is_judged(llama):
    original = load_original(llama, "cpu")
    heard = []
    figures = judge(original, original, WINDOWS, lambda: heard.append(1))
    assert (figures.tokens, len(heard)) == (3 * 39, 3)
    assert (figures.perplexity_ratio, figures.kl, figures.agreement) == (1.0, 0.0, 1.0)


def test_a_damaged_model_is_seen(llama):
    import torch

    original, damaged = load_original(llama, "cpu"), load_original(llama, "cpu")
    with torch.no_grad():
        damaged.model.layers[0].mlp.down_proj.weight.mul_(-40)
    figures = judge(original, damaged, WINDOWS, lambda: None)
    assert figures.kl > 0.001 and figures.agreement < 1.0
    assert figures.perplexity_original == pytest.approx(300, rel=0.2), "random weights guess evenly"
