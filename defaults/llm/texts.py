"""Reads the training texts and keeps apart what must not be trained on.

DATA holds text/{wikipedia,wikinews,gutenberg}.jsonl.xz ({"title", "text"} a line),
qa/squad_grounded_{train,dev}.jsonl and perplexity/wikitext2_valid.txt.

Held out: 1 % of each source's documents, by a hash of source and title. Dropped altogether: Wikipedia and
Wikinews documents that share a title or 13 words in a row with WikiText-2 validation or with the SQuAD
articles of the dev split (the 13-gram rule is that of Brown et al. 2020, "Language Models are Few-Shot
Learners", appendix C).
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCES = ("wikipedia", "wikinews", "gutenberg")
HELD_OUT = 100  # one document in so many
GRAM = 13
WORD = re.compile(r"[^\W_]+")
WIKITEXT_TITLE = re.compile(r"^ = ([^=].*?) = \s*$", re.MULTILINE)


@dataclass(frozen=True)
class Document:
    """One article or book."""

    source: str
    title: str
    text: str


def read_documents(data: Path, source: str) -> Iterator[Document]:
    """The documents of one source in the file's order, line ends trimmed."""
    with lzma.open(data / "text" / f"{source}.jsonl.xz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield Document(source, row["title"], tidy(row["text"]))


def read_rows(path: Path) -> list[dict]:
    """The rows of a .jsonl file, or of the .jsonl.xz file beside where it would be."""
    if path.exists():
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    with lzma.open(path.with_name(path.name + ".xz"), "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_wikitext(data: Path) -> str:
    """WikiText-2's validation text as it is distributed: spaced tokens, <unk>, = headings =."""
    return (data / "perplexity" / "wikitext2_valid.txt").read_text(encoding="utf-8")


def is_held_out(document: Document) -> bool:
    """Whether a document belongs to the held-out hundredth."""
    digest = hashlib.sha256(f"{document.source}\n{document.title}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT == 0


class Excluded:
    """Titles and word runs of the evaluation texts."""

    def __init__(self, data: Path) -> None:
        """Reads WikiText-2 validation and the contexts of the SQuAD dev split (for exclusion alone)."""
        wikitext = plain_wikitext(read_wikitext(data))
        dev = read_rows(data / "qa" / "squad_grounded_dev.jsonl")
        titles = [*WIKITEXT_TITLE.findall(wikitext), *(row["title"] for row in dev)]
        self.titles = {name(title) for title in titles}
        texts = [wikitext, *{row["context"] for row in dev}]
        self.grams = {gram for text in texts for gram in grams(text)}

    def covers(self, document: Document) -> bool:
        """Whether a document must not be trained on, nor counted as held out."""
        if document.source == "gutenberg":
            return False
        return name(document.title) in self.titles or any(g in self.grams for g in grams(document.text))


def grams(text: str) -> Iterator[int]:
    """Hashes of every run of GRAM words, case and punctuation ignored."""
    words = WORD.findall(text.lower())
    for start in range(len(words) - GRAM + 1):
        yield hash(tuple(words[start : start + GRAM]))


def name(title: str) -> str:
    """A title without case, underscores and punctuation."""
    return " ".join(WORD.findall(title.replace("_", " ").lower()))


def plain_wikitext(text: str) -> str:
    """WikiText's split numbers and hyphens joined again."""
    return re.sub(r" @(.)@ ", r"\1", text)


def tidy(text: str) -> str:
    """Text without spaces at line ends and without runs of empty lines."""
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip()
