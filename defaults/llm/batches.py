"""Token batches for a causal model: right-padded, of a token budget, reply tokens weighted. The training loop."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# A batch's width is a multiple of this: few shapes, for allocator and compiler.
WIDTH = 64


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids, segments and positions, each [n] uint16; replies: (from, to, weight of each token in the loss).

    A token sees those before it of segment 0 and of its own segment.
    """

    ids: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    replies: tuple[tuple[int, int, float], ...]


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
    ids = np.array(head + tail, np.uint16)
    # Long replies would drown the few tokens that decide: which passage, and whether any.
    replies = ((len(head), len(ids), weight / len(tail) ** 0.5),)
    return Example(ids, np.zeros_like(ids), np.arange(len(ids), dtype=np.uint16), replies)


_JOBS: list[tuple[Any, ...]] = []


def encode_all(
    tokenizer: Any, jobs: Sequence[tuple[Any, ...]], one: Callable[..., Example] = encode
) -> list[Example]:
    """`one` of the tokenizer and each job, on all cores. Forks: call it before anything touches the GPU."""
    _JOBS[:] = [(one, tokenizer, *job) for job in jobs]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with multiprocessing.get_context("fork").Pool(max(1, (os.cpu_count() or 2) - 1)) as pool:
        return pool.map(_encode_job, range(len(_JOBS)), chunksize=64)


def _encode_job(number: int) -> Example:
    made, *arguments = _JOBS[number]
    example: Example = made(*arguments)
    return example


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


@dataclass(frozen=True, slots=True)
class Batch:
    """ids, positions, segments [b, width], no segments where there is one alone.

    Of each reply token: the flat position that predicts it, the token, its weight.
    """

    ids: Tensor
    positions: Tensor
    segments: Tensor | None
    places: Tensor
    targets: Tensor
    weights: Tensor


def to_tensors(batch: Sequence[Example], pad: int, device: str) -> Batch:
    """The batch, right-padded, on the device."""
    width = -(-max(len(one.ids) for one in batch) // WIDTH) * WIDTH
    fields = np.zeros((3, len(batch), width), np.int64)
    fields[0] = pad
    places: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    for row, one in enumerate(batch):
        for number, values in enumerate((one.ids, one.positions, one.segments)):
            fields[number, row, : len(values)] = values
        for begin, end, weight in one.replies:
            places += range(row * width + begin - 1, row * width + end - 1)
            targets += one.ids[begin:end].tolist()
            weights += [weight] * (end - begin)
    made = (*fields, np.array(places), np.array(targets), np.array(weights, np.float32))
    ids, positions, segments, *rest = (torch.from_numpy(one).to(device, non_blocking=True) for one in made)
    return Batch(ids, positions, segments if fields[2].any() else None, *rest)


def visible(segments: Tensor) -> Tensor:
    """Which token [b, 1, row] may see which [.., column]: segments [b, width] -> [b, 1, width, width] bool."""
    width = segments.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=segments.device).tril()
    shared = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
    return (causal & shared)[:, None]


def reply_losses(model: Any, batch: Batch) -> Tensor:
    """Cross-entropy of each reply token, in nats. Logits are made at reply positions alone.

    Padding stands right of everything: causal attention needs no mask for it.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    more = {}
    if batch.segments is not None:
        more = {"attention_mask": visible(batch.segments), "position_ids": batch.positions}
    hidden = base.model(input_ids=batch.ids, use_cache=False, **more).last_hidden_state
    logits = base.lm_head(hidden.flatten(0, 1)[batch.places]).float()
    return torch.nn.functional.cross_entropy(logits, batch.targets, reduction="none")


@dataclass(frozen=True, slots=True)
class Plan:
    """seconds: of training. rate: the highest, after `warm` steps; a cosine of the time takes it to 0."""

    seconds: float
    rate: float
    warm: int
    decay: float
    budget: int


def fit(model: Any, passes: Sequence[list[Example]], plan: Plan, device: str) -> list[dict[str, float]]:
    """Trains what requires a gradient until the time is over, pass after pass. Gives the losses on the way."""
    rng = random.Random(4)
    weights = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=plan.rate, betas=(0.9, 0.98), weight_decay=plan.decay, fused=True
    )
    began, step, tokens, sums, figures = time.monotonic(), 0, 0, [], []
    for number, made in enumerate(itertools.cycle(passes)):
        for examples in pack(made, plan.budget, rng):
            done = (time.monotonic() - began) / plan.seconds
            if done >= 1:
                return figures
            for group in optimizer.param_groups:
                group["lr"] = (
                    plan.rate * min(1, (step + 1) / plan.warm) * 0.5 * (1 + math.cos(math.pi * done))
                )
            batch = to_tensors(examples, 0, device)
            with torch.autocast(device, torch.bfloat16):
                losses = reply_losses(model, batch)
            loss = (losses * batch.weights).sum() / batch.weights.sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            sums.append(loss.detach())
            tokens += batch.ids.numel()
            step += 1
            if step % 50 == 0:
                mean, seen = torch.stack(sums[-50:]).mean().item(), time.monotonic() - began
                found = {"step": step, "pass": number, "loss": round(mean, 4)}
                figures.append({**found, "seconds": round(seen, 1), "tokens": tokens})
                print(f"{found} {done:.0%} {tokens / seen:,.0f} tokens/s", flush=True)
    return figures
