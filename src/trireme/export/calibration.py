"""Texts on which static quantization sees how large activations become: short ones, paragraphs and long ones."""

from __future__ import annotations

import random
import re
from pathlib import Path

from trireme.errors import InvalidInputError, NotFoundError

ROWS = 160
SHORTEST = 24
QUERY_WORDS = 9
# Paragraphs that follow one another make a text near the longest that a model reads.
JOINED = 4
# A passage this many paragraphs away has little to do with the query.
FAR = 37
# First and last letter of scripts: rare tokens and long runs of single letters have the widest activations.
SCRIPTS = (
    ("а", "я"), ("α", "ω"), ("א", "ת"), ("ا", "ي"), ("अ", "ह"), ("অ", "হ"), ("ა", "ჰ"), ("ก", "ฮ"),
    ("가", "각"), ("ぁ", "ん"), ("ァ", "ヶ"), ("一", "七"), ("ა", "ჰ"), ("ա", "ֆ"), ("அ", "ஹ"), ("☀", "☿"),
)  # fmt: skip
SIGNS = ("!", "-", ".", ",", "#", "(", "0", "1", "e", "m", "it", "of", "...", "---", "%", "&&", "=", "@")
REPEATED = ("stone", "no", "very", "data", "0", "x", "。", "人", "!")
REPEATS = (3, 12, 60, 240)


def read_paragraphs(path: Path) -> list[str]:
    """The paragraphs of a text file, white space folded. Raises NotFoundError, InvalidInputError."""
    try:
        parts = re.split(r"\n\s*\n", path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(f"calibration text {path} does not exist; name one in the recipe") from None
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"calibration text {path} is not UTF-8: bad byte at {error.start}") from None
    paragraphs = [" ".join(part.split()) for part in parts]
    kept = [part for part in paragraphs if len(part) >= SHORTEST]
    if len(kept) < JOINED:
        raise InvalidInputError(f"calibration text {path} has {len(kept)} paragraphs, {JOINED} are needed")
    return kept


def make_texts(paragraphs: list[str], rows: int = ROWS) -> list[str]:
    """About `rows` texts, evenly spaced over the file: queries, paragraphs and runs of paragraphs in turn."""
    step = max(1, len(paragraphs) // rows)
    texts = []
    for turn, start in enumerate(range(0, len(paragraphs), step)):
        kinds = (
            _shorten(paragraphs[start]),
            paragraphs[start],
            " ".join(paragraphs[start : start + JOINED]),
        )
        texts.append(kinds[turn % len(kinds)])
    return texts[:rows]


def make_pairs(paragraphs: list[str], rows: int = ROWS) -> list[tuple[str, str]]:
    """About `rows` pairs of a query and a passage: every second passage is the one the query is from."""
    step = max(1, len(paragraphs) // rows)
    pairs = []
    for turn, start in enumerate(range(0, len(paragraphs), step)):
        passage = paragraphs[(start + FAR * (turn % 2)) % len(paragraphs)]
        pairs.append((_shorten(paragraphs[start]), passage))
    return pairs[:rows]


def make_odd_texts(seed: int = 1) -> list[str]:
    """Texts unlike prose: single signs, words said over and over, made-up words of many scripts, numbers."""
    rng = random.Random(seed)  # noqa: S311 - texts, no secrets
    words = [[_make_word(rng, *script) for _ in range(rng.choice((2, 8, 25)))] for script in SCRIPTS]
    repeated = [" ".join([word] * rng.choice(REPEATS)) for word in REPEATED]
    numbers = [" ".join(str(rng.randrange(10**digits)) for digits in range(1, 9)) for _ in range(4)]
    return [*SIGNS, *(" ".join(part) for part in words), *repeated, *numbers]


def _make_word(rng: random.Random, first: str, last: str) -> str:
    return "".join(chr(rng.randint(ord(first), ord(last))) for _ in range(rng.randint(2, 7)))


def _shorten(text: str) -> str:
    return " ".join(text.split()[:QUERY_WORDS])
