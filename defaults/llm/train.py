"""Trains the default LLM.

    python train.py --data DATA --out OUT --minutes 8            # a GPU
    python train.py --data DATA --out OUT --minutes 0.5 --tiny   # a look at whether it runs, on a CPU

DATA is laid out as texts.py reads it. Writes model.safetensors, config.json, generation_config.json and
figures.json. Rows are 2048 tokens without padding: plain text as one stream cut into rows, and rows of
dialogues that start with a dialogue. Attention is causal over a row and crosses documents. Needs torch,
tokenizers, safetensors, numpy; transformers to check the checkpoint at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import random
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from dialogues import Library
from model import Llama, Shape
from texts import SOURCES, Document, Excluded, is_held_out, read_documents
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

HERE = Path(__file__).parent
PAD, BOS, END = 0, 1, 2
ROWS_PER_CALL = 32
HELD_OUT_ROWS = 64  # of each source, in the running evaluation
SEED_HELD_OUT = 1_000_003
BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1

shared: dict = {}  # what the worker processes inherit by fork


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0, help="from the first step to the last")
    parser.add_argument("--steps", type=int, default=0, help="train this many steps instead of minutes")
    parser.add_argument("--rows", type=int, default=64, help="rows of 2048 tokens a step")
    parser.add_argument("--dialogues", type=float, default=0.35, help="share of rows that are dialogues")
    parser.add_argument("--answer-weight", type=float, default=4.0, help="loss weight of an answer's tokens")
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--warm-up", type=float, default=0.04, help="share of the run")
    parser.add_argument("--evaluate-every", type=float, default=0.125, help="share of the run")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="a 2-layer model on a few documents")
    return parser.parse_args()


def take_in(task: tuple[Path, str, int | None]) -> tuple[list[Document], list[Document], int]:
    """One source's training and held-out documents, and how many were dropped as evaluation text."""
    data, source, limit = task
    excluded = Excluded(data)
    train: list[Document] = []
    held_out: list[Document] = []
    dropped = 0
    for document in islice(read_documents(data, source), limit):
        if excluded.covers(document):
            dropped += 1
        else:
            (held_out if is_held_out(document) else train).append(document)
    return train, held_out, dropped


def encode_documents(bounds: tuple[str, int, int]) -> np.ndarray:
    """`<|bos|>text<|end|>` of a span of documents, as one uint16 array."""
    split, start, stop = bounds
    ids: list[int] = []
    for document in shared[split][start:stop]:
        ids += [BOS, *shared["tokenizer"].encode(document.text).ids, END]
    return np.array(ids, dtype=np.uint16)


def dialogue_rows(task: tuple[str, int]) -> np.ndarray:
    """ROWS_PER_CALL rows of whole dialogues, the last of a row cut; [2, rows, length]: ids and answer marks."""
    split, seed = task
    rng = random.Random(seed)
    length = shared["length"] + 1
    rows = np.zeros((2, ROWS_PER_CALL, length), dtype=np.uint16)
    for row in range(ROWS_PER_CALL):
        at = 0
        while at < length:
            dialogue = shared[f"{split} library"].draw(rng)
            prompt = shared["tokenizer"].encode(dialogue.prompt).ids
            answer = [*shared["tokenizer"].encode(dialogue.reply).ids, END]
            ids = (prompt + answer)[: length - at]
            rows[0, row, at : at + len(ids)] = ids
            rows[1, row, at + len(prompt) : at + len(ids)] = 1
            at += len(ids)
    return rows


def load(options: argparse.Namespace) -> dict:
    """Fills `shared` with documents, libraries and tokenizer; returns the documents' figures."""
    shared["tokenizer"] = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    shared["length"] = 256 if options.tiny else Shape().max_position_embeddings
    limit = 60 if options.tiny else None
    with multiprocessing.Pool(len(SOURCES)) as pool:
        read = pool.map(take_in, [(options.data, source, limit) for source in SOURCES])
    for source, (_, held_out, _) in zip(SOURCES, read, strict=True):
        shared[f"held out {source}"] = held_out
    shared["train"] = [document for train, _, _ in read for document in train]
    random.Random(options.seed).shuffle(shared["train"])
    articles = [document for train, _, _ in read[:2] for document in train]
    unseen = [document for _, held_out, _ in read[:2] for document in held_out]
    shared["train library"] = Library(articles, options.data / "qa" / "squad_grounded_train.jsonl")
    shared["held out library"] = Library(unseen or articles, None)
    return {
        source: {
            "documents": len(train),
            "characters": sum(len(document.text) for document in train),
            "held out documents": len(held_out),
            "dropped documents": dropped,
        }
        for source, (train, held_out, dropped) in zip(SOURCES, read, strict=True)
    }


def encode_split(pool: multiprocessing.pool.Pool, split: str) -> Tensor:
    """A split's token stream."""
    step = 40
    spans = [(split, start, start + step) for start in range(0, len(shared[split]), step)]
    parts = pool.map(encode_documents, spans, chunksize=1)
    return torch.from_numpy(np.concatenate([np.zeros(0, np.uint16), *parts]).astype(np.int32))


def text_rows(stream: Tensor, rows: int, length: int, seed: int) -> Iterator[Tensor]:
    """Rows [rows, length + 1] for ever: each pass cuts the stream at another offset, in a new order."""
    generator = torch.Generator().manual_seed(seed)
    reach = torch.arange(length + 1, device=stream.device)
    left = torch.zeros(0, dtype=torch.long)
    while True:
        while len(left) < rows:
            offset = int(torch.randint(length, (1,), generator=generator))
            starts = torch.arange(offset, len(stream) - length, length)
            left = torch.cat([left, starts[torch.randperm(len(starts), generator=generator)]])
        yield stream[left[:rows].to(stream.device)[:, None] + reach].long()
        left = left[rows:]


def token_losses(model: torch.nn.Module, rows: Tensor, device: str) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each next token [rows, length], and the logits [rows, length, vocabulary]."""
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        logits = model(rows[:, :-1])
    loss = functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
    return loss.view(len(rows), -1), logits


def weighted_loss(model: torch.nn.Module, rows: Tensor, weights: Tensor, device: str) -> Tensor:
    """Mean cross-entropy of the rows' next tokens under the weights [rows, length]."""
    return (token_losses(model, rows, device)[0] * weights).sum() / weights.sum()


@torch.no_grad()
def evaluate(model: torch.nn.Module, held_out: dict[str, Tensor], marks: Tensor, device: str) -> dict:
    """Loss per held-out source, and for dialogues the answers' loss and the share that greedy would get right."""
    result: dict[str, float] = {}
    for label, rows in held_out.items():
        loss, right = [], []
        for part in rows.split(16):
            each, logits = token_losses(model, part, device)
            loss.append(each)
            right.append(logits.argmax(-1) == part[:, 1:])
        if label != "dialogues":
            result[label] = torch.cat(loss).mean().item()
            continue
        mark = marks[:, 1:].bool()
        result["answer tokens"] = torch.cat(loss)[mark].mean().item()
        result["answers right"] = answers_right(rows[:, 1:], torch.cat(right), mark)
    return result


def answers_right(targets: Tensor, right: Tensor, mark: Tensor) -> float:
    """Of the complete answers, the share with every token likeliest: greedy decoding would write them so."""
    good = total = 0
    for ids, hits, marked in zip(targets.cpu(), right.cpu(), mark.cpu(), strict=True):
        fine = True
        for token, hit, inside in zip(ids.tolist(), hits.tolist(), marked.tolist(), strict=True):
            if not inside:
                fine = True
                continue
            fine = fine and hit
            if token == END:
                total += 1
                good += fine
                fine = True
    return good / max(1, total)


def rate_at(progress: float, options: argparse.Namespace) -> float:
    """Linear warm-up, then a cosine to 1 % of the highest rate."""
    if progress < options.warm_up:
        return options.rate * max(progress / options.warm_up, 1e-3)
    turn = min(1.0, (progress - options.warm_up) / (1 - options.warm_up))
    return options.rate * (0.01 + 0.99 * (1 + math.cos(math.pi * turn)) / 2)


def optimizer_of(model: Llama, device: str) -> torch.optim.AdamW:
    """AdamW; norms are not decayed."""
    groups = [
        {"params": [p for p in model.parameters() if p.dim() == 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-3, betas=BETAS, eps=1e-8, fused=device == "cuda")


def train(model: Llama, options: argparse.Namespace, feeds: tuple, held_out: dict, marks: Tensor) -> dict:
    """Trains until the minutes or steps are over; returns the figures of the run."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    text, dialogues = feeds
    loss_of = torch.compile(weighted_loss) if device == "cuda" else weighted_loss
    optimizer = optimizer_of(model, device)
    history: list[dict] = []
    begin = evaluated = 0.0
    length = shared["length"]
    loss = torch.zeros(())
    for step in count():
        if step == 3:  # compiling is over: the clock starts here
            loss.item()
            begin = time.monotonic()
        spent = time.monotonic() - begin if step >= 3 else 0.0
        progress = step / options.steps if options.steps else spent / (60 * options.minutes)
        last = progress >= 1
        if last or (step >= 3 and progress >= evaluated):
            entry = {"step": step, "seconds": round(spent, 1), "training loss": loss.item()}
            entry |= evaluate(model, held_out, marks, device)
            history.append({key: round(value, 4) for key, value in entry.items()})
            per_second = (step - 3) * options.rows * length / spent if spent > 0 else 0.0
            print(json.dumps(history[-1]), f"{per_second:,.0f} tokens/s", flush=True)
            evaluated = progress + options.evaluate_every
            if step > 3 and not last:
                model.save(options.out, bos_token_id=BOS, eos_token_id=END, pad_token_id=PAD)
        if last:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate_at(progress, options)
        drawn = next(dialogues).to(device, non_blocking=True).long()
        rows = torch.cat([next(text), drawn[0]])
        weights = torch.ones_like(rows, dtype=torch.float32)
        weights[-drawn.shape[1] :] += (options.answer_weight - 1) * drawn[1]
        loss = loss_of(model, rows, weights[:, 1:], device)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 20 == 0 and not math.isfinite(loss.item()):
            raise SystemExit(f"The loss is not a number at step {step}: lower --rate.")
    tokens = step * options.rows * length
    return {"steps": step, "tokens": tokens, "tokens per second": round(per_second), "history": history}


def feed_dialogues(
    pool: multiprocessing.pool.Pool, rows: int, options: argparse.Namespace
) -> Iterator[Tensor]:
    """Fresh dialogue rows [2, rows, length + 1] for ever, made ahead of use by the workers."""
    waiting: deque = deque()
    left = torch.zeros(2, 0, shared["length"] + 1, dtype=torch.int32)
    for number in count():
        waiting.append(pool.apply_async(dialogue_rows, (("train", options.seed * 10_000_000 + number),)))
        if len(waiting) > 4 * options.workers:
            left = torch.cat([left, torch.from_numpy(waiting.popleft().get().astype(np.int32))], dim=1)
        while left.shape[1] >= rows:
            yield left[:, :rows]
            left = left[:, rows:]


def agreement(model: Llama, folder: Path, rows: Tensor) -> float:
    """The largest difference of log-probabilities to transformers' reading of the checkpoint, float32, CPU."""
    from transformers import LlamaForCausalLM

    theirs = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ours = Llama(model.shape)
    ours.load_state_dict(
        {key: value.to(torch.bfloat16).float().cpu() for key, value in model.state_dict().items()}
    )
    with torch.no_grad():
        gap = ours(rows).log_softmax(-1) - theirs(rows).logits.log_softmax(-1)
    return gap.abs().max().item()


def main() -> None:
    """Reads, trains, writes, checks."""
    options = arguments()
    start = time.monotonic()
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    documents = load(options)
    print(json.dumps(documents), f"{time.monotonic() - start:.0f} s", flush=True)
    length = shared["length"]
    talk = round(options.rows * options.dialogues)
    with multiprocessing.Pool(options.workers) as pool:  # forked before CUDA starts
        device = "cuda" if torch.cuda.is_available() else "cpu"
        stream = encode_split(pool, "train").to(device)
        held_out = {}
        for source in SOURCES:
            tokens = encode_split(pool, f"held out {source}")
            whole = len(tokens) // (length + 1)
            if whole:
                rows = tokens[: whole * (length + 1)].view(whole, length + 1)
                held_out[source] = rows[:: max(1, whole // HELD_OUT_ROWS)][:HELD_OUT_ROWS].long().to(device)
        made = [
            torch.from_numpy(pool.apply(dialogue_rows, (("held out", SEED_HELD_OUT + n),)).astype(np.int64))
            for n in range(1 if options.tiny else 3)
        ]
        held_out["dialogues"], marks = torch.cat(made, dim=1).to(device)
        print(f"{len(stream):,} tokens of text, {time.monotonic() - start:.0f} s", flush=True)
        shape = (
            replace(Shape(), num_hidden_layers=2, max_position_embeddings=length) if options.tiny else Shape()
        )
        model = Llama(shape).to(device)
        feeds = (
            text_rows(stream, options.rows - talk, length, options.seed),
            feed_dialogues(pool, talk, options),
        )
        figures = train(model, options, feeds, held_out, marks)
        pool.terminate()
    model.save(options.out, bos_token_id=BOS, eos_token_id=END, pad_token_id=PAD)
    figures |= {
        "documents": documents,
        "text tokens": len(stream),
        "passes over the text": figures["steps"] * (options.rows - talk) * length / len(stream),
        "options": {key: str(value) for key, value in vars(options).items() if key not in ("data", "out")},
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "CPU",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "minutes in all": round((time.monotonic() - start) / 60, 2),
    }
    (options.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    figures["largest log-probability gap to transformers"] = agreement(
        model, options.out, held_out["dialogues"][:1, :length].cpu()
    )
    (options.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in figures.items() if key != "history"}, indent=2))


if __name__ == "__main__":
    main()
