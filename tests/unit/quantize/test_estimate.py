from dataclasses import replace
from pathlib import Path

import pytest

from trireme.quantize.checkpoint import CausalLM, read_causal_lm
from trireme.quantize.estimate import LIBRARY_BYTES, Rates, estimate_output_bytes, estimate_run, measure_rates
from trireme.quantize.recipe import QuantizeRecipe

MODEL = CausalLM(
    Path("m"), "LlamaForCausalLM", 1, 128, 1000, 512, 228_000, 456_000, "BF16", ((128, 1000),) * 1
)
RATES = Rates(half=1e12, single=1e11, elements=1e9)


def test_output_bytes_are_those_computed_by_hand():
    # 128,000 weights in the projection, 100,000 elsewhere in 16 bits.
    assert estimate_output_bytes(MODEL, QuantizeRecipe("m", "none")) == 456_000
    # Half a byte a weight; 1,000 groups with two bytes of scale and half a byte of zero point.
    assert estimate_output_bytes(MODEL, QuantizeRecipe("m", "awq")) == 200_000 + 64_000 + 2_500
    assert estimate_output_bytes(MODEL, QuantizeRecipe("m", "gptq", bits=8)) == 200_000 + 128_000 + 3_000
    assert estimate_output_bytes(MODEL, QuantizeRecipe("m", "bnb-nf4")) == 200_000 + 64_000 + 8_000


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_more_samples_and_slower_machines_take_longer(method):
    few = estimate_run(MODEL, QuantizeRecipe("m", method, samples=16), RATES)
    many = estimate_run(MODEL, QuantizeRecipe("m", method, samples=160), RATES)
    slow = estimate_run(MODEL, QuantizeRecipe("m", method, samples=16), Rates(1e10, 1e9, 1e7))
    assert few.seconds < many.seconds and few.seconds < slow.seconds
    assert few.memory_bytes <= many.memory_bytes


def test_memory_holds_both_models_while_they_are_compared():
    recipe = QuantizeRecipe("m", "bnb-nf4")
    found = estimate_run(MODEL, recipe, RATES).memory_bytes
    assert found == LIBRARY_BYTES + 456_000 + estimate_output_bytes(MODEL, recipe) + 2 * 4 * 512 * 1000


def test_awq_counts_what_the_search_for_clipping_bounds_holds():
    wide = replace(MODEL, linears=((14_336, 1000),))
    awq, gptq = (
        estimate_run(wide, QuantizeRecipe("m", name), RATES).memory_bytes for name in ("awq", "gptq")
    )
    assert awq - gptq == 2 * 512 * 256 * 14_336


def test_rates_are_measured(llama):
    rates = measure_rates(read_causal_lm(llama), "cpu")
    assert min(rates.half, rates.single, rates.elements) > 0
