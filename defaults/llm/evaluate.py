"""Measures answers from passages on articles never trained on, and whether plain chat stayed as it was.

    python evaluate.py --data DATA --base FOLDER [--adapter FOLDER] [--rank N] --chats FILE --out FILE [--most N]

Four passages, of the same article where it has as many. Shares of answerable questions: contains (a gold answer,
as SQuAD compares), cited (the number of the right passage), refused. Of unanswerable ones (SQuAD 2.0's, whose
passage is there but does not say, and answerable ones whose passage was left out): refused. F1 is SQuAD's over
words. --rank: the adapter cut to that rank by its singular values. Plain chat: mean log-probability, nats a token,
of the base model's own replies, and replies that cite or refuse. Needs torch, transformers, peft.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batches import encode, reply_losses, to_tensors
from generate import generate
from grounded import NOTHING, Dialogue, Library, Row, holds, normalise, read_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

PASSAGES = 4
_CITED = re.compile(r"\[(\d+)\]")


def prepare(rows: list[Row], most: int) -> dict[str, list[Dialogue]]:
    """Dialogues by kind; the same for every model."""
    rng = random.Random(11)
    library = Library(rows)
    answerable = [row for row in rows if row.answers]
    silent = [row for row in rows if not row.answers]
    chosen, missing = (
        rng.sample(answerable, min(most, len(answerable))),
        rng.sample(silent, min(most // 2, len(silent))),
    )
    kinds: dict[str, list[Dialogue]] = {}
    for style in ("brief", "quote"):
        kinds[f"{style}, answerable"] = [whole(library, row, rng, style) for row in chosen]
        kinds[f"{style}, unanswerable"] = [whole(library, row, rng, style) for row in missing]
        left = [library.others(row, PASSAGES, rng) for row in chosen[: most // 4]]
        kinds[f"{style}, left out"] = [
            Dialogue(one.system, tuple(text for _, text in passages), one.question, NOTHING, 0, ())
            for one, passages in zip(kinds[f"{style}, answerable"], left, strict=False)
        ]
    return {kind: dialogues for kind, dialogues in kinds.items() if dialogues}


def whole(library: Library, row: Row, rng: random.Random, style: str) -> Dialogue:
    """With four passages, the row's own among them; all of its article where it has as many."""
    others = [text for text in library.by_title[row.title] if text != row.context]
    passages = rng.sample(others, min(PASSAGES - 1, len(others)))
    place = rng.randint(0, len(passages))
    passages.insert(place, row.context)
    model = library.ask(row, rng, count=1, style=style)
    return Dialogue(
        model.system, tuple(passages), row.question, "", place + 1 if row.answers else 0, row.answers
    )


def f1(said: str, answers: tuple[str, ...]) -> float:
    """SQuAD's F1 over words against the nearest answer."""
    best = 0.0
    words = Counter(normalise(_CITED.sub("", said)).split())
    for answer in answers:
        gold = Counter(normalise(answer).split())
        shared = sum((words & gold).values())
        best = max(best, 2 * shared / max(1, sum(words.values()) + sum(gold.values())))
    return best


def judge(dialogues: list[Dialogue], replies: list[str]) -> dict[str, float]:
    """Shares over the dialogues of one kind."""
    refused = [NOTHING.rstrip(".").lower() in reply.lower() for reply in replies]
    found = {"questions": len(replies), "refused": sum(refused) / len(replies)}
    if dialogues[0].gold:
        pairs = list(zip(dialogues, replies, strict=True))
        found["contains"] = sum(holds(reply, one.answers) for one, reply in pairs) / len(pairs)
        found["cited"] = sum(str(one.gold) in _CITED.findall(reply) for one, reply in pairs) / len(pairs)
        found["f1"] = sum(f1(reply, one.answers) for one, reply in pairs) / len(pairs)
        answered = [pair for pair, no in zip(pairs, refused, strict=True) if not no]
        found["contains, of answered"] = sum(holds(reply, one.answers) for one, reply in answered) / max(
            1, len(answered)
        )
    return {name: round(value, 4) for name, value in found.items()}


@torch.no_grad()
def refusal_scores(model: Any, tokenizer: Any, dialogues: list[Dialogue]) -> np.ndarray:
    """Log-probability of the refusal, nats."""
    scores = []
    for start in range(0, len(dialogues), 32):
        made = [encode(tokenizer, one.messages(), NOTHING) for one in dialogues[start : start + 32]]
        losses = reply_losses(model, to_tensors(made, 0, str(model.device))).cpu()
        scores += [
            -part.sum().item()
            for part in losses.split([end - begin for one in made for begin, end, _ in one.replies])
        ]
    return np.array(scores)


def auc(low: np.ndarray, high: np.ndarray) -> float:
    """The chance that one of `high` is above one of `low`."""
    return float((high[:, None] > low[None]).mean() + 0.5 * (high[:, None] == low[None]).mean())


@torch.no_grad()
def chat_check(model: Any, tokenizer: Any, chats: list[dict[str, Any]]) -> dict[str, Any]:
    """Against what the base model said."""
    made = [encode(tokenizer, one["messages"], one["reply"]) for one in chats]
    total, count = 0.0, 0
    for start in range(0, len(made), 32):
        losses = reply_losses(model, to_tensors(made[start : start + 32], 0, str(model.device)))
        total, count = total + losses.sum().item(), count + len(losses)
    prompts = [
        tokenizer.apply_chat_template(one["messages"], tokenize=False, add_generation_prompt=True)
        for one in chats
    ]
    said = [reply for (reply,) in generate(model, tokenizer, prompts, most=80)]
    odd = [reply for reply in said if _CITED.search(reply) or NOTHING[:-1] in reply or len(reply) < 3]
    shown = [
        {"asked": one["messages"][-1]["content"], "said": reply}
        for one, reply in zip(chats[:12], said, strict=False)
    ]
    words = sum(len(reply.split()) for reply in said) / len(said)
    return {
        "log-probability of the base model's replies": round(-total / count, 4),
        "cites or refuses": round(len(odd) / len(said), 4),
        "words a reply": round(words, 1),
        "replies": shown,
    }


def cut_rank(folder: Path, rank: int, out: Path) -> Path:
    """The adapter with its best `rank` directions, by singular values (Eckart-Young)."""
    from safetensors.torch import load_file, save_file

    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    scale = config["lora_alpha"] / config["r"]
    made = {}
    for name in [one for one in tensors if one.endswith("lora_A.weight")]:
        other = name.replace("lora_A", "lora_B")
        q_b, r_b = torch.linalg.qr(tensors[other].double())
        q_a, r_a = torch.linalg.qr(tensors[name].double().T)
        u, s, v = torch.linalg.svd(scale * r_b @ r_a.T)
        root = s[:rank].sqrt()
        made[other] = (q_b @ (u[:, :rank] * root)).to(torch.bfloat16).contiguous()
        made[name] = ((root[:, None] * v[:rank]) @ q_a.T).to(torch.bfloat16).contiguous()
    out.mkdir(parents=True, exist_ok=True)
    save_file(made, out / "adapter_model.safetensors")
    (out / "adapter_config.json").write_text(json.dumps(config | {"r": rank, "lora_alpha": rank}, indent=1))
    return out


def main() -> None:
    """Ask, judge, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--chats", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=800)
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(given.base)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(given.base, dtype=dtype).to(device).eval()
    if given.adapter:
        import peft

        folder = (
            cut_rank(given.adapter, given.rank, given.adapter / f"rank-{given.rank}")
            if given.rank
            else given.adapter
        )
        model = peft.PeftModel.from_pretrained(model.float(), folder).merge_and_unload().to(dtype)
    kinds = prepare(read_rows(given.data / "qa" / "squad_grounded_dev.jsonl"), given.most)
    found: dict[str, Any] = {}
    for kind, dialogues in kinds.items():
        prompts = [
            tokenizer.apply_chat_template(one.messages(), tokenize=False, add_generation_prompt=True)
            for one in dialogues
        ]
        replies = [
            reply for (reply,) in generate(model, tokenizer, prompts, most=80 if "quote" in kind else 40)
        ]
        found[kind] = judge(dialogues, replies)
        print(kind, found[kind], flush=True)
        for one, reply in list(zip(dialogues, replies, strict=True))[:4]:
            print(f"   {one.question} | {one.answers[:2]} {one.gold} | {reply}", flush=True)
    scores = {
        kind: refusal_scores(model, tokenizer, kinds[f"brief, {kind}"])
        for kind in ("answerable", "unanswerable", "left out")
        if f"brief, {kind}" in kinds
    }
    found["refusal AUC, unanswerable"] = round(auc(scores["answerable"], scores["unanswerable"]), 4)
    found["refusal AUC, left out"] = round(auc(scores["answerable"], scores["left out"]), 4)
    found["plain chat"] = chat_check(model, tokenizer, json.loads(given.chats.read_text())[-200:])
    print(
        {name: value for name, value in found["plain chat"].items() if name != "replies"},
        found["refusal AUC, unanswerable"],
        found["refusal AUC, left out"],
    )
    given.out.write_text(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
