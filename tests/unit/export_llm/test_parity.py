import math

import numpy as np
import pytest

from trireme.artifacts.gate import Gate
from trireme.artifacts.recipe import Recipe
from trireme.errors import GateError
from trireme.export_llm.parity import compare_logits, make_prompts, read_thresholds

RNG = np.random.default_rng(0)
LOGITS = [RNG.normal(size=(20, 50)).astype(np.float32), RNG.normal(size=(7, 50)).astype(np.float32)]


def test_a_shift_of_all_logits_of_a_token_is_no_error():
    shifted = [part + np.arange(len(part), dtype=np.float32)[:, None] for part in LOGITS]
    figures = compare_logits(LOGITS, shifted)
    assert figures["logit_error"] < 1e-5 and figures["top1_agreement"] == 1.0


def test_the_worst_prompt_counts_and_every_token_agrees_or_not():
    other = [LOGITS[0], LOGITS[1].copy()]
    best = other[1][3].argmax()
    other[1][3, best] = other[1][3].min() - 1
    figures = compare_logits(LOGITS, other)
    assert figures["top1_agreement"] == pytest.approx(26 / 27)
    alone = compare_logits(LOGITS[1:], other[1:])
    assert figures["logit_error"] == alone["logit_error"] > 0.05


def test_nan_does_not_pass_the_gate():
    broken = [LOGITS[0], LOGITS[1] * np.float32(math.nan)]
    recipe = Recipe("m", "generator", source="x")
    for order in (slice(None), slice(None, None, -1)):
        with pytest.raises(GateError, match="logit_error nan"):
            Gate("m", read_thresholds(recipe)).check(compare_logits(LOGITS[order], broken[order]))


def test_the_recipe_sets_the_thresholds():
    chosen = Recipe("m", "generator", source="x", max_logit_error=0.5, min_top1_agreement=0.25, max_kl=0.125)
    thresholds = read_thresholds(chosen)
    assert thresholds.most == {"logit_error": 0.5, "kl": 0.125}
    assert thresholds.least == {"top1_agreement": 0.25}


def test_fewer_bits_may_lose_more_and_never_as_much_as_another_model():
    recipes = [Recipe("m", "generator", source="x", precision=one) for one in ("", "int8", "int4")]
    limits = [read_thresholds(one) for one in recipes]
    limits.insert(1, read_thresholds(recipes[0], is_quantized=True))
    for name in ("logit_error", "kl"):
        most = [one.most[name] for one in limits]
        assert most == sorted(most) and most[-1] < 1
    least = [one.least["top1_agreement"] for one in limits]
    assert least == sorted(least, reverse=True) and least[-1] >= 0.5


def test_kl_is_the_mean_divergence_in_nats():
    original, served = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]])
    figures = compare_logits([original.astype(np.float32)], [served.astype(np.float32) + 3])
    divergence = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert figures["kl"] == pytest.approx(divergence / 2, abs=1e-6)


def test_prompts_are_of_one_length_and_differ(make_llm, tmp_path):
    folder, _ = make_llm(tmp_path)
    prompts = make_prompts(folder, 10_000)
    assert len(prompts) >= 3 and len({tuple(prompt) for prompt in prompts}) == len(prompts)
    assert all(len(prompt) >= 64 for prompt in prompts)
    assert {len(prompt) for prompt in make_prompts(folder, 33)} == {33}
