"""What a GPU run of encoders.py needs, in one small folder: texts, a checkpoint in fp16, and fp32 vectors.

The word embeddings of tokens that the texts do not use are set to zero, so that the folder packs small: every
vector of these texts stays as it is.
"""

import argparse
import hashlib
import json
import random
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from trireme.quality import read_beir

LENGTHS = {"short": (4, 16), "passages": (30, 256)}
REFERENCES = 256
SIDE_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
SENTENCE_FILES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
WORD_WEIGHT = "embeddings.word_embeddings.weight"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a folder of sentence-transformers")
    parser.add_argument("--data", type=Path, required=True, help="a BEIR folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--short", type=int, default=8192)
    parser.add_argument("--passages", type=int, default=4096)
    parser.add_argument("--vocabulary", type=int, default=4000, help="so many of the corpus' tokens are used")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(arguments.checkpoint / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    sentences = _frequent_sentences(arguments.data, arguments.vocabulary, tokenizer)
    rng = random.Random(arguments.seed)  # noqa: S311 - no secrets
    texts = {
        "short": _draw_short(list(sentences), arguments.short, tokenizer, rng),
        "passages": _draw_passages(sentences, arguments.passages, rng),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "texts.json").write_text(json.dumps({"seed": arguments.seed, "texts": texts}))
    _write_checkpoint(arguments.checkpoint, arguments.out / "checkpoint", texts, tokenizer)
    _write_references(arguments.checkpoint, arguments.out / "references.npz", texts)


def _frequent_sentences(data: Path, vocabulary: int, tokenizer: Any) -> dict[str, int]:
    """Sentences of the corpus of a BEIR folder that use its most frequent tokens alone, with their tokens."""
    passages = read_beir(data).corpus.values()
    sentences = list(dict.fromkeys(part for text in passages for part in re.split(r"(?<=[.!?])\s+", text)))
    encoded = [e.ids for e in tokenizer.encode_batch(sentences, add_special_tokens=False)]
    frequent = {i for i, _ in Counter(i for ids in encoded for i in ids).most_common(vocabulary)}
    return {
        s: len(ids) for s, ids in zip(sentences, encoded, strict=True) if ids and frequent.issuperset(ids)
    }


def _draw_short(sentences: list[str], count: int, tokenizer: Any, rng: random.Random) -> list[str]:
    """Runs of a sentence's words, as long as a query, none twice."""
    drawn: dict[str, None] = {}
    least, most = LENGTHS["short"]
    while len(drawn) < count:
        words = rng.choice(sentences).split()
        size = rng.randint(2, 12)
        start = rng.randint(0, max(0, len(words) - size))
        text = " ".join(words[start : start + size])
        if least <= len(tokenizer.encode(text).ids) <= most:
            drawn[text] = None
    return list(drawn)[:count]


def _draw_passages(sentences: dict[str, int], count: int, rng: random.Random) -> list[str]:
    """Sentences one behind the other up to a length drawn evenly, none of the passages twice."""
    pool, drawn = list(sentences), set()
    least, most = LENGTHS["passages"]
    while len(drawn) < count:
        wanted, size, parts = rng.randint(least, most), 2, []
        while size < wanted:
            parts.append(rng.choice(pool))
            size += sentences[parts[-1]]
        if size <= most:
            drawn.add(" ".join(parts))
    return sorted(drawn, key=hash_text)


def hash_text(text: str) -> str:
    """An order that does not depend on how texts were drawn."""
    return hashlib.sha256(text.encode()).hexdigest()


def _write_checkpoint(source: Path, target: Path, texts: dict[str, list[str]], tokenizer: Any) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    (target / "1_Pooling").mkdir(parents=True, exist_ok=True)
    for name in (*SIDE_FILES, *SENTENCE_FILES, "1_Pooling/config.json"):
        if (source / name).is_file():
            shutil.copy(source / name, target / name)
    used = {i for part in texts.values() for encoded in tokenizer.encode_batch(part) for i in encoded.ids}
    weights = load_file(source / "model.safetensors")
    kept = torch.zeros(len(weights[WORD_WEIGHT]), 1)
    kept[sorted(used)] = 1.0
    weights[WORD_WEIGHT] = weights[WORD_WEIGHT] * kept
    half = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    save_file(half, target / "model.safetensors", {"format": "pt"})


def _write_references(source: Path, path: Path, texts: dict[str, list[str]]) -> None:
    """float32 vectors of the first texts of each workload, by the checkpoint as published, one text at a time."""
    import torch

    from trireme.export.checkpoint import read_checkpoint
    from trireme.export.graph import load_graph
    from trireme.export.measure import open_tokenizer

    checkpoint = read_checkpoint(source)
    graph = load_graph(checkpoint)
    tokenizer = open_tokenizer(source, checkpoint.max_length)
    vectors: dict[str, Any] = {}
    for name, part in texts.items():
        rows = []
        for text in part[:REFERENCES]:
            encoded = tokenizer.encode(text)
            feeds = {
                "input_ids": encoded.ids,
                "attention_mask": encoded.attention_mask,
                "token_type_ids": encoded.type_ids,
            }
            with torch.inference_mode():
                rows.append(
                    graph.module(*(torch.tensor([feeds[key]]) for key in graph.input_names))[0].numpy()
                )
        vectors[name] = np.stack(rows)
    np.savez(path, **vectors)


if __name__ == "__main__":
    main()
