"""Makes questions and answers about passages: a copy of the base learns to ask from SQuAD's training articles.

    python questions.py learn --data DATA --base FOLDER --out ASKER [--seconds S]
    python ask.py --asker ASKER --passages FILE --out SAID
    python questions.py keep --asker ASKER --said SAID ... --out FILE

It learns three tasks: a question with its answer, a question that the passage does not answer, and to answer. What
it then asks about other passages is kept where its own reading agrees (round-trip consistency: Alberti et al. 2019,
arXiv 1906.05416). Writes rows as those of qa/. Needs a GPU, torch, transformers.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batches import Example, Plan, encode_all, fit, reply_losses, to_tensors
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
KEPT_BEYOND = 0.5
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


def parse(replies: Iterable[str], text: str) -> list[tuple[str, str]]:
    """Questions with answers that the passage holds; of those with one answer, one."""
    found = {}
    for reply in replies:
        match = _ASKED.match(reply)
        if match and match["answer"] in text:
            found[match["answer"].lower()] = (match["question"], match["answer"])
    return list(found.values())


def parse_beyond(replies: Iterable[str]) -> list[tuple[str, str]]:
    """Questions without an answer."""
    questions = {reply.removeprefix("Question: ") for reply in replies if reply.startswith("Question: ")}
    return [(one, "") for one in sorted(questions) if one.endswith("?") and "\n" not in one]


def prompt(tokenizer: Any, system: str, text: str) -> str:
    """The chat up to where the reply begins."""
    return tokenizer.apply_chat_template(chat(system, text), tokenize=False, add_generation_prompt=True)


def readings(rows: list[Row]) -> list[tuple[Any, ...]]:
    """What `encode` takes: each row's question with its answer, or with the refusal where it has none."""
    return [
        (chat(READ, f"{row.context}\n\nQuestion: {row.question}"), row.answers[0] if row.answers else SILENT)
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
        ends = np.cumsum([end - begin for one in batch for begin, end, _ in one.replies])
        for one, part in zip(chosen, np.split(losses, ends[:-1]), strict=True):
            found[one] = -part.mean()
    return found


def learn(given: argparse.Namespace) -> None:
    """Train a copy of the base, save it in bfloat16."""
    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(given.base)
    rows = read_rows(given.data / "qa" / "squad_grounded_train.jsonl")
    passes = examples(tokenizer, rows, 3, random.Random(2))
    model = AutoModelForCausalLM.from_pretrained(given.base, dtype=torch.float32).to(DEVICE)
    fit(model, passes, Plan(given.seconds, RATE, 20, 0.01, BUDGET), DEVICE)
    model.to(torch.bfloat16).save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)


def keep(given: argparse.Namespace) -> None:
    """Write the surest of what was said."""
    tokenizer = AutoTokenizer.from_pretrained(given.asker)
    groups: dict[bool, list[Row]] = {True: [], False: []}
    for path in given.said:
        with path.open(encoding="utf-8") as lines:
            for one in map(json.loads, lines):
                answers = (one["answer"],) if one["answer"] else ()
                groups[bool(answers)].append(Row(one["title"], one["context"], one["question"], answers))
    encoded = {kind: encode_all(tokenizer, readings(rows)) for kind, rows in groups.items()}
    model = AutoModelForCausalLM.from_pretrained(given.asker, dtype=torch.bfloat16).to(DEVICE).eval()
    kept: list[Row] = []
    for kind, share in ((True, KEPT), (False, KEPT_BEYOND)):
        sure = certainty(model, encoded[kind])
        bar = np.quantile(sure, 1 - share)
        kept += [row for row, value in zip(groups[kind], sure, strict=True) if value >= bar]
        quartiles = np.exp(np.quantile(sure, (0.25, 0.5, 0.75)))
        print(f"{len(sure)}, kept above {math.exp(bar):.3f}; quartiles {quartiles}", flush=True)
    with given.out.open("w", encoding="utf-8") as out:
        for row in kept:
            fields = {"title": row.title, "context": row.context, "question": row.question}
            line = {**fields, "answers": row.answers, "answerable": bool(row.answers)}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(f"{len(kept)} rows; for example:")
    for row in random.Random(5).sample(kept, min(12, len(kept))):
        print(f"  {row.question} -> {row.answers}")


def main() -> None:
    """Learn, or keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    learns = verbs.add_parser("learn")
    learns.set_defaults(work=learn)
    learns.add_argument("--data", type=Path, required=True)
    learns.add_argument("--base", type=Path, required=True)
    learns.add_argument("--out", type=Path, required=True)
    learns.add_argument("--seconds", type=float, default=90)
    keeps = verbs.add_parser("keep")
    keeps.set_defaults(work=keep)
    keeps.add_argument("--asker", type=Path, required=True)
    keeps.add_argument("--said", type=Path, nargs="+", required=True)
    keeps.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.work(given)


if __name__ == "__main__":
    main()
