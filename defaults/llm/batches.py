"""Token batches of dialogues for a causal model: right-padded, of a token budget, reply tokens with weights."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# A batch's width is a multiple of this: few shapes, for allocator and compiler.
WIDTH = 64


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids [n] uint16, from `begin` on the reply's. weight: of each reply token in the loss."""

    ids: np.ndarray
    begin: int
    weight: float = 1.0


def encode(
    tokenizer: Any,
    messages: Sequence[dict[str, str]],
    reply: str,
    weight: float = 1.0,
    end: str = "<|im_end|>",
) -> Example:
    """The chat as the template writes it, with the reply and its end; none where the reply was cut."""
    prompt = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    tail = tokenizer(f"{reply}{end}", add_special_tokens=False)["input_ids"]
    # Long replies would drown the few tokens that decide: which passage, and whether any.
    return Example(np.array(head + tail, np.uint16), len(head), weight / len(tail) ** 0.5)


_JOBS: list[tuple[Any, ...]] = []


def encode_all(tokenizer: Any, jobs: Sequence[tuple[Any, ...]]) -> list[Example]:
    """Of the arguments of encode, on all cores. Forks: call it before anything touches the GPU."""
    _JOBS[:] = [(tokenizer, *job) for job in jobs]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with multiprocessing.get_context("fork").Pool(max(1, (os.cpu_count() or 2) - 1)) as pool:
        return pool.map(_encode_job, range(len(_JOBS)), chunksize=256)


def _encode_job(number: int) -> Example:
    return encode(*_JOBS[number])


def pack(examples: Sequence[Example], budget: int, rng: random.Random) -> list[list[Example]]:
    """Batches of examples of about one length, at most `budget` tokens with padding, in random order."""
    ordered = sorted(examples, key=lambda one: (len(one.ids), rng.random()))
    batches: list[list[Example]] = []
    batch: list[Example] = []
    for one in ordered:
        width = -(-len(one.ids) // WIDTH) * WIDTH
        if batch and width * (len(batch) + 1) > budget:
            batches.append(batch)
            batch = []
        batch.append(one)
    batches.append(batch)
    rng.shuffle(batches)
    return batches


def to_tensors(batch: Sequence[Example], pad: int, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ids [b, width]; then of each reply token: the flat position that predicts it, the token, its weight."""
    width = -(-max(len(one.ids) for one in batch) // WIDTH) * WIDTH
    ids = torch.full((len(batch), width), pad)
    places: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    for row, one in enumerate(batch):
        ids[row, : len(one.ids)] = torch.from_numpy(one.ids.astype(np.int64))
        places += range(row * width + one.begin - 1, row * width + len(one.ids) - 1)
        targets += one.ids[one.begin :].tolist()
        weights += [one.weight] * (len(one.ids) - one.begin)
    return tuple(  # type: ignore[return-value]
        tensor.to(device, non_blocking=True)
        for tensor in (ids, torch.tensor(places), torch.tensor(targets), torch.tensor(weights))
    )


def reply_losses(model: Any, tensors: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Cross-entropy of each reply token, in nats. Logits are made at reply positions alone.

    Padding stands right of everything: causal attention needs no mask for it.
    """
    ids, places, targets, _ = tensors
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = base.model(input_ids=ids, use_cache=False).last_hidden_state
    logits = base.lm_head(hidden.flatten(0, 1)[places]).float()
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")
