"""Texts and labels to token arrays: python prepare.py --data DATA --base MINILM --out pairs.npz

Needs spaCy with an English pipeline, torch and tokenizers; docs of data.py say what DATA holds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from data import Pair, build
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
LONGEST = 60


def judged(path: Path) -> list[Pair]:
    """The pairs labelled by hand, for evaluation only."""
    pairs, name = [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("= "):
            name = "judged_" + line[2:].split()[0]
        elif line[:2] in ("0 ", "1 "):
            label, a, b = (part.strip() for part in line.split(" | "))
            pairs.append(Pair(a, b, int(label), f"{name}.pair", "eval"))
    return pairs


def pack(pairs: list[Pair], tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """Arrays: token ids of every distinct text, and a, b, label, kind and split (1: eval) of the pairs that fit."""
    texts = list(dict.fromkeys(t for p in pairs for t in (p.a, p.b)))
    rows = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    place = {text: i for i, text in enumerate(texts)}
    kept = [p for p in pairs if all(0 < len(rows[place[t]]) <= LONGEST for t in (p.a, p.b))]
    used = sorted({place[t] for p in kept for t in (p.a, p.b)})
    new = {old: i for i, old in enumerate(used)}
    kinds = sorted({p.kind for p in kept})
    number = {kind: i for i, kind in enumerate(kinds)}
    return {
        "ids": np.concatenate([np.array(rows[i], np.uint16) for i in used]),
        "ends": np.cumsum([0] + [len(rows[i]) for i in used]).astype(np.int32),
        "a": np.array([new[place[p.a]] for p in kept], np.int32),
        "b": np.array([new[place[p.b]] for p in kept], np.int32),
        "label": np.array([p.label for p in kept], np.uint8),
        "kind": np.array([number[p.kind] for p in kept], np.uint8),
        "split": np.array([p.split == "eval" for p in kept], np.uint8),
        "kinds": np.array(kinds),
    }


def embedder(base: Path) -> Any:
    """texts -> unit vectors of all-MiniLM-L6-v2, float32 [texts, 384]."""
    import torch
    from transformers import AutoModel

    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.enable_truncation(64)
    tokenizer.no_padding()
    model = AutoModel.from_pretrained(str(base)).eval()

    def embed(texts: list[str]) -> np.ndarray:
        encoded = [e.ids for e in tokenizer.encode_batch(texts)]
        out = np.zeros((len(texts), model.config.hidden_size), np.float32)
        for rows in np.array_split(np.argsort([len(e) for e in encoded]), max(1, len(texts) // 128)):
            ids = torch.zeros(len(rows), max(len(encoded[i]) for i in rows), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for n, i in enumerate(rows):
                ids[n, : len(encoded[i])] = torch.tensor(encoded[i])
                mask[n, : len(encoded[i])] = 1
            with torch.inference_mode():
                hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            mean = (hidden * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)
            out[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return out

    return embed


def main() -> None:
    """Builds the pairs and writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pipeline", default="en_core_web_sm", help="spaCy's name of the English pipeline")
    given = parser.parse_args()
    import spacy

    pairs = build(given.data, HERE, spacy.load(given.pipeline), embedder(given.base))
    tokenizer = Tokenizer.from_file(str(given.base / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    np.savez_compressed(given.out, **pack(pairs + judged(HERE / "judged.txt"), tokenizer))


if __name__ == "__main__":
    main()
