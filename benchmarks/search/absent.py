"""Questions whose document is in a collection, and the same ones with it left out."""

from __future__ import annotations

import json
import lzma
import random
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common.report import PROJECT
from trireme.errors import NotFoundError
from trireme.rag.citations import content_words

# What is asked about an article of which only the title is known.
TEMPLATES = (
    "What is {}?",
    "Who or what is {}?",
    "Where is {}?",
    "What is {} known for?",
    "What do you know about {}?",
    "what are the main facts about {}",
    "When did {} begin?",
    "Why is {} important?",
    "Who founded {}?",
    "How did {} develop?",
)
WIKIPEDIA_PASSAGES = 4000
SENTENCES = 4000
# Sentences so near in the file are of one article.
NEIGHBOURS = 80
# Titles that share so many of the shorter one's words are of one disease.
SAME_TITLE = 0.67
MEDQUAD_SHARE = 0.3

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A question of a domain. `left_out`: ids of the documents that answer it; empty where they are not known.

    answers: texts of which one is in a right answer; empty where that is not known.
    """

    question: str
    left_out: frozenset[str] = frozenset()
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Domain:
    """A corpus and what it is asked.

    corpus: records with _id, title and text, or paths of our own. never: nothing of what is asked is in it.
    """

    name: str
    corpus: Sequence[Record | Path]
    cases: list[Case] = field(default_factory=list)
    never: bool = False


def fit_domains(data: Path, count: int, seed: int) -> list[Domain]:
    """What weights are fitted on: SQuAD's training articles, alone and among Wikipedia's, titles, sentences."""
    source = random.Random(seed)  # noqa: S311 - a sample, no secret
    squad = read_lines(data / "retrieval" / "squad" / "corpus.jsonl")
    asked = squad_cases(data, "train", squad, 2 * count, source)
    wikipedia = _wikipedia(data, {one["title"] for one in squad}, source)
    mixed = [*squad, *wikipedia]
    return [
        Domain("squad", squad, asked[:count]),
        Domain("squad in wikipedia", mixed, asked[count:]),
        Domain("wikipedia titles", mixed, _title_cases(wikipedia, count, source)),
        _sentences(data, count, source),
    ]


def judge_domains(data: Path, count: int, seed: int) -> list[Domain]:
    """What they are judged on: SQuAD's other articles, MedQuAD, and our documents with what they do not say."""
    source = random.Random(seed)  # noqa: S311 - a sample, no secret
    squad = read_lines(data / "retrieval" / "squad" / "corpus.jsonl")
    mixed = [*squad, *_wikipedia(data, {one["title"] for one in squad}, source)]
    asked = squad_cases(data, "dev", squad, 2 * count, source)
    newcomers = tomllib.loads((PROJECT / "defaults" / "questions.toml").read_text(encoding="utf-8"))[
        "question"
    ]
    ours = sample_corpus()
    strange = (Path(__file__).parent / "strange_questions.txt").read_text(encoding="utf-8").splitlines()
    return [
        Domain("squad", squad, asked[:count]),
        Domain("squad in wikipedia", mixed, asked[count:]),
        _medquad(data, count, source),
        Domain("our documents", ours, [Case(one["text"], answers=tuple(one["words"])) for one in newcomers]),
        Domain("our documents, not in them", ours, [Case(text) for text in strange], never=True),
    ]


def sample_corpus() -> list[Path]:
    """What `make serve` indexes."""
    found = re.search(r"serve --corpus (.+)", (PROJECT / "Makefile").read_text(encoding="utf-8"))
    return [PROJECT / name for name in (found[1] if found else "docs").split()]


def squad_cases(
    data: Path, split: str, corpus: Sequence[Record], count: int, source: random.Random
) -> list[Case]:
    """Answerable questions, of each article as many; left out is the article. Raises NotFoundError."""
    passages: dict[str, set[str]] = defaultdict(set)
    for one in corpus:
        passages[one["_id"].split("#")[0]].add(one["_id"])
    by_article: dict[str, list[Record]] = defaultdict(list)
    for one in read_lines(data / "qa" / f"squad_grounded_{split}.jsonl"):
        if one["answerable"]:
            by_article[one["title"]].append(one)
    each = -(-count // len(by_article))
    drawn = [one for title in sorted(by_article) for one in source.sample(by_article[title], each)]
    source.shuffle(drawn)
    return [
        Case(one["question"], frozenset(passages[one["title"]]), tuple(one["answers"]))
        for one in drawn[:count]
    ]


def read_lines(path: Path) -> list[Record]:
    """The records of a JSON lines file, xz or plain. Raises NotFoundError."""
    if not path.is_file():
        raise NotFoundError(
            f"{path} does not exist; give the folder that holds qa/, retrieval/, pairs/ and text/"
        )
    open_text = lzma.open if path.suffix == ".xz" else open
    with open_text(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _wikipedia(data: Path, without: set[str], source: random.Random) -> list[Record]:
    """Paragraphs of other articles, at most four of each."""
    articles = read_lines(data / "text" / "wikipedia.jsonl.xz")
    source.shuffle(articles)
    found: list[Record] = []
    for one in articles:
        if one["title"] not in without and len(found) < WIKIPEDIA_PASSAGES:
            paragraphs = [text for text in one["text"].split("\n") if 300 < len(text) < 1200][:4]
            found += [
                {"_id": f"wikipedia-{len(found) + n}", "title": one["title"], "text": text}
                for n, text in enumerate(paragraphs)
            ]
    return found


def _title_cases(passages: Sequence[Record], count: int, source: random.Random) -> list[Case]:
    by_title = _group(passages, lambda one: str(one["title"]))
    titles = source.sample(sorted(title for title in by_title if not title.startswith("List of")), count)
    return [
        Case(TEMPLATES[n % len(TEMPLATES)].format(title), by_title[title]) for n, title in enumerate(titles)
    ]


def _sentences(data: Path, count: int, source: random.Random) -> Domain:
    pairs = read_lines(data / "pairs" / "squad_question_sentence_from_train_articles.jsonl")
    texts = list(dict.fromkeys(one["b"] for one in pairs))
    begin = source.randrange(max(1, len(texts) - SENTENCES))
    texts = texts[begin : begin + SENTENCES]
    corpus = [{"_id": str(n), "title": "", "text": text} for n, text in enumerate(texts)]
    places = {text: n for n, text in enumerate(texts)}

    def near(place: int) -> frozenset[str]:
        return frozenset(map(str, range(place - NEIGHBOURS, place + NEIGHBOURS)))

    drawn = source.sample([one for one in pairs if one["b"] in places], count)
    return Domain("sentences", corpus, [Case(one["a"], near(places[one["b"]])) for one in drawn])


def _medquad(data: Path, count: int, source: random.Random) -> Domain:
    """A part of the diseases. Left out are all passages whose title is like the question's."""
    every = read_lines(data / "retrieval" / "medquad" / "corpus.jsonl")
    titles = sorted({one["title"] for one in every})
    kept = set(source.sample(titles, int(MEDQUAD_SHARE * len(titles))))
    corpus = [one for one in every if one["title"] in kept]
    by_title = _group(corpus, lambda one: str(one["title"]))
    words = {title: content_words(title) for title in by_title}
    title_of = {one["_id"]: one["title"] for one in corpus}
    asked = [
        one
        for one in read_lines(data / "retrieval" / "medquad" / "queries.jsonl")
        if f"a_{one['_id']}" in title_of
    ]
    cases = []
    for one in source.sample(asked, count):
        own = words[title_of[f"a_{one['_id']}"]]
        alike = [title for title, other in words.items() if _is_alike(own, other)]
        cases.append(Case(one["text"], frozenset().union(*(by_title[title] for title in alike))))
    return Domain("medquad", corpus, cases)


def _is_alike(one: frozenset[str], other: frozenset[str]) -> bool:
    return one == other or len(one & other) >= SAME_TITLE * max(1, min(len(one), len(other)))


def _group(passages: Iterable[Record], key: Callable[[Record], str]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for one in passages:
        found[key(one)].add(one["_id"])
    return {name: frozenset(ids) for name, ids in found.items()}
