from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trireme.errors import UnavailableError
from trireme.quantize import estimate
from trireme.quantize.checkpoint import CausalLM, read_causal_lm
from trireme.quantize.clipping import OUTPUTS, TOKENS
from trireme.quantize.estimate import (
    LIBRARY_BYTES,
    Rates,
    check_device,
    estimate_output_bytes,
    estimate_run,
    measure_rates,
)
from trireme.quantize.recipe import QuantizeRecipe

MODEL = CausalLM(
    Path("m"), "LlamaForCausalLM", 1, 128, 1000, 512, 228_000, 456_000, "BF16", ((128, 1000),) * 1
)
RATES = Rates(half=1e12, single=1e11)


def test_output_bytes_are_those_computed_by_hand():
    # 128,000 weights in the projection, 100,000 elsewhere in 16 bits; the formats are those of quantize.sizes.
    assert estimate_output_bytes(MODEL, QuantizeRecipe("m", "none")) == 456_000
    # Half a byte a weight; 1,000 groups with two bytes of scale and half a byte of zero point.
    assert estimate_output_bytes(MODEL, QuantizeRecipe("m", "awq")) == 200_000 + 64_000 + 2_500
    assert (
        estimate_output_bytes(MODEL, QuantizeRecipe("m", "gptq", bits=8)) == 200_000 + 128_000 + 3_000 + 512
    )
    assert estimate_output_bytes(MODEL, QuantizeRecipe("m", "bnb-int8")) == 200_000 + 128_000 + 4_001


def test_a_run_asks_for_more_disk_than_it_leaves():
    found = estimate_run(MODEL, QuantizeRecipe("m", "gptq"), RATES)
    assert found.output_bytes < found.disk_bytes < 3 * found.output_bytes


def test_device_cuda_without_a_gpu_is_refused(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_device("cpu")
    with pytest.raises(UnavailableError, match="torch sees no GPU; use --device cpu"):
        check_device("cuda")


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_more_samples_and_slower_machines_take_longer(method):
    few = estimate_run(MODEL, QuantizeRecipe("m", method, samples=16), RATES)
    many = estimate_run(MODEL, QuantizeRecipe("m", method, samples=160), RATES)
    slow = estimate_run(MODEL, QuantizeRecipe("m", method, samples=16), Rates(1e10, 1e9))
    assert few.seconds < many.seconds and few.seconds < slow.seconds
    assert few.memory_bytes <= many.memory_bytes


def test_memory_holds_both_models_while_they_are_compared():
    recipe = QuantizeRecipe("m", "bnb-nf4")
    found = estimate_run(MODEL, recipe, RATES).memory_bytes
    logits, output_layer = 2 * 4 * 512 * 1000, 4 * 1000 * 128
    assert found == LIBRARY_BYTES + 456_000 + estimate_output_bytes(MODEL, recipe) + logits + output_layer


def test_awq_counts_the_inputs_it_keeps_and_what_the_search_for_bounds_widens():
    wide = replace(MODEL, linears=((14_336, 1000),))
    awq, gptq = (
        estimate_run(wide, QuantizeRecipe("m", name, samples=32), RATES).memory_bytes
        for name in ("awq", "gptq")
    )
    assert awq - gptq == 2 * 32 * 512 * 14_336 + 4 * (2 * TOKENS + 4 * OUTPUTS) * 14_336


def test_rates_are_measured(llama):
    rates = measure_rates(read_causal_lm(llama), "cpu")
    assert min(rates.half, rates.single) > 0


@pytest.mark.parametrize(("takes", "calls"), [(2.0, 2), (0.01, 16)], ids=["emulated", "quick"])
def test_a_product_of_seconds_is_measured_once(monkeypatch, takes, calls):
    now, made = [0.0], []

    def multiply():
        now[0] += takes
        made.append(takes)
        return np.ones((1, 1))

    monkeypatch.setattr(estimate.time, "perf_counter", lambda: now[0])
    assert estimate._quick_seconds(multiply) == pytest.approx(takes)
    assert len(made) == calls
