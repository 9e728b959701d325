"""Trains and evaluates the default reranker.

    python train.py --data DATA --base MINILM --out OUT            # everything
    python train.py --data DATA --base MINILM --out OUT --hold medquad news gutenberg
                                                                   # leave domains out
    python train.py --data DATA --base MINILM --prepare FILE       # token arrays only

DATA is laid out as data.py reads it, MINILM is a folder with all-MiniLM-L6-v2 (config.json,
tokenizer.json, model.safetensors). Needs torch, tokenizers, safetensors, numpy, snowballstemmer.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from bm25 import Bm25
from data import build
from lexicon import table
from report import combined, figures, hybrid, ndcg, show
from retrieve import Arrays, Store, candidates, embed, pairs, prepare, store
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from trireme.export.residual import (
    PairEncoder,
    ResidualReranker,
    ResidualSettings,
    adapter_config,
    attach_low_rank,
    load_encoder,
    read_shape,
    trained_state,
)

MIX = {
    "squad_question": 14,
    "sentence_question": 12,
    "medquad_question": 8,
    "medquad_keyword": 6,
    "paraphrase": 2,
    "wiki_cloze": 7,
    "news_cloze": 7,
    "gutenberg_cloze": 5,
    "wiki_section": 8,
    "news_headline": 12,
    "wiki_keyword": 3,
    "news_keyword": 3,
    "wiki_topic": 3,
    "news_topic": 3,
    "wiki_claim": 2,
    "news_claim": 2,
    "wiki_next": 3,
    "news_next": 3,
    "gutenberg_next": 3,
}
NEIGHBOURS = 3
TERM_WEIGHTS = (0.10, 0.05, 0.55)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--prepare", type=Path, help="only write the token arrays to this .npz")
    parser.add_argument("--prepared", type=Path, help="read the token arrays from this .npz")
    parser.add_argument("--hold", nargs="*", default=[], help="domains to leave out of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--queries", type=int, default=40, help="queries per step")
    parser.add_argument("--negatives", type=int, default=15)
    parser.add_argument("--candidates", type=int, default=50, help="nearest passages per query")
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--penalty", type=float, default=0.02, help="times mean (logit of f)^2")
    parser.add_argument("--temperature", type=float, default=20.0, help="logits per unit of score")
    parser.add_argument("--apart", type=int, default=4)
    parser.add_argument("--bound", type=float, default=0.2)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--eval-queries", type=int, default=300, help="per kind; SQuAD: all")
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the text to use")
    return parser.parse_args()


def new_model(base: Path, settings: ResidualSettings, arrays: Arrays) -> ResidualReranker:
    """The untrained reranker: base weights, stored tables, fixed term weights."""
    model = ResidualReranker(read_shape(base), settings)
    load_encoder(model.encoder, load_file(base / "model.safetensors"))
    model.requires_grad_(False)
    attach_low_rank(model)
    for name in ("idf", "stem", "inner"):
        buffer = getattr(model.interaction, name)
        buffer.copy_(torch.tensor(arrays[f"table.{name}"].astype(np.float32)))
    model.interaction.weight.copy_(torch.tensor(TERM_WEIGHTS))
    model.side.requires_grad_(True)
    model.head.requires_grad_(True)
    return model


class Sampler:
    """Draws training batches: queries by kind, one relevant passage, hard negatives.

    Training sees what reranking will see: only queries with a relevant passage among the nearest
    `depth`, and negatives drawn evenly from the rest of them. Passages beside a relevant one are
    left out where neighbours may answer as well.
    """

    def __init__(self, data: Store, found: np.ndarray, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.right: list[np.ndarray] = []
        self.wrong: list[np.ndarray] = []
        for name, questions, _ in data.home:
            near = NEIGHBOURS if name in ("wiki", "news", "gutenberg") else 0
            for q in questions:
                apart = np.abs(found[q][:, None] - data.relevant[q][None, :]).min(1)
                self.right.append(found[q][apart == 0])
                self.wrong.append(found[q][(apart > near) & (found[q] >= 0)])
        usable = np.array([len(r) > 0 for r in self.right])
        self.rows = [np.flatnonzero((data.kind == k) & usable) for k in range(len(data.kinds))]
        weight = np.array([MIX[k] for k in data.kinds], dtype=float)
        self.chance = weight / weight.sum()

    def draw(self, queries: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Query indices [n] and passages [n, 1 + count], the relevant one first."""
        kinds = self.rng.choice(len(self.chance), queries, p=self.chance)
        picked = np.array([self.rng.choice(self.rows[k]) for k in kinds])
        right = [self.rng.choice(self.right[q]) for q in picked]
        wrong = [self.rng.choice(self.wrong[q], count, replace=False) for q in picked]
        return picked, np.concatenate([np.array(right)[:, None], np.stack(wrong)], axis=1)


def evidence(model: ResidualReranker, data: Store, q: Tensor, p: Tensor) -> tuple[Tensor, ...]:
    """Share [B], features [B, 3] and neural evidence [B] of pairs given by their indices."""
    ids, mask, types = pairs(data, q, p)
    query, passage = model.parts(mask, types)
    with torch.no_grad():
        states = model.encoder.separate(ids, mask, types)
        found = model.interaction.features(ids, states.float(), query, passage)
    neural = model.neural(states, mask, passage).float()
    return model.share(query, passage), found.float(), neural


def train(
    model: ResidualReranker, data: Store, args: argparse.Namespace, vectors: tuple[Tensor, Tensor]
) -> None:
    """Fits adapter, side vector and head by listwise cross-entropy plus the penalty on f."""
    device = vectors[0].device
    everything = np.arange(len(data.relevant))
    sampler = Sampler(data, candidates(data, *vectors, everything, args.candidates), args.seed)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=args.rate, weight_decay=0.01)
    shape = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min(1.0, (s + 1) / 100) * 0.5 * (1 + math.cos(math.pi * s / args.steps)),
    )
    start, held = time.time(), []
    for step in range(args.steps):
        picked, cand = sampler.draw(args.queries, args.negatives)
        q = torch.tensor(picked).to(device).repeat_interleave(cand.shape[1])
        p = torch.tensor(cand.reshape(-1)).to(device)
        prior = (vectors[0][q] * vectors[1][p]).sum(1)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            share, found, neural = evidence(model, data, q, p)
        terms = ((found - model.interaction.centre) * model.interaction.weight).sum(1)
        logits = args.temperature * (prior + share * (terms + neural)).reshape(cand.shape)
        size = (args.temperature * neural).square().mean()
        loss = -torch.log_softmax(logits, dim=1)[:, 0].mean() + args.penalty * size
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        shape.step()
        held.append((loss.detach(), size.detach()))
        if (step + 1) % 250 == 0:
            mean = torch.stack([torch.stack(h) for h in held]).mean(0).tolist()
            held = []
            print(
                f"step {step + 1} loss {mean[0]:.4f} f^2 {mean[1]:.3f} {time.time() - start:.0f} s",
                flush=True,
            )


@torch.no_grad()
def collect(
    model: ResidualReranker, data: Store, rows: np.ndarray, found: np.ndarray, vectors: tuple[Tensor, Tensor]
) -> Arrays:
    """For `rows`: candidates, relevance, prior, share, features and f, each [rows, depth]."""
    device = vectors[0].device
    cand = found[rows]
    flat_q = torch.tensor(np.repeat(rows, cand.shape[1])).to(device)
    flat_p = torch.tensor(np.maximum(cand, 0).reshape(-1)).to(device)
    order = torch.argsort(data.query_length[flat_q] + data.passage_length[flat_p], descending=True)
    out = torch.zeros(len(order), 7, device=device)
    out[:, 0] = (vectors[0][flat_q] * vectors[1][flat_p]).sum(1)
    for start in range(0, len(order), 2048):
        part = order[start : start + 2048]
        with torch.autocast(device.type, dtype=torch.float16, enabled=device.type == "cuda"):
            share, features, neural = evidence(model, data, flat_q[part], flat_p[part])
        out[part, 1] = share
        out[part, 2:5] = features
        out[part, 5] = neural
    values = out.cpu().numpy().reshape(*cand.shape, 7)
    values[cand < 0] = -9.0
    right = np.stack([np.isin(c, data.relevant[q]) for c, q in zip(cand, rows, strict=True)])
    total = np.array([len(data.relevant[q]) for q in rows])
    kinds = np.array([data.kinds[k] for k in data.kind[rows]])
    return {"cand": cand, "values": values, "right": right, "total": total, "kind": kinds, "rows": rows}


def add_bm25(found: Arrays, data: Store, arrays: Arrays) -> None:
    """Adds BM25's scores of the candidates (column 6) and nDCG@10 of BM25 on its own."""
    stem, idf = arrays["table.stem"].astype(np.int64), arrays["table.idf"]
    tokens, length = data.passages.cpu().numpy(), data.passage_length.cpu().numpy()
    queries, size = data.queries.cpu().numpy(), data.query_length.cpu().numpy()
    found["bm25"] = np.zeros(len(found["rows"]))
    for _, questions, filled in data.home:
        index = Bm25(tokens[filled], length[filled], stem, idf)
        at = np.zeros(len(tokens), dtype=np.int64)
        at[filled] = np.arange(len(filled))
        for place in np.flatnonzero(np.isin(found["rows"], questions)):
            q = found["rows"][place]
            score = index.scores(queries[q, : size[q]])
            cand = found["cand"][place]
            found["values"][place, :, 6] = np.where(cand >= 0, score[at[cand]], -1.0)
            best = filled[np.argsort(-score, kind="stable")[:10]]
            right = np.isin(best, data.relevant[q])[None]
            ranks = -np.arange(len(best), dtype=float)[None]
            found["bm25"][place] = ndcg(right, found["total"][place : place + 1], ranks)[0]


def evaluation_rows(data: Store, limit: int, seed: int) -> np.ndarray:
    """Up to `limit` queries of each kind, all of the SQuAD questions."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, kind in enumerate(data.kinds):
        here = np.flatnonzero(data.kind == number)
        rows.append(here if kind == "squad_question" else np.sort(rng.permutation(here)[:limit]))
    return np.concatenate(rows)


def vectors_of(encoder: PairEncoder, data: Store) -> tuple[Tensor, Tensor]:
    """Unit vectors of the queries and of the passages."""
    with torch.autocast(data.queries.device.type, torch.float16, data.queries.is_cuda):
        return (
            embed(encoder, data.queries, data.query_length),
            embed(encoder, data.passages, data.passage_length),
        )


def load_arrays(args: argparse.Namespace) -> Arrays:
    """The prepared token arrays, read or built."""
    if args.prepared:
        with np.load(args.prepared) as file:
            return {name: file[name] for name in file.files}
    tokenizer = Tokenizer.from_file(str(args.base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    arrays = prepare(build(args.data, args.seed, args.scale), tokenizer)
    arrays |= {f"table.{name}": a for name, a in table(args.data, tokenizer).items()}
    return arrays


def set_centre(model: ResidualReranker, found: Arrays) -> None:
    """Centres the term features on their mean over the first 50 candidates."""
    mean = found["values"][:, :50, 2:5].reshape(-1, 3).mean(0)
    model.interaction.centre.copy_(torch.tensor(mean))


def save(model: ResidualReranker, args: argparse.Namespace, metrics: dict[str, object]) -> None:
    """Writes adapter.safetensors, adapter_config.json and metrics.json."""
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(trained_state(model), args.out / "adapter.safetensors")
    config = json.dumps(adapter_config(model.settings, args.base), indent=2)
    (args.out / "adapter_config.json").write_text(config + "\n", encoding="utf-8")
    text = json.dumps(metrics, indent=2)
    (args.out / "metrics.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Builds or reads the data, trains, evaluates, writes."""
    args = arguments()
    arrays = load_arrays(args)
    if args.prepare:
        np.savez(args.prepare, **arrays)
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    settings = ResidualSettings(
        rank=args.rank, alpha=float(args.rank), apart=args.apart, bound=args.bound, strength=args.strength
    )
    model = new_model(args.base, settings, arrays).to(device)
    shape = read_shape(args.base)
    embedder = PairEncoder(shape, shape.num_hidden_layers).requires_grad_(False)
    load_encoder(embedder, load_file(args.base / "model.safetensors"))
    embedder.to(device)
    names = {str(a[0]) for k, a in arrays.items() if k.endswith(".name")} - set(args.hold)
    data = store(arrays, "train", device, names)
    vectors = vectors_of(embedder, data)
    centre_rows = evaluation_rows(data, 50, args.seed)
    found = candidates(data, *vectors, centre_rows, 50)
    set_centre(model, collect(model, data, centre_rows, found, vectors))
    train(model, data, args, vectors)
    held = store(arrays, "eval", device)
    vectors = vectors_of(embedder, held)
    rows = evaluation_rows(held, args.eval_queries, args.seed)
    found = candidates(held, *vectors, rows, args.depth)
    result = collect(model, held, rows, found, vectors)
    add_bm25(result, held, arrays)
    save(model, args, evaluate(model, result, args))


def evaluate(model: ResidualReranker, result: Arrays, args: argparse.Namespace) -> dict[str, object]:
    """Prints and returns nDCG@10 of the parts and of the whole at depths 20, 50 and 100."""
    centre = model.interaction.centre.cpu().numpy()
    whole = combined(TERM_WEIGHTS, centre, args.strength)
    methods = {
        "embedding": combined((0, 0, 0), centre, 0.0),
        "hybrid": hybrid,
        "words": combined((0.2, 0.1, 0), centre, 0.0),
        "terms": combined(TERM_WEIGHTS, centre, 0.0),
        "neural": combined((0, 0, 0), centre, 1.0),
        "undamped": combined(TERM_WEIGHTS, centre, 1.0),
        "reranker": whole,
    }
    metrics: dict[str, object] = {"strength": args.strength, "held": args.hold}
    for depth in (20, 50, 100):
        metrics[f"depth {depth}"] = table_of = figures(result, methods, depth)
        print(f"depth {depth}\n{show(table_of)}", flush=True)
    return metrics


if __name__ == "__main__":
    main()
