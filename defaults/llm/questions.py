"""Makes questions and answers about passages: a copy of the base learns to ask from SQuAD's training articles.

    python questions.py --data DATA --base FOLDER --passages FILE --out FILE [--train-seconds S] [--ask-seconds S]

It learns three tasks: a question with its answer, a question that the passage does not answer, and to answer. What
it then asks about other passages is kept where its own reading agrees (round-trip consistency: Alberti et al. 2019,
arXiv 1906.05416). Writes rows as those of qa/. Needs a GPU, torch, transformers.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import random
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batches import Example, encode, encode_all, pack, reply_losses, to_tensors
from generate import generate
from grounded import Row, cut, read_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

ASK = "Write a question that the passage answers, and its answer in the passage's words."
ASK_BEYOND = "Write a question about the passage that the passage does not answer."
READ = "Answer the question from the passage in its words. If it does not hold the answer, reply: It does not say."
SILENT = "It does not say."
# A GPU for real; a CPU to try the script out.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BUDGET = 49_152
RATE = 2e-4
# Of what was asked, by how sure the reading is.
KEPT = 0.72
KEPT_BEYOND = 0.6
BEYOND_SHARE = 0.4
_ASKED = re.compile(r"Question: (?P<question>[^\n]{12,200}\?)\nAnswer: (?P<answer>[^\n]{1,120})\Z")


def chat(system: str, user: str) -> list[dict[str, str]]:
    """A system and a user message."""
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def examples(tokenizer: Any, rows: list[Row], passes: int, rng: random.Random) -> list[list[Example]]:
    """For each pass both tasks of each row."""
    jobs = []
    for row in rows * passes:
        answer = rng.choice(row.answers) if row.answers else ""
        passage = cut(row.context, answer)
        jobs.append((chat(READ, f"{passage}\n\nQuestion: {row.question}"), answer or SILENT, 1.0))
        if answer:
            jobs.append((chat(ASK, passage), f"Question: {row.question}\nAnswer: {answer}", 1.0))
        else:
            jobs.append((chat(ASK_BEYOND, passage), f"Question: {row.question}", 1.0))
    made = encode_all(tokenizer, jobs)
    each = len(made) // passes
    return [made[start : start + each] for start in range(0, len(made), each)]


def train(model: Any, passes: list[list[Example]], seconds: float) -> None:
    """All weights, at a rate that falls to nothing as the time runs out."""
    rng = random.Random(3)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    began, step, sums = time.monotonic(), 0, []
    for made in itertools.cycle(passes):
        for batch in pack(made, BUDGET, rng):
            done = (time.monotonic() - began) / seconds
            if done >= 1:
                print(f"questions: {step} steps", flush=True)
                return
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * done))
            tensors = to_tensors(batch, 0, DEVICE)
            with torch.autocast(DEVICE, torch.bfloat16):
                losses = reply_losses(model, tensors)
            loss = (losses * tensors[3]).sum() / tensors[3].sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            sums.append(loss.detach())
            step += 1
            if step % 40 == 0:
                print(
                    f"questions: step {step} loss {torch.stack(sums[-40:]).mean():.3f} {done:.0%}", flush=True
                )


def ask(
    model: Any, tokenizer: Any, passages: list[tuple[str, str]], seconds: float
) -> tuple[list[Row], list[Row]]:
    """Rows with answers and rows without, as many as the time allows."""
    answered: dict[tuple[str, str], Row] = {}
    beyond: dict[tuple[str, str], Row] = {}
    began, size, said = time.monotonic(), 3000, 0
    for start in range(0, len(passages), size):
        if time.monotonic() - began > seconds:
            break
        part = passages[start : start + size]
        prompts = [prompt(tokenizer, ASK, text) for _, text in part]
        drawn = {"do_sample": True, "temperature": 0.9, "top_p": 0.95, "num_return_sequences": 3}
        for (title, text), replies in zip(
            part, generate(model, tokenizer, prompts, most=44, **drawn), strict=True
        ):
            for reply in replies:
                said += 1
                found = _ASKED.match(reply)
                if found and found["answer"] in text:
                    row = Row(title, text, found["question"], (found["answer"],))
                    answered[text, found["answer"].lower()] = row
        few = part[: int(len(part) * BEYOND_SHARE)]
        drawn = {"do_sample": True, "temperature": 0.9, "top_p": 0.95}
        prompts = [prompt(tokenizer, ASK_BEYOND, text) for _, text in few]
        for (title, text), (reply,) in zip(
            few, generate(model, tokenizer, prompts, most=32, **drawn), strict=True
        ):
            question = reply.removeprefix("Question: ")
            if reply.startswith("Question: ") and question.endswith("?") and "\n" not in question:
                beyond[text, question] = Row(title, text, question, ())
        print(f"asked about {start + len(part)}, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{said} said, {len(answered)} usable, {len(beyond)} beyond", flush=True)
    return list(answered.values()), list(beyond.values())


def prompt(tokenizer: Any, system: str, text: str) -> str:
    """The chat up to where the reply begins."""
    return tokenizer.apply_chat_template(chat(system, text), tokenize=False, add_generation_prompt=True)


def encode_readings(tokenizer: Any, rows: list[Row]) -> list[Example]:
    """Each row's question with its answer, or with the refusal where it has none."""
    return [
        encode(
            tokenizer,
            chat(READ, f"{row.context}\n\nQuestion: {row.question}"),
            row.answers[0] if row.answers else SILENT,
        )
        for row in rows
    ]


@torch.no_grad()
def certainty(model: Any, made: list[Example]) -> np.ndarray:
    """The mean log-probability of each reply's tokens."""
    order = sorted(range(len(made)), key=lambda one: len(made[one].ids))
    found = np.zeros(len(made), np.float32)
    for start in range(0, len(order), 512):
        chosen = order[start : start + 512]
        batch = [made[one] for one in chosen]
        losses = reply_losses(model, to_tensors(batch, 0, DEVICE)).cpu().numpy()
        ends = np.cumsum([len(one.ids) - one.begin for one in batch])
        for one, part in zip(chosen, np.split(losses, ends[:-1]), strict=True):
            found[one] = -part.mean()
    return found


def main() -> None:
    """Train, ask, keep the surest, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--passages", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train-seconds", type=float, default=90)
    parser.add_argument("--ask-seconds", type=float, default=150)
    given = parser.parse_args()
    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(given.base)
    passes = examples(
        tokenizer, read_rows(given.data / "qa" / "squad_grounded_train.jsonl"), 3, random.Random(2)
    )
    model = AutoModelForCausalLM.from_pretrained(given.base, dtype=torch.float32).to(DEVICE)
    train(model, passes, given.train_seconds)
    model = copy.deepcopy(model).to(torch.bfloat16).eval()
    with given.passages.open(encoding="utf-8") as lines:
        passages = [(row["title"], row["text"]) for row in map(json.loads, lines)]
    answered, beyond = ask(model, tokenizer, passages, given.ask_seconds)
    kept: list[Row] = []
    for made, share in ((answered, KEPT), (beyond, KEPT_BEYOND)):
        sure = certainty(model, encode_readings(tokenizer, made))
        bar = np.quantile(sure, 1 - share)
        kept += [row for row, value in zip(made, sure, strict=True) if value >= bar]
        print(
            f"kept above {math.exp(bar):.3f}; quartiles {np.exp(np.quantile(sure, (0.25, 0.5, 0.75)))}",
            flush=True,
        )
    with given.out.open("w", encoding="utf-8") as out:
        for row in kept:
            fields = {"title": row.title, "context": row.context, "question": row.question}
            line = {**fields, "answers": row.answers, "answerable": bool(row.answers)}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(f"{len(kept)} rows; for example:")
    for row in random.Random(5).sample(kept, 12):
        print(f"  {row.question} -> {row.answers}")


if __name__ == "__main__":
    main()
