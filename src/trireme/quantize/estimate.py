"""What a run will take, before it starts: from the checkpoint's sizes and a short measured matrix product.

An estimate, not a promise: the overheads below were fitted on small models on two CPU cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trireme.quantize.checkpoint import CausalLM
from trireme.quantize.recipe import QuantizeRecipe

if TYPE_CHECKING:
    import torch

# Interpreter, torch and the quantizer's libraries, before any weight is there.
LIBRARY_BYTES = 1_200_000_000
# AWQ tries this many scales for each group of projections, each with a forward pass ...
_AWQ_SCALES = 20
# ... and this many clipping bounds for each projection, each over so many tokens without a matrix product.
_AWQ_BOUNDS, _AWQ_TOKENS = 11, 512
# Outputs whose clipping bounds are searched at once.
_AWQ_OUTPUTS = 256
# Seconds of a run over seconds of its arithmetic alone, fitted.
_OVERHEAD: Mapping[str, float] = {"awq": 2.0, "gptq": 1.5}
_EVALUATION_OVERHEAD = 1.2
# Bytes read, converted and written per second where no calibration runs.
_COPY_BYTES_PER_SECOND = 200_000_000
_START_SECONDS = 8.0
_MEASURED_TOKENS = 512
_MEASURED_COLUMNS = 64
_REPEATS = 5


@dataclass(frozen=True, slots=True)
class Rates:
    """Floating point operations per second of a matrix product, in 16 bits and in float32; and elements per
    second that are multiplied one by one and summed, in 16 bits.
    """

    half: float
    single: float
    elements: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Wall seconds, peak bytes of memory (of the device's, on a GPU), bytes of the new checkpoint."""

    seconds: float
    memory_bytes: int
    output_bytes: int


def estimate_run(model: CausalLM, recipe: QuantizeRecipe, rates: Rates) -> Estimate:
    """The estimate for `recipe` on `model`."""
    return Estimate(
        seconds=_START_SECONDS
        + _quantizing_seconds(model, recipe, rates)
        + _judging_seconds(model, recipe, rates),
        memory_bytes=_memory_bytes(model, recipe),
        output_bytes=estimate_output_bytes(model, recipe),
    )


def estimate_output_bytes(model: CausalLM, recipe: QuantizeRecipe) -> int:
    """Packed weights, 16-bit scale and packed zero point per group, everything else in 16 bits."""
    kept = 2 * (model.parameters - model.linear_parameters)
    per_weight = recipe.width / 8
    if recipe.group:
        per_weight += (2 + recipe.width / 8) / recipe.group
    elif recipe.method == "bnb-nf4":
        # One float32 scale for each block of 64 weights.
        per_weight += 4 / 64
    return kept + round(model.linear_parameters * per_weight)


def measure_rates(model: CausalLM, device: str) -> Rates:
    """Multiplies matrices of the model's own sizes for a moment. Blocks for well under a second."""
    import torch

    hidden = model.hidden_size
    inner = max((outputs for _, outputs in model.linears), default=hidden)
    products = []
    for dtype in (torch.bfloat16, torch.float32):
        left = torch.ones(_MEASURED_TOKENS, hidden, dtype=dtype, device=device)
        right = torch.ones(hidden, inner, dtype=dtype, device=device)
        seconds = _median_seconds(lambda left=left, right=right: left @ right)  # type: ignore[misc]
        products.append(2 * _MEASURED_TOKENS * hidden * inner / seconds)
    rows = torch.ones(1, _MEASURED_TOKENS, hidden, dtype=torch.bfloat16, device=device)
    columns = torch.ones(_MEASURED_COLUMNS, 1, hidden, dtype=torch.bfloat16, device=device)
    seconds = _median_seconds(lambda: (rows * columns).sum(-1))
    elements = _MEASURED_TOKENS * _MEASURED_COLUMNS * hidden / seconds
    return Rates(half=products[0], single=products[1], elements=elements)


def _median_seconds(multiply: Callable[[], torch.Tensor]) -> float:
    """The median of a few calls after one that warms up; reading one number waits for a GPU to finish."""
    multiply()
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        float(multiply()[0, 0])
        seconds.append(time.perf_counter() - started)
    return max(sorted(seconds)[_REPEATS // 2], 1e-9)


def _quantizing_seconds(model: CausalLM, recipe: QuantizeRecipe, rates: Rates) -> float:
    if recipe.method not in ("awq", "gptq"):
        return model.weight_bytes / _COPY_BYTES_PER_SECOND
    tokens = recipe.most_samples * recipe.sequence_length
    forward = 2 * tokens * model.linear_parameters
    if recipe.method == "awq":
        clipping = _AWQ_BOUNDS * min(tokens, _AWQ_TOKENS) * model.linear_parameters
        return _OVERHEAD["awq"] * ((_AWQ_SCALES + 2) * forward / rates.half + clipping / rates.elements)
    hessians = sum(2 * tokens * inputs**2 for inputs, _ in model.linears)
    solving = sum(2 * inputs**3 + 2 * outputs * inputs**2 for inputs, outputs in model.linears)
    return _OVERHEAD["gptq"] * (2 * forward / rates.half + (hessians + solving) / rates.single)


def _judging_seconds(model: CausalLM, recipe: QuantizeRecipe, rates: Rates) -> float:
    operations = 2 * 2 * recipe.eval_tokens * model.parameters
    return _EVALUATION_OVERHEAD * operations / rates.single


def _memory_bytes(model: CausalLM, recipe: QuantizeRecipe) -> int:
    """The larger of quantizing and judging; judging holds both models and the logits of one window."""
    weights = max(model.weight_bytes, 2 * model.parameters)
    activations = 0
    if recipe.group:
        # Inputs and outputs of a layer for every calibration token, and one layer's projections in float32.
        activations = 2 * 2 * recipe.most_samples * recipe.sequence_length * model.hidden_size
        activations += 3 * 4 * model.linear_parameters // max(model.layers, 1)
    if recipe.method == "awq":
        widest = max((inputs for inputs, _ in model.linears), default=0)
        activations += 2 * _AWQ_TOKENS * _AWQ_OUTPUTS * widest
    logits = 2 * 4 * recipe.sequence_length * model.vocab_size
    judging = weights + estimate_output_bytes(model, recipe) + logits
    return LIBRARY_BYTES + max(weights + activations, judging)
