"""Chooses paragraphs of Wikipedia and Wikinews that questions are made about.

    python passages.py --data DATA --out FILE [--most N]

Left out: articles of qa/'s dev split by title, and paragraphs that share 13 words in a row with its passages.
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
import re
from collections.abc import Iterator
from pathlib import Path

from grounded import read_rows

CHARACTERS = (350, 1100)
GRAM = 13
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


def main() -> None:
    """Write {title, text} a line: a few paragraphs of each article."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=36_000)
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
    with given.out.open("w", encoding="utf-8") as out:
        for title, text in found[: given.most]:
            out.write(json.dumps({"title": title, "text": text}, ensure_ascii=False) + "\n")
    print(f"{min(len(found), given.most)} of {len(found)} paragraphs")


if __name__ == "__main__":
    main()
