"""Trains and evaluates the equivalence head: whether the answer of one question serves another.

    python prepare.py --data DATA --base MINILM --out pairs.npz     # texts and labels to token arrays
    python train.py --pairs pairs.npz --base MINILM --out OUT
    python train.py --pairs pairs.npz --base MINILM --out OUT --hold medquad news     # leave sources out
    python train.py --pairs pairs.npz --base MINILM --out OUT --hold-rules voice opposite

MINILM is a folder with all-MiniLM-L6-v2 (config.json, model.safetensors). Needs torch, safetensors and numpy.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from report import figures, show
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
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

CLS, SEP = 101, 102
# Pairs per source in a batch, of the same meaning and of another.
MIX = {
    "squad": (9, 14),
    "intent": (10, 15),
    "medquad": (3, 3),
    "manual": (7, 8),
    "wiki": (6, 9),
    "news": (7, 10),
    "written": (6, 9),
}
# Kinds that count for more than the root of their size.
BOOST = {"manual.paraphrase": 5.0, "squad.unanswerable": 2.0, "news.mined_other": 1.5}
# Batches drawn at once, sorted by length and cut, so that little is padded.
BUCKETS = 16
# The score at which both answers are as likely, and the logits of one unit of score.
MIDDLE, SLOPE = 0.5, 12.0
Arrays = dict[str, np.ndarray]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--tables", type=Path, help="adapter.safetensors with piece weights and stem classes")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hold", nargs="*", default=[], help="sources to leave out of training")
    parser.add_argument("--hold-rules", nargs="*", default=[], help="rules to leave out of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=384)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--apart", type=int, default=0)
    parser.add_argument("--rank", type=int, default=20)
    parser.add_argument("--tail", type=float, default=0.5, help="weight of the loss on the hardest negatives")
    parser.add_argument("--eval-pairs", type=int, default=6000, help="per set")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="time for the whole schedule, where that ends first"
    )
    return parser.parse_args()


def new_model(base: Path, settings: ResidualSettings, tables: Path | None) -> ResidualReranker:
    """The untrained model: base weights; its score is the prior."""
    model = ResidualReranker(read_shape(base), settings)
    load_encoder(model.encoder, load_file(base / "model.safetensors"))
    model.requires_grad_(False)
    attach_low_rank(model)
    if tables is not None:
        stored = load_file(tables)
        for name in ("idf", "stem", "inner"):
            buffer = getattr(model.interaction, name)
            buffer.copy_(stored[f"interaction.{name}"].to(buffer.dtype))
    weight = model.interaction.weight
    del model.interaction._buffers["weight"]
    model.interaction.weight = nn.Parameter(torch.zeros_like(weight), requires_grad=tables is not None)
    model.side.requires_grad_(True)
    model.head.requires_grad_(True)
    return model


class Texts:
    """All texts as token rows on the device, with [CLS] and [SEP] to add."""

    def __init__(self, arrays: Arrays, device: str) -> None:
        ends, ids = arrays["ends"], arrays["ids"].astype(np.int64)
        self.length = torch.tensor(np.diff(ends), device=device)
        self.start = torch.tensor(ends[:-1].astype(np.int64), device=device)
        self.ids = torch.tensor(ids, device=device)

    def rows(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Padded ids [B, L] without special tokens, and lengths [B]."""
        n = self.length[texts]
        place = torch.arange(int(n.max()), device=n.device).unsqueeze(0)
        at = (self.start[texts].unsqueeze(1) + place).clamp(max=len(self.ids) - 1)
        return self.ids[at] * (place < n.unsqueeze(1)), n

    def pairs(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ids, mask and types [B, L] of [CLS] a [SEP] b [SEP]."""
        first, n = self.rows(a)
        second, m = self.rows(b)
        n, m = n.unsqueeze(1), m.unsqueeze(1)
        place = torch.arange(int((n + m).max()) + 3, device=n.device).unsqueeze(0)
        p = torch.gather(first, 1, (place - 1).clamp(0, first.shape[1] - 1).expand(len(a), -1))
        q = torch.gather(second, 1, (place - n - 2).clamp(0, second.shape[1] - 1))
        ids = torch.where(place <= n, p, q)
        ids = torch.where((place == n + 1) | (place == n + m + 2), SEP, ids)
        ids = torch.where(place == 0, CLS, ids)
        mask = (place <= n + m + 2).long()
        return ids * mask, mask, (place >= n + 2).long() * mask


@torch.inference_mode()
def embed(base: Path, texts: Texts, device: str) -> Tensor:
    """The frozen embedder's unit vectors of all texts, [N, H]."""
    shape = read_shape(base)
    encoder = PairEncoder(shape, shape.num_hidden_layers)
    load_encoder(encoder, load_file(base / "model.safetensors"))
    encoder.to(device).eval()
    out = torch.zeros(len(texts.length), shape.hidden_size, device=device)
    for rows in torch.argsort(texts.length, descending=True).split(2048):
        inner, n = texts.rows(rows)
        n = n.unsqueeze(1)
        place = torch.arange(int(n.max()) + 2, device=device).unsqueeze(0)
        ids = torch.gather(inner, 1, (place - 1).clamp(0, inner.shape[1] - 1).expand(len(rows), -1))
        ids = torch.where(place == n + 1, SEP, torch.where(place == 0, CLS, ids))
        mask = (place <= n + 1).long()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            hidden = encoder.separate(ids * mask, mask, torch.zeros_like(mask)).float()
        mean = (hidden * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)
        out[rows] = functional.normalize(mean, dim=1)
    return out


class Sampler:
    """Draws batches: sources and labels by MIX, kinds by the root of their size, pairs evenly."""

    def __init__(self, arrays: Arrays, given: argparse.Namespace) -> None:
        self.rng = np.random.default_rng(given.seed)
        names = [str(k) for k in arrays["kinds"]]
        self.rows: list[np.ndarray] = []
        chance: list[float] = []
        for label in (0, 1):
            for source, shares in MIX.items():
                if source in given.hold:
                    continue
                kinds, weights = [], []
                for number, name in enumerate(names):
                    if name.split(".")[0] != source or name.split(".")[1] in given.hold_rules:
                        continue
                    keep = (arrays["kind"] == number) & (arrays["label"] == label) & (arrays["split"] == 0)
                    if keep.any():
                        kinds.append(np.flatnonzero(keep))
                        weights.append(BOOST.get(name, 1.0) * math.sqrt(keep.sum()))
                if not kinds:
                    continue
                weight = np.array(weights)
                self.rows += kinds
                chance += list(shares[1 - label] * weight / weight.sum())
        self.chance = np.array(chance) / sum(chance)
        self.size = np.array([len(r) for r in self.rows])
        self.first = np.cumsum(self.size) - self.size
        self.flat = np.concatenate(self.rows)

    def batches(self, count: int, length: np.ndarray) -> list[np.ndarray]:
        """BUCKETS batches of rows [count], each of pairs of like length."""
        rows = self.draw(BUCKETS * count)
        parts = np.split(rows[np.argsort(length[rows], kind="stable")], BUCKETS)
        return [parts[i] for i in self.rng.permutation(BUCKETS)]

    def draw(self, count: int) -> np.ndarray:
        """Rows of pairs [count]."""
        kinds = self.rng.choice(len(self.rows), count, p=self.chance)
        return self.flat[self.first[kinds] + (self.rng.random(count) * self.size[kinds]).astype(np.int64)]


def scores(model: ResidualReranker, texts: Texts, vectors: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The score of each pair, [B]: the cosine and what the model adds to it."""
    ids, mask, types = texts.pairs(a, b)
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.device.type == "cuda"):
        added: Tensor = model(ids, mask, types)
    return (vectors[a] * vectors[b]).sum(1) + added.float()


def loss_of(score: Tensor, label: Tensor, tail: float) -> Tensor:
    """Cross-entropy, and a pairwise loss of the pairs of one meaning against the hardest tenth of the others."""
    logit = SLOPE * (score - MIDDLE)
    entropy = functional.binary_cross_entropy_with_logits(logit, label)
    wrong = logit[label < 0.5]
    if len(wrong) in (0, len(logit)):
        return entropy
    hardest = wrong.topk(max(1, len(wrong) // 10)).values
    apart = functional.softplus(hardest.unsqueeze(0) - logit[label > 0.5].unsqueeze(1)).mean()
    return entropy + tail * apart


def train(
    model: ResidualReranker, arrays: Arrays, texts: Texts, vectors: Tensor, given: argparse.Namespace
) -> None:
    """AdamW, short warm-up, cosine; either order of a pair; the mean of the last weights is kept."""
    device = vectors.device
    sampler = Sampler(arrays, given)
    a, b = (torch.tensor(arrays[k].astype(np.int64), device=device) for k in "ab")
    label = torch.tensor(arrays["label"].astype(np.float32), device=device)
    weights = [p for p in model.parameters() if p.requires_grad]
    own = {id(p) for p in (model.interaction.weight, model.head.weight, model.head.bias)}
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in weights if id(p) not in own], "weight_decay": 0.01},
            {"params": [p for p in weights if id(p) in own], "weight_decay": 0.0},
        ],
        lr=given.rate,
    )
    width = np.diff(arrays["ends"])
    length = width[arrays["a"]] + width[arrays["b"]]
    begin = time.time()
    mean: list[Tensor] = []
    waiting: list[np.ndarray] = []
    kept, step, done = 0, 0, 0.0
    while done < 1.0:
        waiting = waiting or sampler.batches(given.batch, length)
        done = max((step + 1) / given.steps, (time.time() - begin) / given.seconds)
        share = min(1.0, step / 100) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        for group in optimizer.param_groups:
            group["lr"] = given.rate * share
        rows = torch.tensor(waiting.pop(), device=device)
        turn = torch.rand(len(rows), device=device) < 0.5
        left, right = torch.where(turn, b[rows], a[rows]), torch.where(turn, a[rows], b[rows])
        loss = loss_of(scores(model, texts, vectors, left, right), label[rows], given.tail)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        step += 1
        if done > 0.8 and step % 20 == 0:
            now = [p.detach().float().clone() for p in weights]
            mean = [m + p for m, p in zip(mean, now, strict=True)] if mean else now
            kept += 1
        if step % 250 == 0:
            print(
                f"{given.out.name} step {step} loss {float(loss.detach()):.4f} {time.time() - begin:.0f} s",
                flush=True,
            )
    with torch.no_grad():
        for p, total in zip(weights, mean, strict=False):
            p.copy_(total / kept)


@torch.inference_mode()
def evaluate(
    model: ResidualReranker, arrays: Arrays, texts: Texts, vectors: Tensor, given: argparse.Namespace
) -> Arrays:
    """Score and cosine of the held-out pairs that are reported, with their rows."""
    rng = np.random.default_rng(1)
    rows: list[np.ndarray] = []
    for number in range(len(arrays["kinds"])):
        found = np.flatnonzero((arrays["kind"] == number) & (arrays["split"] > 0))
        rows.append(rng.permutation(found)[: given.eval_pairs])
    row = np.concatenate(rows)
    a, b = (torch.tensor(arrays[k][row].astype(np.int64), device=vectors.device) for k in "ab")
    order = torch.argsort(texts.length[a] + texts.length[b])
    made, other = torch.zeros(len(row)), torch.zeros(len(row))
    for part in order.split(1024):
        made[part.cpu()] = scores(model, texts, vectors, a[part], b[part]).float().cpu()
        other[part.cpu()] = scores(model, texts, vectors, b[part], a[part]).float().cpu()
    cosine = (vectors[a] * vectors[b]).sum(1).cpu()
    return {"row": row, "score": made.numpy(), "turned": other.numpy(), "cosine": cosine.numpy()}


def main() -> None:
    """Trains, writes the adapter, and prints the held-out figures."""
    given = arguments()
    torch.manual_seed(given.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = True
    with np.load(given.pairs) as handle:
        arrays = dict(handle)
    texts = Texts(arrays, device)
    vectors = embed(given.base, texts, device)
    settings = ResidualSettings(
        rank=given.rank,
        alpha=float(given.rank),
        apart=given.apart,
        bound=1.5,
        long_query=512.0,
        short_passage=1.0,
    )
    model = new_model(given.base, settings, given.tables).to(device)
    train(model, arrays, texts, vectors, given)
    model.eval()
    found = evaluate(model, arrays, texts, vectors, given)
    given.out.mkdir(parents=True, exist_ok=True)
    state = {k: v.to(torch.float16) if k == "side" else v for k, v in trained_state(model).items()}
    save_file(state, given.out / "adapter.safetensors")
    config = adapter_config(settings, given.base)
    (given.out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    np.savez_compressed(
        given.out / "scores.npz", **{k: v.astype(np.float32) if k != "row" else v for k, v in found.items()}
    )
    print(given.out.name, "term weights", model.interaction.weight.detach().cpu().tolist())
    print(show(figures(arrays, found)), flush=True)


if __name__ == "__main__":
    main()
