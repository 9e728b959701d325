"""Token stores, pairs and the frozen embedder: what training and evaluation both need."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from data import Domain
from tokenizers import Tokenizer
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
from trireme.export.residual import PairEncoder

CLS, SEP = 101, 102
PASSAGE, QUERY, PAIR = 253, 200, 256
Arrays = dict[str, np.ndarray]


@dataclass
class Store:
    """All passages and queries of one split, padded on the device, with relevance lists."""

    passages: Tensor
    passage_length: Tensor
    queries: Tensor
    query_length: Tensor
    relevant: list[np.ndarray]
    kind: np.ndarray
    kinds: list[str]
    home: list[tuple[str, np.ndarray, np.ndarray]]


def encode(tokenizer: Tokenizer, texts: list[str], limit: int) -> Arrays:
    """Token ids without special tokens, flat, with offsets."""
    rows: list[np.ndarray] = []
    for start in range(0, len(texts), 5000):
        batch = tokenizer.encode_batch(texts[start : start + 5000], add_special_tokens=False)
        rows += [np.array(e.ids[:limit], dtype=np.uint16) for e in batch]
    ends = np.cumsum([0] + [len(r) for r in rows]).astype(np.int32)
    return {"ids": np.concatenate([*rows, np.zeros(0, np.uint16)]), "ends": ends}


def prepare(domains: list[Domain], tokenizer: Tokenizer) -> Arrays:
    """Everything the stores need, as plain arrays that fit one .npz file."""
    out: Arrays = {}
    for number, domain in enumerate(domains):
        kinds = sorted({q.kind for q in domain.queries})
        parts = {
            "p": encode(tokenizer, domain.passages, PASSAGE),
            "q": encode(tokenizer, [q.text for q in domain.queries], QUERY),
        }
        for letter, arrays in parts.items():
            out |= {f"{number}.{letter}.{name}": a for name, a in arrays.items()}
        relevant = [q.relevant for q in domain.queries]
        out[f"{number}.r.ids"] = np.array([x for r in relevant for x in r], dtype=np.int32)
        out[f"{number}.r.ends"] = np.cumsum([0] + [len(r) for r in relevant]).astype(np.int32)
        out[f"{number}.kind"] = np.array([kinds.index(q.kind) for q in domain.queries], np.uint8)
        out[f"{number}.name"] = np.array([domain.name, domain.split, *kinds])
    return out


def padded(ids: np.ndarray, ends: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat ids to int32 [N, width] and lengths [N]."""
    length = np.minimum(ends[1:] - ends[:-1], width)
    out = np.zeros((len(length), width), dtype=np.int32)
    for row, (start, n) in enumerate(zip(ends[:-1], length, strict=True)):
        out[row, :n] = ids[start : start + n]
    return out, length


def store(arrays: Arrays, split: str, device: str, names: set[str] | None = None) -> Store:
    """One Store of the domains of a split (all, or those named)."""
    tokens: dict[str, list[np.ndarray]] = {"p": [], "q": [], "pn": [], "qn": [], "kind": []}
    relevant: list[np.ndarray] = []
    kinds: list[str] = []
    home: list[tuple[str, np.ndarray, np.ndarray]] = []
    base = 0
    for number in range(sum(k.endswith(".name") for k in arrays)):
        name, part, *here = [str(x) for x in arrays[f"{number}.name"]]
        if part != split or (names is not None and name not in names):
            continue
        for letter, width in (("p", PASSAGE), ("q", QUERY)):
            ids, ends = arrays[f"{number}.{letter}.ids"], arrays[f"{number}.{letter}.ends"]
            rows, length = padded(ids, ends, width)
            tokens[letter].append(rows)
            tokens[letter + "n"].append(length)
        ends = arrays[f"{number}.r.ends"]
        flat = arrays[f"{number}.r.ids"] + base
        first = len(relevant)
        relevant += [flat[a:b] for a, b in pairwise(ends)]
        tokens["kind"].append(arrays[f"{number}.kind"] + len(kinds))
        kinds += here
        filled = np.flatnonzero(tokens["pn"][-1] > 0) + base
        home.append((name, np.arange(first, len(relevant)), filled))
        base += len(tokens["pn"][-1])
    moved = {k: torch.tensor(np.concatenate(v)).to(device) for k, v in tokens.items() if k != "kind"}
    kind = np.concatenate(tokens["kind"])
    return Store(moved["p"], moved["pn"], moved["q"], moved["qn"], relevant, kind, kinds, home)


def pairs(data: Store, query: Tensor, passage: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Indices [B] x2 -> input ids, attention mask and token types, int64 [B, L], L <= 256."""
    n = data.query_length[query].unsqueeze(1)
    m = torch.minimum(data.passage_length[passage].unsqueeze(1), PAIR - 3 - n)
    width = int((n + m).max()) + 3
    place = torch.arange(width, device=n.device).unsqueeze(0)
    q = torch.gather(data.queries[query], 1, (place - 1).clamp(0, QUERY - 1).expand(len(n), -1))
    at = (place - n - 2).clamp(0, PASSAGE - 1)
    p = torch.gather(data.passages[passage], 1, at)
    ids = torch.where(place <= n, q, p)
    ids = torch.where((place == n + 1) | (place == n + m + 2), SEP, ids)
    ids = torch.where(place == 0, CLS, ids)
    mask = (place <= n + m + 2).long()
    types = ((place >= n + 2) & (place <= n + m + 2)).long()
    return ids.long() * mask, mask, types


@torch.inference_mode()
def embed(encoder: PairEncoder, tokens: Tensor, length: Tensor, batch: int = 1024) -> Tensor:
    """The embedder's unit vectors [N, H]: mean over all tokens of a text with [CLS] and [SEP].

    `encoder` keeps the parts apart in all its layers.
    """
    out = torch.zeros(len(tokens), encoder.norm.weight.shape[0], device=tokens.device)
    order = torch.argsort(length, descending=True)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        n = length[rows].unsqueeze(1)
        place = torch.arange(int(n.max()) + 2, device=tokens.device).unsqueeze(0)
        at = (place - 1).clamp(0, tokens.shape[1] - 1).expand(len(rows), -1)
        ids = torch.gather(tokens[rows], 1, at).long()
        ids = torch.where(place == n + 1, SEP, torch.where(place == 0, CLS, ids))
        mask = (place <= n + 1).long()
        hidden = encoder.separate(ids * mask, mask, torch.zeros_like(mask)).float()
        mean = (hidden * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)
        out[rows] = torch.nn.functional.normalize(mean, dim=1)
    return out


def candidates(data: Store, q: Tensor, p: Tensor, rows: np.ndarray, depth: int) -> np.ndarray:
    """The nearest `depth` passages of each query's own domain, best first, -1 where none."""
    out = np.full((len(data.relevant), depth), -1, dtype=np.int64)
    wanted = np.zeros(len(data.relevant), dtype=bool)
    wanted[rows] = True
    for _, questions, filled in data.home:
        mine = questions[wanted[questions]]
        where = torch.tensor(filled, device=q.device)
        for start in range(0, len(mine), 4096):
            part = mine[start : start + 4096]
            sims = q[torch.tensor(part, device=q.device)] @ p[where].T
            best = sims.topk(min(depth, len(filled)), dim=1).indices.cpu().numpy()
            out[part, : best.shape[1]] = filled[best]
    return out
