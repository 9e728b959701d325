"""Runs original and quantized model side by side over the same windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trireme.quantize.figures import Figures, Tally
from trireme.quantize.texts import Windows

if TYPE_CHECKING:
    import torch

Dequantize = Callable[[Any], "torch.Tensor | None"]
# Positions whose logits are compared at once: a vocabulary can have 150,000 entries.
POSITIONS = 128


def keep_weights(module: Any) -> torch.Tensor | None:
    """The weight of a plain linear layer; None for any other module."""
    import torch

    return module.weight if type(module) is torch.nn.Linear else None


def use_float_activations(model: Any, dequantize: Dequantize) -> None:
    """Makes `model` compute in float32 with its weights as they are stored.

    The figures then measure the stored weights and not the rounding of 16-bit activations. Weights are widened
    for one product at a time, so that memory holds the stored ones. A module for which `dequantize` has no
    weight, such as those of bitsandbytes, runs its own kernel.
    """

    def widen(module: Any, given: Any, output: torch.Tensor) -> torch.Tensor:
        return output.float()

    model.get_input_embeddings().register_forward_hook(widen)
    for module in model.modules():
        if dequantize(module) is not None:
            module.forward = _float_forward(module, dequantize)


def judge(original: Any, quantized: Any, windows: Windows, advance: Callable[[], None]) -> Figures:
    """The figures of `quantized` over `windows`. Blocks; `advance` is called after each window."""
    import torch

    tally = Tally()
    device = original.get_input_embeddings().weight.device
    with torch.inference_mode():
        for window in windows:
            ids = torch.tensor([window], device=device)
            first, second = (
                model(input_ids=ids, use_cache=False).logits[0, :-1] for model in (original, quantized)
            )
            for start in range(0, len(window) - 1, POSITIONS):
                part = slice(start, start + POSITIONS)
                tally.add(first[part], second[part], ids[0, 1:][part])
            advance()
    return tally.figures()


def _float_forward(module: Any, dequantize: Dequantize) -> Callable[[Any], Any]:
    import torch

    def forward(given: torch.Tensor) -> torch.Tensor:
        weight = dequantize(module)
        assert weight is not None  # noqa: S101 - the module was chosen by this
        bias = module.bias.float() if module.bias is not None else None
        return torch.nn.functional.linear(given.float(), weight.float(), bias)

    return forward
