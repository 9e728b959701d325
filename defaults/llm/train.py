"""Trains the adapter (LoRA) with which the default LLM answers from passages, cites, and says when they do not.

    python train.py --data DATA --base FOLDER --passages FILE --asked FILE --out FOLDER [--minutes M]

Rows: SQuAD's training articles, drawn anew each pass, and those of questions.py. So that it still chats, the base
model's own replies to plain instructions are among them. Needs a GPU, torch, transformers, peft.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from batches import Example, Plan, encode, encode_all, fit
from bundles import Shelf, encode_bundle
from grounded import Row, read_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

RANK = 32
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RATE = 6e-4
# A GPU for real; a CPU to try the script out.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BUDGET = 65_536
GOLD_DRAWS = 4
# Of the unanswerable rows of SQuAD, in each draw: with all of them the model refuses too often.
UNANSWERABLE_SHARE = 0.5
ASKED_UNANSWERABLE_SHARE = 0.12
# Of refusals in the loss: a wrong one costs more than one that is missing.
REFUSAL_WEIGHT = 0.7
PASSES = 3
CHAT_DRAWS = 2


def draw(
    shelves: tuple[Shelf, Shelf], chats: list[dict[str, Any]], rng: random.Random
) -> list[tuple[Any, ...]]:
    """One pass: what `encode_one` takes; a bundle about every passage, those of SQuAD several times."""
    jobs: list[tuple[Any, ...]] = []
    for shelf, draws, share in ((shelves[0], GOLD_DRAWS, UNANSWERABLE_SHARE), (shelves[1], 1, 1.0)):
        for text in shelf.texts * draws:
            bundle = shelf.draw(text, (share, REFUSAL_WEIGHT), rng)
            if bundle.asked:
                jobs.append((bundle,))
    for one in chats * CHAT_DRAWS:
        jobs.append((one["messages"], one["reply"], 0.5, "<|im_end|>" if one["is_whole"] else ""))
    return jobs


def encode_one(tokenizer: Any, job: Any, *more: Any) -> Example:
    """A bundle or a chat."""
    return encode(tokenizer, job, *more) if more else encode_bundle(tokenizer, job)


def thin(asked: list[Row], rng: random.Random) -> list[Row]:
    """With no more unanswerable rows than their share."""
    answered = [row for row in asked if row.answers]
    beyond = [row for row in asked if not row.answers]
    most = int(len(answered) * ASKED_UNANSWERABLE_SHARE / (1 - ASKED_UNANSWERABLE_SHARE))
    return answered + rng.sample(beyond, min(most, len(beyond)))


def read_near(path: Path) -> dict[str, list[str]]:
    """Of each passage, the texts of those nearest to it."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return {row["text"]: [rows[one]["text"] for one in row["near"]] for row in rows}


def main() -> None:
    """Draw, encode, let the base chat, train, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--passages", type=Path, required=True)
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
    shelves = Shelf(gold), Shelf(asked, read_near(given.passages))
    for number in range(PASSES):
        passes.append(encode_all(tokenizer, draw(shelves, chats, rng), encode_one))
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
    plan = Plan(given.minutes * 60 - (time.monotonic() - began), RATE, 40, 0.0, BUDGET)
    figures = fit(model, passes, plan, DEVICE)
    model.save_pretrained(given.out)
    about = {
        "losses": figures,
        "sequences": [len(one) for one in passes],
        "replies": [sum(len(one.replies) for one in each) for each in passes],
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
