"""Measures the default LLM on a CPU with transformers in float32: perplexity, and answers from passages.

    python evaluate.py --data DATA --model FOLDER --out FILE [--only perplexity|answers] [--golden FILE]

Perplexity: windows of 2048 tokens every 1536, each token scored once, after 512 or more of context but for the
first window. Answers: greedy, on held-out made questions and on the SQuAD dev split, which no training saw.
Needs torch, transformers, safetensors.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import transformers
from dialogues import NOTHING, Dialogue, Library
from texts import SOURCES, Excluded, is_held_out, plain_wikitext, read_documents, read_wikitext
from torch import Tensor
from transformers import AutoTokenizer, LlamaForCausalLM

WINDOW = 2048
STRIDE = 1536
LONGEST_PROMPT = 1900
GOLDEN = (
    "The river rises in the hills and flows into",
    "The parliament voted on Tuesday to",
    Dialogue(
        (
            "The harbour was dug in 1881. Its north wall is built of granite from the island.",
            "The lighthouse keeper rowed to the mainland every second week for letters and flour.",
        ),
        "What is the north wall of the harbour built of?",
        NOTHING,
        0,
        "golden",
    ),
)


@torch.no_grad()
def perplexity(model: LlamaForCausalLM, ids: Tensor, characters: int, unscored: set[int]) -> dict:
    """Perplexity per token and bits per character over a stream of ids [tokens]."""
    total, scored, done = 0.0, 0, 1
    for start in range(0, max(1, len(ids) - WINDOW + STRIDE), STRIDE):
        window = ids[start : start + WINDOW]
        loss = torch.nn.functional.cross_entropy(
            model(window[None]).logits[0, :-1], window[1:], reduction="none"
        )
        targets = torch.arange(start + 1, start + len(window))
        kept = (targets >= done) & ~torch.isin(window[1:], torch.tensor(sorted(unscored)))
        total += loss[kept].double().sum().item()
        scored += int(kept.sum())
        done = start + len(window)
    return {
        "perplexity": round(math.exp(total / scored), 3),
        "bits per character": round(total / math.log(2) / characters, 4),
        "tokens": scored,
    }


def perplexities(
    model: LlamaForCausalLM, tokenizer: AutoTokenizer, data: Path, most: int
) -> Iterator[tuple[str, dict]]:
    """WikiText-2 validation as distributed, each held-out source, WikiText-2 with its @-@ joined."""
    bos, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    excluded = Excluded(data)
    raw = read_wikitext(data)
    yield "wikitext2 valid", over_texts(model, tokenizer, [raw], most, {bos})
    for source in SOURCES:
        documents = (d for d in read_documents(data, source) if is_held_out(d) and not excluded.covers(d))
        yield source, over_texts(model, tokenizer, (d.text for d in documents), most, {bos, end})
    yield "wikitext2 valid, @-@ joined", over_texts(model, tokenizer, [plain_wikitext(raw)], most, {bos})


def over_texts(
    model: LlamaForCausalLM, tokenizer: AutoTokenizer, texts: Iterable[str], most: int, unscored: set[int]
) -> dict:
    """Perplexity over texts as one stream of `<|bos|>text<|end|>`, its first `most` tokens."""
    ids: list[int] = []
    for text in texts:
        ids += [tokenizer.bos_token_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        if len(ids) > most:
            break
    ids = ids[:most]
    characters = len(tokenizer.decode(ids, skip_special_tokens=True))
    return perplexity(model, torch.tensor(ids), characters, unscored)


@torch.no_grad()
def reply(model: LlamaForCausalLM, tokenizer: AutoTokenizer, prompt: str) -> str:
    """The greedy continuation of a prompt, up to 120 tokens."""
    ids = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=120, do_sample=False)
    return tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def prompts(data: Path, each: int) -> dict[str, list[Dialogue]]:
    """Held-out dialogues of four kinds."""
    sources = SOURCES[:2]
    excluded = Excluded(data)
    unseen = [
        document
        for source in sources
        for document in read_documents(data, source)
        if is_held_out(document) and not excluded.covers(document)
    ]
    library = Library(unseen, data / "qa" / "squad_grounded_dev.jsonl")
    rng = random.Random(20)
    kinds = {
        "made, answerable": lambda: library.from_article(rng, True),
        "made, unanswerable": lambda: library.from_article(rng, False),
        "squad dev, answerable": lambda: library.from_squad(rng.choice(library.answerable), rng),
        "squad dev, unanswerable": lambda: library.from_squad(rng.choice(library.unanswerable), rng),
    }
    found: dict[str, list[Dialogue]] = {}
    for kind, draw in kinds.items():
        found[kind] = []
        while len(found[kind]) < each:
            made = draw()
            if made:
                found[kind].append(made)
    return found


def judge(dialogue: Dialogue, said: str) -> dict[str, bool]:
    """What is right about a reply."""
    sentence, _, cited = said.rpartition(" [")
    refused = said == NOTHING
    number = int(cited[:-1]) if cited.endswith("]") and cited[:-1].isdigit() else 0
    passage = dialogue.passages[number - 1] if 0 < number <= len(dialogue.passages) else ""
    return {
        "says that the passages do not say": refused,
        "is a sentence of the cited passage, word for word": not refused
        and bool(passage)
        and sentence in passage,
        "right sentence": bool(dialogue.cited) and sentence == dialogue.answer,
        "right citation": bool(dialogue.cited) and number == dialogue.cited,
        "holds the gold answer": any(gold in sentence for gold in dialogue.gold),
    }


def answers(
    model: LlamaForCausalLM, tokenizer: AutoTokenizer, data: Path, each: int
) -> Iterator[tuple[str, dict]]:
    """Shares of right replies per kind of prompt."""
    for kind, dialogues in prompts(data, each).items():
        fitting = [d for d in dialogues if len(tokenizer(d.prompt)["input_ids"]) <= LONGEST_PROMPT]
        judged = [judge(dialogue, reply(model, tokenizer, dialogue.prompt)) for dialogue in fitting]
        shares = {key: round(sum(row[key] for row in judged) / len(judged), 3) for key in judged[0]}
        yield kind, {"prompts": len(judged), **shares}


@torch.no_grad()
def golden(model: LlamaForCausalLM, tokenizer: AutoTokenizer) -> dict:
    """Token ids of fixed prompts and the five likeliest next tokens with their log-probabilities."""
    cases = []
    for given in GOLDEN:
        text = given.prompt if isinstance(given, Dialogue) else "<|bos|>" + given
        ids = tokenizer(text)["input_ids"]
        best = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1).topk(5)
        cases.append(
            {
                "prompt": text,
                "token_ids": ids,
                "top_token_ids": best.indices.tolist(),
                "top_logprobs": [round(value, 5) for value in best.values.tolist()],
            }
        )
    made = f"torch {torch.__version__}, transformers {transformers.__version__}, float32, CPU"
    return {"made_with": made, "cases": cases}


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=["perplexity", "answers"])
    parser.add_argument("--prompts", type=int, default=200, help="of each kind")
    parser.add_argument("--tokens", type=int, default=100_000, help="of each text, for perplexity")
    parser.add_argument("--golden", type=Path)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = LlamaForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    if options.golden:
        options.golden.write_text(json.dumps(golden(model, tokenizer), indent=1) + "\n", encoding="utf-8")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    figures: dict = {"versions": versions, "python": platform.python_version()}
    start = time.monotonic()
    if options.only != "answers":
        figures["perplexity"] = {}
        for label, measured in perplexities(model, tokenizer, options.data, options.tokens):
            figures["perplexity"][label] = measured
            print(label, measured, f"{time.monotonic() - start:.0f} s", flush=True)
    if options.only != "perplexity":
        figures["answers"] = {}
        for kind, shares in answers(model, tokenizer, options.data, options.prompts):
            figures["answers"][kind] = shares
            print(kind, shares, f"{time.monotonic() - start:.0f} s", flush=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
