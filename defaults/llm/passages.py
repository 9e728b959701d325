"""Chooses paragraphs of Wikipedia and Wikinews that questions are made about.

    python passages.py --data DATA --out FILE [--most N]

Left out: articles of qa/'s dev split by title, and paragraphs that share 13 words in a row with its passages.
Each paragraph names those nearest to it by words, by their line from 0 on: passages that a search would bring too.
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from grounded import read_rows

CHARACTERS = (350, 1100)
GRAM = 13
# Hashed words, directions they are projected to, and neighbours kept.
BUCKETS, WIDTH, NEAR = 4096, 384, 12
_WORD = re.compile(r"[^\W_]+")


def paragraphs(text: str) -> Iterator[str]:
    """Lines joined until they are long enough; what is longer is left out."""
    joined = ""
    for line in text.split("\n"):
        # Headings end in a period in this text, and are short.
        if len(line) < 40:
            if CHARACTERS[0] <= len(joined):
                yield joined
            joined = ""
            continue
        longer = f"{joined} {line}".strip()
        if len(longer) > CHARACTERS[1]:
            if CHARACTERS[0] <= len(joined):
                yield joined
            joined = line if len(line) <= CHARACTERS[1] else ""
        else:
            joined = longer
    if CHARACTERS[0] <= len(joined):
        yield joined


def grams(text: str) -> Iterator[int]:
    """Hashes of all runs of 13 words."""
    words = _WORD.findall(text.lower())
    for start in range(len(words) - GRAM + 1):
        yield hash(tuple(words[start : start + GRAM]))


def nearest(found: list[tuple[str, str]]) -> list[list[int]]:
    """Of each paragraph, the numbers of those nearest by tf-idf of words (the title counts twice)."""
    counts = np.zeros((len(found), BUCKETS), np.float32)
    for row, (title, text) in enumerate(found):
        for word in _WORD.findall(f"{title} {title} {text}".lower()):
            if len(word) > 2:
                counts[row, zlib.crc32(word.encode()) % BUCKETS] += 1
    rarity = np.log((len(found) + 1) / ((counts > 0).sum(0) + 1)).astype(np.float32)
    np.log1p(counts, out=counts)
    counts *= rarity
    vectors = counts @ np.random.default_rng(1).standard_normal((BUCKETS, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
    near: list[list[int]] = []
    for start in range(0, len(found), 1000):
        scores = vectors[start : start + 1000] @ vectors.T
        for row, best in enumerate(np.argpartition(-scores, NEAR, axis=1)[:, : NEAR + 1].tolist()):
            near.append([one for one in best if one != start + row][:NEAR])
    return near


def main() -> None:
    """Write {title, text, near} a line: a few paragraphs of each article."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=60_000)
    given = parser.parse_args()
    rng = random.Random(16)
    dev = read_rows(given.data / "qa" / "squad_grounded_dev.jsonl")
    titles = {row.title.lower() for row in dev}
    forbidden = {gram for context in {row.context for row in dev} for gram in grams(context)}
    found: list[tuple[str, str]] = []
    for source, each in (("wikipedia", 3), ("wikinews", 2)):
        with lzma.open(given.data / "text" / f"{source}.jsonl.xz", "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                if row["title"].lower() in titles:
                    continue
                good = [one for one in paragraphs(row["text"]) if forbidden.isdisjoint(grams(one))]
                found += [(row["title"], one) for one in rng.sample(good, min(each, len(good)))]
    rng.shuffle(found)
    chosen = found[: given.most]
    with given.out.open("w", encoding="utf-8") as out:
        for (title, text), near in zip(chosen, nearest(chosen), strict=True):
            out.write(json.dumps({"title": title, "text": text, "near": near}, ensure_ascii=False) + "\n")
    print(f"{len(chosen)} of {len(found)} paragraphs")


if __name__ == "__main__":
    main()
