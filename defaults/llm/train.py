"""Trains the adapter (LoRA) with which the default LLM answers from passages, cites, and says when they do not.

    python train.py --data DATA --base FOLDER --asked FILE --out FOLDER [--minutes M]

Rows: SQuAD's training articles, drawn anew each pass, and those of questions.py. So that it still chats, the base
model's own replies to plain instructions are among them. Needs a GPU, torch, transformers, peft.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
import random
import time
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from batches import Example, encode_all, pack, reply_losses, to_tensors
from grounded import Library, Row, read_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

RANK = 32
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RATE = 6e-4
# A GPU for real; a CPU to try the script out.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BUDGET = 65_536
GOLD_DRAWS = 2
# Of the unanswerable rows of SQuAD, in each draw: with all of them the model refuses too often.
UNANSWERABLE_SHARE = 0.5
ASKED_UNANSWERABLE_SHARE = 0.16
PASSES = 4
CHAT_DRAWS = 2


def draw(
    gold: list[Row], asked: list[Row], chats: list[dict[str, Any]], rng: random.Random
) -> list[tuple[Any, ...]]:
    """One pass: what `encode` takes, for every row."""
    jobs = []
    libraries = Library(gold), Library(asked)
    for _ in range(GOLD_DRAWS):
        for row in gold:
            if row.answers or rng.random() < UNANSWERABLE_SHARE:
                one = libraries[0].ask(row, rng)
                jobs.append((one.messages(), one.reply, 1.0))
    for row in asked:
        one = libraries[1].ask(row, rng)
        jobs.append((one.messages(), one.reply, 1.0))
    for one in chats * CHAT_DRAWS:
        jobs.append((one["messages"], one["reply"], 0.5, "<|im_end|>" if one["is_whole"] else ""))
    return jobs


def thin(asked: list[Row], rng: random.Random) -> list[Row]:
    """With no more unanswerable rows than their share."""
    answered = [row for row in asked if row.answers]
    beyond = [row for row in asked if not row.answers]
    most = int(len(answered) * ASKED_UNANSWERABLE_SHARE / (1 - ASKED_UNANSWERABLE_SHARE))
    return answered + rng.sample(beyond, min(most, len(beyond)))


def train(model: Any, passes: list[list[Example]], seconds: float) -> list[dict[str, float]]:
    """Until the time is over; the rate falls to nothing with it. Gives the losses on the way."""
    rng = random.Random(4)
    weights = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    began, step, tokens, sums, figures = time.monotonic(), 0, 0, [], []
    for number, made in enumerate(itertools.cycle(passes)):
        for batch in pack(made, BUDGET, rng):
            done = (time.monotonic() - began) / seconds
            if done >= 1:
                return figures
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / 40) * 0.5 * (1 + math.cos(math.pi * done))
            tensors = to_tensors(batch, 0, DEVICE)
            with torch.autocast(DEVICE, torch.bfloat16):
                losses = reply_losses(model, tensors)
            loss = (losses * tensors[3]).sum() / tensors[3].sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            sums.append(loss.detach())
            tokens += tensors[0].numel()
            step += 1
            if step % 50 == 0:
                mean = torch.stack(sums[-50:]).mean().item()
                seen = time.monotonic() - began
                figures.append(
                    {
                        "step": step,
                        "pass": number,
                        "loss": round(mean, 4),
                        "seconds": round(seen, 1),
                        "tokens": tokens,
                    }
                )
                print(
                    f"step {step} pass {number} loss {mean:.4f} {done:.0%} {tokens / seen:,.0f} tokens/s",
                    flush=True,
                )
    return figures


def main() -> None:
    """Draw, encode, let the base chat, train, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--asked", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--chats", type=int, default=1500)
    parser.add_argument("--compile", action="store_true", help="each layer by torch.compile")
    given = parser.parse_args()
    began = time.monotonic()
    torch.manual_seed(0)
    rng = random.Random(0)
    tokenizer = AutoTokenizer.from_pretrained(given.base)
    gold = read_rows(given.data / "qa" / "squad_grounded_train.jsonl")
    asked = thin(read_rows(given.asked), rng)
    chats_file = given.out / "chats.json"
    if not chats_file.exists():
        raise SystemExit("run `python plain.py` first: it lets the base model chat")
    chats = json.loads(chats_file.read_text())[: given.chats]
    passes = []
    for number in range(PASSES):
        passes.append(encode_all(tokenizer, draw(gold, asked, chats, rng)))
        print(f"pass {number}: {len(passes[-1])} examples, {time.monotonic() - began:.0f} s", flush=True)
    model = AutoModelForCausalLM.from_pretrained(given.base, dtype=torch.bfloat16).to(DEVICE)
    config = peft.LoraConfig(
        r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM"
    )
    model = peft.get_peft_model(model, config)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    if given.compile:
        for layer in model.get_base_model().model.layers:
            layer.compile(dynamic=True)
    model.train()
    figures = train(model, passes, given.minutes * 60 - (time.monotonic() - began))
    model.save_pretrained(given.out)
    about = {
        "losses": figures,
        "examples": [len(one) for one in passes],
        "rows": {
            "gold": len(gold),
            "asked": len(asked),
            "asked, unanswerable": sum(not row.answers for row in asked),
            "chats": len(chats),
        },
        "machine": torch.cuda.get_device_name() if DEVICE == "cuda" else platform.machine(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "seconds": round(time.monotonic() - began, 1),
    }
    (given.out / "training.json").write_text(json.dumps(about, indent=1))
    print(f"trained, {time.monotonic() - began:.0f} s in all", flush=True)


if __name__ == "__main__":
    main()
