"""Counts the word-piece table of the lexical part: weights (IDF) and stem classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import snowballstemmer
from data import read_jsonl
from tokenizers import Tokenizer

STOP_TEXT = """a about above after again all also am an and any are as at be because been before being below
between both but by can could did do does doing down during each few for from further had has
have having he her here hers him his how i if in into is it its itself just let me more most my
no nor not now of off on once only or other our out over own s same she should so some such t
than that the their them then there these they this those through to too under until up upon us
very was we were what when where which while who whom whose why will with would you your yours
m re ve ll d name called many much say said according used use first one two may might must
shall per via"""
STOP = frozenset(STOP_TEXT.split())


def paragraphs(data: Path) -> Iterator[str]:
    """Yields the paragraphs of Wikipedia and Wikinews of at least 15 words."""
    for name in ("wikipedia", "wikinews"):
        for row in read_jsonl(data / "text" / f"{name}.jsonl.xz"):
            for line in row["text"].split("\n"):
                if line.count(" ") >= 15:
                    yield line[:1500]


def frequencies(data: Path, tokenizer: Tokenizer, every: int = 3) -> tuple[np.ndarray, int]:
    """In how many paragraphs each word piece occurs, over one paragraph in `every`; and the count."""
    df = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    batch: list[str] = []
    total = 0

    def flush() -> None:
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            df[list(set(encoding.ids))] += 1
        batch.clear()

    for number, text in enumerate(paragraphs(data)):
        if number % every == 0:
            batch.append(text)
            total += 1
        if len(batch) == 4000:
            flush()
    flush()
    return df, total


def stems(vocabulary: dict[str, int], df: np.ndarray) -> np.ndarray:
    """For every piece the id of the commonest piece with the same Porter2 stem, int32 [V]."""
    stemmer = snowballstemmer.stemmer("english")
    best: dict[str, int] = {}
    table = np.arange(len(vocabulary), dtype=np.int32)
    words = {w: i for w, i in vocabulary.items() if w.isascii() and w.isalpha() and len(w) > 3}
    for word, i in words.items():
        stem = stemmer.stemWord(word)
        if stem not in best or df[i] > df[best[stem]]:
            best[stem] = i
    for word, i in words.items():
        table[i] = best[stemmer.stemWord(word)]
    return table


def table(data: Path, tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """The three tensors of the lexical part: idf float32 [V], stem int32 [V], inner uint8 [V]."""
    vocabulary = tokenizer.get_vocab()
    df, total = frequencies(data, tokenizer)
    classes = stems(vocabulary, df)
    joint = np.zeros_like(df)
    np.maximum.at(joint, classes, df)
    shared = joint[classes]
    idf = np.log(1 + (total - shared + 0.5) / (shared + 0.5)).astype(np.float32)
    inner = np.zeros(len(vocabulary), dtype=np.uint8)
    for piece, i in vocabulary.items():
        inner[i] = piece.startswith("##")
        body = piece.removeprefix("##")
        if piece in STOP or not any(c.isalnum() for c in body) or piece.startswith("["):
            idf[i] = 0.0
    return {"idf": np.minimum(idf, 9.0), "stem": classes, "inner": inner}
