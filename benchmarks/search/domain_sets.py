"""Retrieval sets of several domains, made from the data folder by a seed: a ranking is judged on all of them."""

from __future__ import annotations

import json
import lzma
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trireme.quality import read_beir

Draw = random.Random
ARTICLES, ANSWERS, PAIRS = 1000, 2500, 3000
# How a passage of an article is cut, in characters: lines are put together up to this; and how much is read.
PASSAGE_CHARACTERS, ARTICLE_CHARACTERS = 900, 5000
LEAST_ARTICLE, LEAST_PASSAGE = 600, 300
# Words of a sentence that is a query.
SENTENCE_WORDS = range(9, 31)
SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[A-Z\"'])")
# What the Penn Treebank writes apart or in another way.
TREEBANK = {"-lrb-": "(", "-rrb-": ")", "-lsb-": "[", "-rsb-": "]", "``": '"', "''": '"', "\\/": "/"}
CLINGS_TO_THE_LEFT = re.compile(r" (?=[.,;:?!%)\]]|n't\b|'(?:s|re|ve|ll|d|m)\b)")
CLINGS_TO_THE_RIGHT = re.compile(r"(?<=[(\[$]) ")


@dataclass(frozen=True, slots=True)
class Judged:
    """Queries, and the passages that answer each."""

    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Passages by id, all of which are ranked for every query of each domain."""

    name: str
    passages: dict[str, str]
    domains: dict[str, Judged]


def make_corpora(data: Path, queries: int, seed: int) -> Iterator[Corpus]:
    """The corpora with up to `queries` queries a domain; one whose files are not in `data` is left out.

    `seed` draws passages and queries. Ids of queries are no ids of passages.
    """
    for name, (needed, make) in CORPORA.items():
        if (data / needed).exists():
            draw = random.Random(f"{seed} {name}")  # noqa: S311 - a sample, no secret
            passages, domains = make(data / needed, draw)
            drawn = {domain: draw_queries(judged, queries, draw) for domain, judged in domains.items()}
            yield Corpus(name, passages, drawn)


def draw_queries(judged: Judged, count: int, draw: Draw) -> Judged:
    """`count` of the queries, or all where there are not more."""
    kept = sorted(judged.queries)
    kept = sorted(draw.sample(kept, min(count, len(kept))))
    return Judged({one: judged.queries[one] for one in kept}, {one: judged.qrels[one] for one in kept})


Made = tuple[dict[str, str], dict[str, Judged]]


def read_squad(folder: Path, _: Draw) -> Made:
    """Questions of SQuAD's development articles, and of the others, over the paragraphs of both."""
    dev, train = read_beir(folder, "dev"), read_beir(folder, "train")
    return dev.corpus, {
        "squad, dev articles": Judged(dev.queries, dev.qrels),
        "squad, other articles": Judged(train.queries, train.qrels),
    }


def read_medquad(folder: Path, draw: Draw) -> Made:
    """Questions about medicine, made from templates, over ANSWERS of their answers."""
    whole = read_beir(folder)
    kept = set(draw.sample(sorted(whole.corpus), min(ANSWERS, len(whole.corpus))))
    asked = [query for query, grades in whole.qrels.items() if grades.keys() <= kept]
    judged = Judged({one: whole.queries[one] for one in asked}, {one: whole.qrels[one] for one in asked})
    return {one: text for one, text in whole.corpus.items() if one in kept}, {"medquad": judged}


def read_articles(file: Path, draw: Draw) -> Made:
    """Titles, which no passage carries, and sentences taken out of the later half of an article.

    A title finds all passages of its article, a sentence the one that it stood in.
    """
    corpus: dict[str, str] = {}
    titles, sentences = Judged({}, {}), Judged({}, {})
    for place, (title, text) in enumerate(draw_articles(file, draw)):
        passages = cut(text)
        ids = [f"a{place}p{n}" for n in range(len(passages))]
        titles.queries[f"t{place}"], titles.qrels[f"t{place}"] = title, dict.fromkeys(ids, 1)
        later = draw.randrange(len(passages) // 2, len(passages))
        telling = [one for one in SENTENCE_END.split(passages[later]) if one.count(" ") + 1 in SENTENCE_WORDS]
        if telling and len(passages[later]) >= LEAST_PASSAGE:
            sentence = draw.choice(telling)
            passages[later] = passages[later].replace(sentence, "", 1)
            sentences.queries[f"s{place}"], sentences.qrels[f"s{place}"] = sentence, {ids[later]: 1}
        corpus |= dict(zip(ids, passages, strict=True))
    source = file.name.partition(".")[0]
    return corpus, {f"{source}, title": titles, f"{source}, sentence": sentences}


def read_pairs(file: Path, draw: Draw) -> Made:
    """Questions, and the sentences with their answers, lower-cased, of PAIRS pairs."""
    lines = file.read_text(encoding="utf-8").splitlines()
    ids: dict[str, str] = {}
    judged = Judged({}, {})
    for n, line in enumerate(draw.sample(lines, min(PAIRS, len(lines)))):
        pair = json.loads(line)
        passage = ids.setdefault(write_as_people_do(pair["b"]), f"s{len(ids)}")
        judged.queries[f"q{n}"], judged.qrels[f"q{n}"] = write_as_people_do(pair["a"]), {passage: 1}
    return {passage: text for text, passage in ids.items()}, {"question to sentence": judged}


def write_as_people_do(text: str) -> str:
    """`text` without the Penn Treebank's spaces and brackets. What it has lower-cased stays so."""
    for written, meant in TREEBANK.items():
        text = text.replace(written, meant)
    return CLINGS_TO_THE_RIGHT.sub("", CLINGS_TO_THE_LEFT.sub("", text)).strip()


def draw_articles(file: Path, draw: Draw) -> list[tuple[str, str]]:
    """(title, text) of ARTICLES articles that are long enough."""
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        found = [(one["title"], one["text"][:ARTICLE_CHARACTERS]) for one in map(json.loads, lines)]
    found = [one for one in found if len(one[1]) >= LEAST_ARTICLE]
    return draw.sample(found, min(ARTICLES, len(found)))


def cut(text: str) -> list[str]:
    """Passages of whole lines, or of sentences where a line is longer than a passage."""
    passages = [""]
    for line in text.split("\n"):
        for piece in SENTENCE_END.split(line) if len(line) > PASSAGE_CHARACTERS else [line]:
            if passages[-1] and len(passages[-1]) + len(piece) > PASSAGE_CHARACTERS:
                passages.append("")
            passages[-1] = f"{passages[-1]} {piece}".strip()
    return [passage for passage in passages if passage]


# Name -> what it needs of the data folder, and how it is made.
CORPORA: Mapping[str, tuple[str, Callable[[Path, Draw], Made]]] = {
    "squad": ("retrieval/squad", read_squad),
    "medquad": ("retrieval/medquad", read_medquad),
    "wikipedia": ("text/wikipedia.jsonl.xz", read_articles),
    "wikinews": ("text/wikinews.jsonl.xz", read_articles),
    "sentences": ("pairs/squad_question_sentence_from_train_articles.jsonl", read_pairs),
}
