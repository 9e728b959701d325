"""What a run will take, before it starts: from the checkpoint's sizes and a short measured matrix product.

An estimate, not a promise: the overheads below were fitted on small models on two CPU cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trireme.errors import UnavailableError
from trireme.quantize.checkpoint import CausalLM
from trireme.quantize.clipping import BOUNDS, OUTPUTS, TOKENS
from trireme.quantize.recipe import QuantizeRecipe
from trireme.quantize.sizes import stored_bytes

if TYPE_CHECKING:
    import torch

# Interpreter, torch and the quantizer's libraries, before any weight is there.
LIBRARY_BYTES = 1_200_000_000
# AWQ tries this many scales for each group of projections, each with a forward pass.
_AWQ_SCALES = 20
# Seconds of a run over seconds of its arithmetic alone, fitted.
_OVERHEAD: Mapping[str, float] = {"awq": 2.2, "gptq": 1.5}
_EVALUATION_OVERHEAD = 1.2
# Bytes read, converted and written per second where no calibration runs.
_COPY_BYTES_PER_SECOND = 200_000_000
_START_SECONDS = 8.0
# The quantizer's scratch files and the new checkpoint, over the new checkpoint alone.
_SPACE_FACTOR = 2.5
# The measured product: a window's tokens by the model's own sizes, up to these.
_MEASURED_TOKENS = 512
_MEASURED_HIDDEN, _MEASURED_INNER = 1024, 2048
# On a busy machine most short products are interrupted, more than long runs are; the quicker ones tell more.
_REPEATS, _TAKEN = 15, 3
# Where a processor emulates bfloat16 a single product takes 2 s: the others are left out.
_MOST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Floating point operations per second of a matrix product, in 16 bits and in float32."""

    half: float
    single: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Wall seconds, peak bytes of memory (of the device's, on a GPU), bytes of the new checkpoint."""

    seconds: float
    memory_bytes: int
    output_bytes: int

    @property
    def disk_bytes(self) -> int:
        """Free space that a run asks for: the new checkpoint and the quantizer's scratch files."""
        return int(_SPACE_FACTOR * self.output_bytes)


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
    """Bytes of the new checkpoint's tensors, to the byte where the source is bfloat16."""
    kept = model.parameters - model.linear_parameters
    return stored_bytes(model.linears, kept, recipe.method, recipe.width, recipe.group)


def check_device(device: str) -> None:
    """Raises UnavailableError where device cuda is asked for and torch sees no GPU; ImportError without torch."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UnavailableError("device cuda was asked for and torch sees no GPU; use --device cpu")


def measure_rates(model: CausalLM, device: str) -> Rates:
    """Multiplies matrices of the model's own sizes for a moment. Blocks for some seconds at most."""
    import torch

    hidden = min(model.hidden_size, _MEASURED_HIDDEN)
    inner = min(max((outputs for _, outputs in model.linears), default=hidden), _MEASURED_INNER)
    products = []
    for dtype in (torch.bfloat16, torch.float32):
        left = torch.ones(_MEASURED_TOKENS, hidden, dtype=dtype, device=device)
        right = torch.ones(hidden, inner, dtype=dtype, device=device)
        seconds = _quick_seconds(lambda left=left, right=right: left @ right)  # type: ignore[misc]
        products.append(2 * _MEASURED_TOKENS * hidden * inner / seconds)
    return Rates(half=products[0], single=products[1])


def _quick_seconds(multiply: Callable[[], torch.Tensor]) -> float:
    """A quick one of some calls after one that warms up; reading one number waits for a GPU to finish."""
    multiply()
    seconds: list[float] = []
    while len(seconds) < _REPEATS and sum(seconds) < _MOST_SECONDS:
        started = time.perf_counter()
        float(multiply()[0, 0])
        seconds.append(time.perf_counter() - started)
    return max(sorted(seconds)[min(_TAKEN, len(seconds) - 1)], 1e-9)


def _quantizing_seconds(model: CausalLM, recipe: QuantizeRecipe, rates: Rates) -> float:
    if recipe.method not in ("awq", "gptq"):
        return model.weight_bytes / _COPY_BYTES_PER_SECOND
    tokens = recipe.most_samples * recipe.sequence_length
    forward = 2 * tokens * model.linear_parameters
    if recipe.method == "awq":
        # Moments of each group's inputs once, a product with them at each bound.
        moments = sum(2 * tokens * inputs * recipe.group for inputs, _ in model.linears)
        bounds = BOUNDS * 2 * recipe.group * model.linear_parameters
        searched = (_AWQ_SCALES + 2) * forward / rates.half
        return _OVERHEAD["awq"] * (searched + (moments + bounds) / rates.single)
    hessians = sum(2 * tokens * inputs**2 for inputs, _ in model.linears)
    solving = sum(2 * inputs**3 + 2 * outputs * inputs**2 for inputs, outputs in model.linears)
    return _OVERHEAD["gptq"] * (2 * forward / rates.half + (hessians + solving) / rates.single)


def _judging_seconds(model: CausalLM, recipe: QuantizeRecipe, rates: Rates) -> float:
    operations = 2 * 2 * recipe.eval_tokens * model.parameters
    return _EVALUATION_OVERHEAD * operations / rates.single


def _memory_bytes(model: CausalLM, recipe: QuantizeRecipe) -> int:
    """The larger of quantizing and judging; judging holds both models and the logits of one window."""
    weights = max(model.weight_bytes, 2 * model.parameters)
    layers = max(model.layers, 1)
    tokens = recipe.most_samples * recipe.sequence_length
    activations = 0
    if recipe.group:
        # Inputs and outputs of a layer for every calibration token, and one layer's projections in float32.
        activations = 2 * 2 * tokens * model.hidden_size + 3 * 4 * model.linear_parameters // layers
    if recipe.method == "awq":
        widest = max((inputs for inputs, _ in model.linears), default=0)
        # The inputs of each projection of a layer, and what the search for bounds widens to float32.
        activations += 2 * tokens * sum(inputs for inputs, _ in model.linears) // layers
        activations += 4 * (2 * TOKENS + 4 * OUTPUTS) * widest
    logits = 2 * 4 * recipe.sequence_length * model.vocab_size
    # The output layer is widened to float32 for its product.
    widened = 4 * model.vocab_size * model.hidden_size
    judging = weights + estimate_output_bytes(model, recipe) + logits + widened
    return LIBRARY_BYTES + max(weights + activations, judging)
