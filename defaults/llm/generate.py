"""Greedy or sampled replies of many prompts at once with transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


@torch.no_grad()
def generate(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, most: int, tokens: int = 400_000, **sampling: Any
) -> list[list[str]]:
    """For each prompt its replies (num_return_sequences of them, else one), without special tokens.

    most: new tokens. tokens: of a batch, prompts and replies with padding.
    """
    count = sampling.get("num_return_sequences", 1)
    sampling.setdefault("do_sample", False)
    tokenizer.padding_side = "left"
    order = sorted(range(len(prompts)), key=lambda one: len(prompts[one]))
    found: dict[int, list[str]] = {}
    position = 0
    while position < len(order):
        # The longest prompt of a slice sets its width; four characters a token is a low guess.
        size = 1
        while position + size < len(order):
            width = len(prompts[order[position + size]]) / 3.5 + most
            if width * (size + 1) * count > tokens:
                break
            size += 1
        chosen = order[position : position + size]
        position += size
        encoded = tokenizer(
            [prompts[one] for one in chosen], return_tensors="pt", padding=True, add_special_tokens=False
        ).to(model.device)
        out = model.generate(
            **encoded, max_new_tokens=most, pad_token_id=tokenizer.pad_token_id, use_cache=True, **sampling
        )
        said = tokenizer.batch_decode(out[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
        for row, one in enumerate(chosen):
            found[one] = [text.strip() for text in said[row * count : (row + 1) * count]]
    return [found[one] for one in range(len(prompts))]
