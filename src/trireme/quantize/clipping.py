"""AWQ's clipping bounds (Lin et al. 2023) from second moments of the inputs, with matrix products alone.

A group's error at a bound is the mean over tokens of (x . d)^2, where d is what clipping and rounding change in its
weights. That is d' M d with M = mean of x x', the same for every output and bound: the tokens are multiplied once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Bounds tried, in twentieths of the group's largest weight taken off; those of auto-awq and gptqmodel.
BOUNDS, STEPS = 10, 20
# Tokens and outputs that are widened to float32 at once.
TOKENS, OUTPUTS = 4096, 1024

# quantize_into(source, target): what rounding makes of weights, both of one shape.
QuantizeInto = Callable[["torch.Tensor", "torch.Tensor"], None]


def find_bounds(
    weight: torch.Tensor, inputs: torch.Tensor, group_size: int, quantize_into: QuantizeInto
) -> torch.Tensor:
    """The bound [outputs, groups, 1] of |weight| in each group that changes the outputs least.

    `weight` is [outputs, inputs], `inputs` [..., inputs]; nothing is mutated. Of equal bounds the widest is taken.
    """
    import torch

    moments = find_moments(inputs, group_size, weight.device)
    found = []
    for rows in torch.split(weight.reshape(len(weight), -1, group_size), OUTPUTS):
        widest = rows.abs().amax(dim=-1, keepdim=True)
        best, least = widest.clone(), torch.full_like(widest, torch.inf, dtype=torch.float32)
        rounded = torch.empty_like(rows)
        for step in range(BOUNDS):
            bound = widest * (1 - step / STEPS)
            quantize_into(torch.clamp(rows, -bound, bound), rounded)
            # [groups, outputs, group_size], so that a group's products are one matrix product.
            change = (rounded.float() - rows.float()).transpose(0, 1)
            error = ((change @ moments) * change).sum(-1).t().unsqueeze(-1)
            better = error < least
            least = torch.where(better, error, least)
            best = torch.where(better, bound, best)
        found.append(best)
    return torch.cat(found)


def find_moments(inputs: torch.Tensor, group_size: int, device: torch.device) -> torch.Tensor:
    """The mean of x x' of each group of inputs: [groups, group_size, group_size], in float32 on `device`."""
    import torch

    tokens = inputs.reshape(-1, inputs.shape[-1] // group_size, group_size)
    groups = tokens.shape[1]
    total = torch.zeros(groups, group_size, group_size, device=device)
    for part in torch.split(tokens, TOKENS):
        wide = part.to(device).float().transpose(0, 1)
        total += wide.transpose(1, 2) @ wide
    return total / len(tokens)
