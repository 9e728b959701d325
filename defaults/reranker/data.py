"""Builds the training and evaluation domains of the default reranker from public text.

A domain is a list of passages, and queries of several kinds, each with the indices of its
relevant passages. Everything made from one article stays on one side of the train/eval split.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

WORD = re.compile(r"[A-Za-z][A-Za-z0-9-]+")
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'])")
PTB = {"-lrb-": "(", "-rrb-": ")", "``": '"', "''": '"'}


@dataclass
class Query:
    """One query: its text, its kind (the evaluation set) and its relevant passages."""

    text: str
    kind: str
    relevant: list[int]


@dataclass
class Domain:
    """Passages and queries of one source; `split` is 'train', 'eval'."""

    name: str
    split: str
    passages: list[str] = field(default_factory=list)
    queries: list[Query] = field(default_factory=list)


@dataclass
class Chunk:
    """A passage of an article with the heading it stands under."""

    text: str
    heading: str
    index: int = -1


def held_out(title: str, parts: int = 5) -> bool:
    """True for one article in `parts`, chosen by the hash of its title."""
    return int(hashlib.sha256(title.encode()).hexdigest(), 16) % parts == 0


def read_jsonl(path: Path) -> Iterator[dict[str, str]]:
    """Yields the objects of a .jsonl or .jsonl.xz file."""
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8") as handle:
        for line in handle:
            yield json.loads(line)


def chunks(text: str, words: int) -> list[Chunk]:
    """Cuts an article into passages of about `words` words, keeping short lines as headings."""
    out: list[Chunk] = []
    heading, held = "", ""
    for line in [*text.split("\n"), ""]:
        line = line.strip()
        size = len(line.split())
        is_heading = 0 < size <= 6 and line.endswith(".")
        if held and (not line or is_heading or len(held.split()) + size > words):
            if len(held.split()) >= 25:
                out.append(Chunk(" ".join(held.split()[: words + 40]), heading))
            held = ""
        if is_heading:
            heading = line.rstrip(".")
        elif line:
            held = f"{held} {line}".strip()
    return out


def drop_sentence(text: str, rng: random.Random) -> tuple[str, str] | None:
    """Takes one sentence of 8 to 40 words out of a passage; None if nothing fits."""
    sentences = SENTENCE.split(text)
    fits = [i for i, s in enumerate(sentences) if 8 <= len(s.split()) <= 40]
    if len(sentences) < 4 or not fits:
        return None
    i = rng.choice(fits)
    rest = " ".join(sentences[:i] + sentences[i + 1 :])
    return sentences[i], rest


def claim(text: str, rng: random.Random) -> str | None:
    """A sentence of the passage with about a third of its words dropped."""
    fits = [s for s in SENTENCE.split(text) if 10 <= len(s.split()) <= 40]
    if not fits:
        return None
    words = [w for w in rng.choice(fits).split() if rng.random() > 0.35]
    return " ".join(words) if len(words) >= 5 else None


class Keywords:
    """Draws keyword queries: terms by TF-IDF, shuffled, lower case, often without plural -s."""

    def __init__(self, texts: list[str]) -> None:
        self.count = len(texts)
        self.df = Counter(w for t in texts for w in set(WORD.findall(t.lower())))

    def draw(self, text: str, rng: random.Random, avoid: str = "") -> str:
        """2 to 6 terms drawn from the twelve best of `text`, none of them in `avoid`."""
        banned = set(WORD.findall(avoid.lower()))
        tf = Counter(w for w in WORD.findall(text.lower()) if w not in banned and len(w) > 3)
        score = {w: (1 + math.log(n)) * math.log(self.count / max(self.df[w], 3)) for w, n in tf.items()}
        best = sorted(score, key=lambda w: -score[w])[:12]
        terms = rng.sample(best, min(len(best), rng.randint(2, 6)))
        return " ".join(w[:-1] if w.endswith("s") and rng.random() < 0.5 else w for w in terms)


def add_passage(domain: Domain, text: str) -> int:
    """Appends a passage and returns its index."""
    domain.passages.append(text)
    return len(domain.passages) - 1


def ask(domain: Domain, kind: str, text: str | None, relevant: list[int]) -> None:
    """Appends a query when it has text."""
    if text and text.strip():
        domain.queries.append(Query(text.strip(), kind, relevant))


def article(domain: Domain, title: str, parts: list[Chunk], rng: random.Random, kw: Keywords) -> None:
    """Adds one article: passages, then queries of the kinds that suit the source."""
    source = domain.name
    clozes: list[tuple[str, int]] = []
    for part in parts:
        cut = drop_sentence(part.text, rng) if rng.random() < 0.3 else None
        if cut:
            part.text = cut[1]
        part.index = add_passage(domain, part.text)
        if cut:
            clozes.append((cut[0], part.index))
    for sentence, index in clozes:
        ask(domain, f"{source}_cloze", sentence, [index])
    everything = [p.index for p in parts]
    if source == "news":
        ask(domain, "news_headline", title, everything)
    if len(parts) >= 3 and source != "gutenberg":
        topic = kw.draw(" ".join(p.text for p in parts), rng, avoid=title)
        ask(domain, f"{source}_topic", topic, everything)
    for _ in range(8 if source == "gutenberg" else int(rng.random() < 0.4)):
        if len(parts) < 2:
            break
        i = rng.randrange(len(parts) - 1)
        text = " ".join(parts[i].text.split()[:110])
        near = [p.index for p in parts[max(0, i - 1) : i + 2] if p.index != parts[i].index]
        ask(domain, f"{source}_next", text, near)
    if source == "gutenberg":
        return
    part = rng.choice(parts)
    ask(domain, f"{source}_keyword", kw.draw(part.text, rng), [part.index])
    part = rng.choice(parts)
    ask(domain, f"{source}_claim", claim(part.text, rng), [part.index])
    headed = [p for p in parts if p.heading]
    if source == "wiki" and headed:
        heading = rng.choice(headed).heading
        where = [p.index for p in headed if p.heading == heading]
        ask(domain, "wiki_section", f"{title} {heading}".lower(), where)


def articles(data: Path, source: str, limit: int, seed: int) -> list[Domain]:
    """Train and eval domains of Wikipedia ('wiki'), Wikinews ('news') or Gutenberg books."""
    file = {"wiki": "wikipedia", "news": "wikinews", "gutenberg": "gutenberg"}[source]
    rng = random.Random(seed)
    rows = [r for r in read_jsonl(data / "text" / f"{file}.jsonl.xz") if len(r["text"]) > 600]
    rng.shuffle(rows)
    rows = rows[:limit]
    pairs: list[tuple[str, list[Chunk]]] = []
    for row in rows:
        text = row["text"]
        if source == "gutenberg":
            text = text.replace("\n\n", "\n")
        words = rng.choice([60, 100, 150])
        parts = chunks(text, words)
        most = 60 if source == "gutenberg" else 12
        first = len(parts) // 3 if source == "gutenberg" else 0
        pairs.append((row["title"], parts[first : first + most]))
    kw = Keywords([" ".join(p.text for p in parts) for _, parts in pairs])
    made = {split: Domain(source, split) for split in ("train", "eval")}
    for title, parts in pairs:
        if parts:
            split = "eval" if held_out(title) else "train"
            article(made[split], title, parts, rng, kw)
    return list(made.values())


def beir(folder: Path, titles: bool) -> tuple[list[str], dict[str, int], dict[str, str]]:
    """Passages (with their titles in front or not), their indices by id, and queries by id."""
    rows = list(read_jsonl(folder / "corpus.jsonl"))
    place = {r["_id"]: i for i, r in enumerate(rows)}
    texts = [f"{r['title']} {r['text']}" if titles else r["text"] for r in rows]
    return texts, place, {r["_id"]: r["text"] for r in read_jsonl(folder / "queries.jsonl")}


def qrels(path: Path) -> list[tuple[str, str]]:
    """(query id, passage id) pairs of a BEIR qrels file."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [(a, b) for a, b, _ in (line.split("\t") for line in lines)]


def squad(data: Path) -> list[Domain]:
    """SQuAD questions over all 1,484 paragraphs; the eval articles are never trained on."""
    folder = data / "retrieval" / "squad"
    texts, place, queries = beir(folder, titles=True)
    out = []
    for split, file in (("train", "train"), ("eval", "dev")):
        domain = Domain("squad", split, list(texts))
        for q, p in qrels(folder / "qrels" / f"{file}.tsv"):
            ask(domain, "squad_question", queries[q], [place[p]])
        out.append(domain)
    keep = {place[p] for _, p in qrels(folder / "qrels" / "train.tsv")}
    out[0].passages = [t if i in keep else "" for i, t in enumerate(texts)]
    return out


def medquad(data: Path, seed: int, limit: int = 7000) -> list[Domain]:
    """MedQuAD questions and their keyword forms, split by the disease asked about."""
    folder = data / "retrieval" / "medquad"
    rng = random.Random(seed)
    title = {r["_id"]: r["title"] for r in read_jsonl(folder / "corpus.jsonl")}
    texts, place, queries = beir(folder, titles=False)
    made = {split: Domain("medquad", split) for split in ("train", "eval")}
    rows = qrels(folder / "qrels" / "train.tsv")
    rng.shuffle(rows)
    for q, p in rows[:limit]:
        domain = made["eval" if held_out(title[p], 3) else "train"]
        index = add_passage(domain, " ".join(texts[place[p]].split()[:220]))
        ask(domain, "medquad_question", queries[q], [index])
        rest = re.sub(r"[^\w\s-]", " ", queries[q].lower())
        rest = re.sub(r"\b(what|is|are|the|of|for|who|how|to|do|does|can|you|a|in)\b", " ", rest)
        words = rest.split()
        rng.shuffle(words)
        ask(domain, "medquad_keyword", " ".join(words[:6]), [index])
    return list(made.values())


def sentences(data: Path) -> list[Domain]:
    """Question to sentence pairs, lower case, split by a hash of the sentence."""
    path = data / "pairs" / "squad_question_sentence_from_train_articles.jsonl"
    made = {split: Domain("sentence", split) for split in ("train", "eval")}
    known: dict[str, int] = {}
    for number, row in enumerate(read_jsonl(path)):
        text = " ".join(PTB.get(w, w) for w in row["b"].split())
        domain = made["eval" if (number // 400) % 5 == 0 else "train"]
        key = domain.split + text
        if key not in known:
            known[key] = add_passage(domain, text)
        ask(domain, "sentence_question", row["a"], [known[key]])
    return list(made.values())


def paraphrases(data: Path) -> list[Domain]:
    """Paraphrase pairs, first half for training."""
    path = data / "pairs" / "gptcache_mock_paraphrase.jsonl"
    made = {split: Domain("paraphrase", split) for split in ("train", "eval")}
    for number, row in enumerate(read_jsonl(path)):
        if int(row["label"]) != 1:
            continue
        domain = made["eval" if number % 2 else "train"]
        ask(domain, "paraphrase", row["a"], [add_passage(domain, row["b"])])
    return list(made.values())


def build(data: Path, seed: int, scale: float = 1.0) -> list[Domain]:
    """All domains, train and eval; `scale` < 1 makes a small trial set."""
    out = [*squad(data), *medquad(data, seed, int(7000 * scale)), *sentences(data)]
    out += paraphrases(data)
    out += articles(data, "wiki", int(7500 * scale), seed)
    out += articles(data, "news", int(6000 * scale), seed)
    out += articles(data, "gutenberg", int(240 * scale), seed)
    return out
