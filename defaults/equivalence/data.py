"""Pairs of texts with labels: 1 where the answer of one serves the other, 0 where it does not.

Reads a folder laid out as this project's training data (MODEL_CARD.md lists the files). Needs spaCy with an English
pipeline (tagger, parser, names). Everything is split into train and eval by article, disease or topic.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import lzma
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from grammar import Rule, learn, raised
from other import OTHER
from same import SAME
from surface import surface

Embed = Callable[[list[str]], np.ndarray]


@dataclass(slots=True)
class Pair:
    """Two texts; `kind` is source.how; `split` train or eval."""

    a: str
    b: str
    label: int
    kind: str
    split: str


def held_out(name: str, share: int = 5) -> bool:
    """Whether an article, disease or topic is kept for evaluation; one in `share`."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % share == 0


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_articles(path: Path) -> Iterator[dict[str, str]]:
    """{title, text} of a compressed text collection."""
    with lzma.open(path, "rt", encoding="utf-8") as handle:
        for line in handle:
            yield json.loads(line)


def sentences(text: str) -> list[str]:
    """Whole sentences of 7 to 34 words."""
    found = []
    for paragraph in text.split("\n"):
        for part in re.split(r'(?<=[.!?])\s+(?=["“A-Z0-9])', paragraph.strip()):
            part = part.strip()
            is_whole = re.match(r'["“]?[A-Z]', part) and part[-1:] in '.!?"”' and part.count('"') % 2 == 0
            if (
                is_whole
                and 7 <= len(part.split()) <= 34
                and not re.search(r"[{}|<>\\=]|http| ,|\( ?\)", part)
            ):
                found.append(part)
    return found


def article_sentences(
    data: Path, name: str, per: int, count: int, rng: random.Random
) -> list[tuple[str, str]]:
    """(sentence, title) of Wikipedia or Wikinews: the first of each news story, any of an encyclopedia article."""
    rows = []
    for row in read_articles(data / "text" / f"{name}.jsonl.xz"):
        found = sentences(row["text"])
        picked = found[:per] if name == "wikinews" else rng.sample(found, min(per, len(found)))
        rows += [(text, row["title"]) for text in picked]
        if name == "wikinews" and 4 <= len(row["title"].split()) <= 16 and rng.random() < 0.3:
            rows.append((row["title"], row["title"]))
    rng.shuffle(rows)
    return rows[:count]


# ---- rules over single texts


def chosen(table: dict[str, Rule], doc: Any, rng: random.Random, count: int) -> list[tuple[str, str]]:
    """(rule, text) of up to `count` rules that apply, no rule twice."""
    found: list[tuple[str, str]] = []
    for name in rng.sample(sorted(table), len(table)):
        text = table[name](doc, rng).strip()
        if text and text != doc.text and 2 < len(text) < 400:
            found.append((name, text))
            if len(found) == count:
                break
    return found


def ruled(
    nlp: Any, items: list[tuple[str, str]], source: str, split: Callable[[str], str], seed: int
) -> list[Pair]:
    """Pairs made by rules of (text, title): same, other, and other over same."""
    rng = random.Random(seed)
    docs = list(nlp.pipe([text for text, _ in items], batch_size=256, n_process=2))
    learn(docs, [title for _, title in items])
    pairs: list[Pair] = []
    again: list[tuple[str, str, str, str]] = []
    for doc, (text, title) in zip(docs, items, strict=True):
        doc.user_data["title"] = title
        part = split(title)
        for name, new in chosen(OTHER, doc, rng, 3):
            pairs.append(Pair(text, new, 0, f"{source}.{name}", part))
        same = chosen(SAME, doc, rng, 3)
        pairs += [Pair(text, new, 1, f"{source}.{name}", part) for name, new in same]
        if len(same) > 1:
            pairs.append(Pair(same[0][1], same[1][1], 1, f"{source}.two_rules", part))
        again += [(text, new, name, title) for name, new in same[:1]]
    for doc, (text, new, name, title) in zip(
        nlp.pipe([new for _, new, _, _ in again], batch_size=256, n_process=2), again, strict=True
    ):
        doc.user_data["title"] = title
        part = split(title)
        left = {key: rule for key, rule in SAME.items() if key != name}
        twice = chosen(left, doc, rng, 1)
        pairs += [Pair(text, more, 1, f"{source}.two_rules", part) for _, more in twice]
        for how, wrong in chosen(OTHER, doc, rng, 2):
            pairs.append(Pair(text, wrong, 0, f"{source}.{how}", part))
        if twice:
            pairs.append(Pair(new, text, 1, f"{source}.{name}", part))
    return pairs


# ---- sources


def near(
    texts: list[str], embed: Embed, count: int, floor: float, apart: Callable[[int, int], bool]
) -> list[tuple[int, int]]:
    """(i, j) of each text's nearest others by cosine, where `apart` says that they differ in meaning."""
    vectors = embed(texts)
    found = set()
    for start in range(0, len(texts), 2048):
        sims = vectors[start : start + 2048] @ vectors.T
        best = np.argpartition(-sims, min(count + 12, len(texts) - 1), axis=1)[:, : count + 12]
        for row, places in enumerate(best):
            i, taken = start + row, 0
            for j in sorted(places, key=lambda k, row=row: -sims[row, k]):
                if i != j and sims[row, j] >= floor and apart(i, int(j)):
                    found.add((min(i, int(j)), max(i, int(j))))
                    taken += 1
                    if taken == count:
                        break
    return sorted(found)


def squad(data: Path, nlp: Any, embed: Embed, seed: int) -> list[Pair]:
    """SQuAD questions: rules, near ones of a paragraph, unanswerable near-copies, slips of the tongue."""
    pairs: list[Pair] = []
    rows = []
    for part, file in (("train", "train"), ("eval", "dev")):
        rows += [row | {"part": part} for row in read_jsonl(data / "qa" / f"squad_grounded_{file}.jsonl")]
    rows = [row | {"question": " ".join(row["question"].split())} for row in rows]
    part_of = {row["title"]: row["part"] for row in rows}
    pairs += ruled(nlp, [(r["question"], r["title"]) for r in rows], "squad", lambda t: part_of[t], seed)
    groups = defaultdict(list)
    for row in rows:
        groups[row["context"]].append(row)
    texts = [row["question"] for row in rows]
    vectors = dict(zip(texts, embed(texts), strict=True))
    for group in groups.values():
        for p, q in itertools.combinations(group, 2):
            if (not p["answerable"] and not q["answerable"]) or p["question"].lower() == q[
                "question"
            ].lower():
                continue
            is_mixed = p["answerable"] != q["answerable"]
            spans = [{a.lower() for a in r["answers"]} for r in (p, q)]
            if not is_mixed and any(a in b or b in a for a in spans[0] for b in spans[1]):
                continue
            cosine = float(vectors[p["question"]] @ vectors[q["question"]])
            if cosine > (0.55 if is_mixed else 0.5):
                kind = "squad.unanswerable" if is_mixed else "squad.paragraph"
                pairs.append(Pair(p["question"], q["question"], 0, kind, p["part"]))
    by_id = {row["id"]: row for row in rows}
    for part, file in (("train", "train"), ("eval", "dev")):
        for row in read_jsonl(data / "pairs" / f"disfl_qa_{file}_articles.jsonl"):
            said = row["paraphrase"].replace('\\"', '"')
            pairs.append(Pair(row["question"], said, 1, "squad.slip", part))
            own = by_id.get(row["id"])
            others = [r for r in groups[own["context"]] if r["id"] != row["id"]] if own else []
            words = set(said.lower().split())
            # The question that the slip was taken from: the other one that shares most words with what was said.
            others.sort(key=lambda r, words=words: -len(words & set(r["question"].lower().split())))
            if others:
                pairs.append(Pair(others[0]["question"], said, 0, "squad.slip_other", part))
    return pairs


MEDICAL = {
    "What is (are)": (
        "What is {0}?",
        "What is meant by {0}?",
        "Can you explain {0}?",
        "{0}: what is it?",
        "Tell me about {0}",
        "Define {0}",
        "I'd like some information about {0}.",
        "What does {0} mean?",
    ),
    "What are the symptoms of": (
        "What are the signs of {0}?",
        "How do I know if I have {0}?",
        "{0} symptoms",
        "Which symptoms does {0} have?",
        "How does {0} show itself?",
        "What does someone with {0} feel or notice?",
        "What are the symptoms of {0}?",
    ),
    "What are the treatments for": (
        "How is {0} treated?",
        "What can be done about {0}?",
        "Which therapies are there for {0}?",
        "{0} treatment",
        "What is the treatment for {0}?",
        "How do doctors treat {0}?",
        "What helps against {0}?",
    ),
    "What causes": (
        "What is the cause of {0}?",
        "Why do people get {0}?",
        "What brings on {0}?",
        "How does {0} come about?",
        "{0} causes",
        "What are the reasons for {0}?",
        "What leads to {0}?",
    ),
    "How many people are affected by": (
        "How common is {0}?",
        "What is the frequency of {0}?",
        "How often does {0} occur?",
        "Is {0} rare?",
        "What is the prevalence of {0}?",
        "How many people have {0}?",
    ),
    "Is inherited": (
        "Is {0} inherited?",
        "Is {0} hereditary?",
        "Does {0} run in families?",
        "Can {0} be passed on to children?",
        "How is {0} inherited?",
    ),
    "How to diagnose": (
        "How is {0} diagnosed?",
        "Which tests show {0}?",
        "How do doctors find out that somebody has {0}?",
        "{0} diagnosis",
        "What tests are done for {0}?",
    ),
    "What are the genetic changes related to": (
        "Which genes are involved in {0}?",
        "What gene mutations lead to {0}?",
        "What are the genetic changes in {0}?",
        "Which mutation is linked to {0}?",
    ),
    "How to prevent": (
        "How can {0} be prevented?",
        "What can I do so as not to get {0}?",
        "How do I lower my risk of {0}?",
        "{0} prevention",
    ),
    "Who is at risk for": (
        "Who gets {0}?",
        "Which people are likely to get {0}?",
        "Who is most at risk of {0}?",
        "What are the risk factors for {0}?",
    ),
    "What is the outlook for": (
        "What is the prognosis of {0}?",
        "How does {0} usually end?",
        "Can one recover from {0}?",
        "What are the prospects of people with {0}?",
    ),
    "What research is being done for": (
        "Which studies about {0} are under way?",
        "Are there clinical trials for {0}?",
        "What is being researched about {0}?",
    ),
    "What are the complications of": (
        "What problems can {0} lead to?",
        "Which complications does {0} have?",
        "What can go wrong with {0}?",
    ),
}


def medquad(data: Path, embed: Embed, seed: int) -> list[Pair]:
    """Questions about a disease: by another template; another kind of question; a disease of a like name."""
    rng = random.Random(seed)
    names = set()
    for row in read_jsonl(data / "retrieval" / "medquad" / "queries.jsonl"):
        m = re.match(r"What is \(are\) (.{4,60}?) ?\?$", row["text"])
        if m:
            names.add(re.sub(r"\s*\(.*?\)", "", m[1]).strip())
    diseases = sorted(names)
    rng.shuffle(diseases)
    pairs: list[Pair] = []
    kinds = sorted(MEDICAL)
    alike = defaultdict(list)
    for i, j in near(diseases, embed, 3, 0.4, lambda i, j: diseases[i].lower() != diseases[j].lower()):
        alike[i].append(j)
        alike[j].append(i)
    for i, name in enumerate(diseases):
        part = "eval" if held_out(name, 4) else "train"
        for kind in rng.sample(kinds, 3):
            a, b = rng.sample(MEDICAL[kind], 2)
            pairs.append(Pair(a.format(name), b.format(name), 1, "medquad.template", part))
            other = rng.choice([k for k in kinds if k != kind])
            pairs.append(
                Pair(a.format(name), rng.choice(MEDICAL[other]).format(name), 0, "medquad.other_kind", part)
            )
            for j in rng.sample(alike[i], min(1, len(alike[i]))):
                if ("eval" if held_out(diseases[j], 4) else "train") == part:
                    c = rng.choice((a, b))
                    pairs.append(
                        Pair(a.format(name), c.format(diseases[j]), 0, "medquad.other_disease", part)
                    )
    return pairs


def statements(data: Path, nlp: Any, embed: Embed, seed: int) -> list[Pair]:
    """Sentences of a software manual and their paraphrases; other sentences near them; rules over them."""
    rows = read_jsonl(data / "pairs" / "gptcache_mock_paraphrase.jsonl")
    rows = [r for r in rows if int(r["label"]) == 1 and r["a"].strip().lower() != r["b"].strip().lower()]
    part_of = ["eval" if (n // 20) % 3 == 0 else "train" for n in range(len(rows))]
    pairs = [Pair(r["a"], r["b"], 1, "manual.paraphrase", p) for r, p in zip(rows, part_of, strict=True)]
    texts = [r["a"] for r in rows] + [r["b"] for r in rows]
    parts = part_of * 2
    half = len(rows)

    def is_apart(i: int, j: int) -> bool:
        return i % half != j % half and parts[i] == parts[j]

    vectors = embed(texts)
    for i, j in near(texts, embed, 4, 0.3, is_apart):
        # Nearer ones may say the same in a manual that repeats itself.
        if vectors[i] @ vectors[j] < 0.86:
            pairs.append(Pair(texts[i], texts[j], 0, "manual.near", parts[i]))
    made = ruled(nlp, [(t, str(n)) for n, t in enumerate(texts)], "manual", lambda n: parts[int(n)], seed)
    other = {t: texts[(n + half) % (2 * half)] for n, t in enumerate(texts)}
    # Half of the wrong ones start from the paraphrase, so that wording tells nothing.
    for n, pair in enumerate(made):
        if pair.label == 0 and n % 2 and pair.a in other:
            pair.a = other[pair.a]
    return pairs + made


def expanded(line: str, rng: random.Random) -> str:
    """One choice of every (a|b)."""
    return (
        re.sub(r"\(([^()]*\|[^()]*)\)", lambda m: rng.choice(m[1].split("|")), line)
        .replace("  ", " ")
        .strip()
    )


def intents(path: Path, embed: Embed, seed: int, rounds: int = 24) -> list[Pair]:
    """The written intents: other wordings; other values; sister intents; near intents of anywhere."""
    rng = random.Random(seed)
    slots: dict[str, list[str]] = {}
    topics: dict[str, list[list[str]]] = defaultdict(list)
    domain = topic = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(": "):
            name, values = line[2:].split(" ", 1)
            slots[name] = values.split("|")
        elif line.startswith("@ "):
            domain = line[2:]
        elif line.startswith("+ "):
            topic = f"{domain}/{line[2:]}"
        elif line.startswith("= "):
            topics[topic].append([line[2:]])
        elif line and not line.startswith("#"):
            topics[topic][-1].append(line)

    def said(line: str, values: dict[str, str]) -> str:
        text = expanded(line, rng)
        text = text[:1].upper() + text[1:] if text[:1] != "{" and rng.random() < 0.9 else text
        if (
            text.split(" ")[0].lower()
            in ("what", "who", "how", "when", "where", "why", "which", "is", "can", "does", "do", "are")
            and text[-1] not in "?.!"
        ):
            text += "?"
        return text.format(**values)

    pairs: list[Pair] = []
    samples: list[tuple[str, str, int, str]] = []
    for topic, members in topics.items():
        part = "eval" if topic.split("/")[0] in EVAL_DOMAINS else "train"
        for number, lines in enumerate(members):
            for turn in range(rounds):
                values = {k: rng.choice(v) for k, v in slots.items()}
                others = {k: rng.choice([x for x in v if x != values[k]]) for k, v in slots.items()}
                a, b = rng.sample(lines, 2)
                first = said(a, values)
                pairs.append(Pair(first, said(b, values), 1, "intent.wording", part))
                sister = rng.choice([m for i, m in enumerate(members) if i != number])
                pairs.append(Pair(first, said(rng.choice(sister), values), 0, "intent.sister", part))
                if "{" in a and "{" in b:
                    c = a if turn % 3 == 0 else b
                    pairs.append(Pair(first, said(c, others), 0, "intent.value", part))
                samples.append((first, topic, number, part))
    texts = [s[0] for s in samples]

    def is_apart(i: int, j: int) -> bool:
        return samples[i][1:3] != samples[j][1:3] and samples[i][3] == samples[j][3] and texts[i] != texts[j]

    for i, j in near(texts, embed, 1, 0.3, is_apart):
        pairs.append(Pair(texts[i], texts[j], 0, "intent.near", samples[i][3]))
    return pairs


def written(path: Path, seed: int, rounds: int = 60) -> list[Pair]:
    """The written statements: every two lines of one say the same; "x" lines are other things."""
    rng = random.Random(seed)
    slots: list[tuple[str, str, list[str]]] = []
    cases: list[tuple[list[str], list[str]]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(": "):
            first, second, values = line[2:].split(" ", 2)
            slots.append((first, second, values.split("|")))
        elif line.startswith("= "):
            cases.append(([line[2:]], []))
        elif line and not line.startswith("#"):
            cases[-1][line.startswith("x ")].append(line.removeprefix("x "))
    pairs: list[Pair] = []
    for number, (same, other) in enumerate(cases):
        part = "eval" if number % 4 == 3 else "train"
        for _ in range(rounds):
            values: dict[str, str] = {}
            for first, second, found in slots:
                values[first], values[second] = rng.sample(found, 2)
            texts = [raised(line.format(**values)) for line in same]
            wrong = [raised(line.format(**values)) for line in other]
            a, b = rng.sample(texts, 2)
            pairs.append(Pair(a, b, 1, "written.same", part))
            pairs.append(Pair(texts[0], rng.choice(wrong), 0, "written.near_copy", part))
            pairs.append(Pair(rng.choice(texts[1:]), rng.choice(wrong), 0, "written.other", part))
            again = {
                k: rng.choice([x for x in f if x != values[k]]) for one, two, f in slots for k in (one, two)
            }
            changed = rng.choice([k for k in values if any("{" + k + "}" in line for line in same)])
            pairs.append(
                Pair(
                    a,
                    raised(rng.choice(same).format(**values | {changed: again[changed]})),
                    0,
                    "written.value",
                    part,
                )
            )
    return [p for p in pairs if p.label == 1 or p.a != p.b]


EVAL_DOMAINS = ("shop", "travel", "people", "devices", "cars")
_NUMBER = re.compile(r"\d[\d,.]*\d|\d")


def facts(text: str) -> set[str]:
    """Numbers and names of a sentence, roughly: what a paraphrase keeps."""
    names = re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}", text)
    return set(_NUMBER.findall(text)) | set(names)


def mined(data: Path, embed: Embed, seed: int, count: int = 40000) -> list[Pair]:
    """News sentences of different stories near one another, each with numbers or names that the other lacks."""
    rng = random.Random(seed)
    rows = article_sentences(data, "wikinews", 6, count, rng)
    texts = list(dict.fromkeys(text for text, _ in rows))
    title = dict(rows)
    vectors = embed(texts)
    pairs = []
    for i, j in near(texts, embed, 2, 0.62, lambda i, j: texts[i].lower() != texts[j].lower()):
        a, b = texts[i], texts[j]
        part = "eval" if held_out(title[a]) else "train"
        if ("eval" if held_out(title[b]) else "train") != part:
            continue
        left, right = facts(a), facts(b)
        if left - right and right - left and vectors[i] @ vectors[j] < 0.97:
            pairs.append(Pair(a, b, 0, "news.mined_other", part))
    return pairs


def build(data: Path, folder: Path, nlp: Any, embed: Embed, seed: int = 0, scale: float = 1.0) -> list[Pair]:
    """All pairs; the surface of a part of them is roughened on either side."""
    rng = random.Random(seed)
    pairs = squad(data, nlp, embed, seed)
    pairs += statements(data, nlp, embed, seed)
    for name, short, per in (("wikipedia", "wiki", 1), ("wikinews", "news", 2)):
        rows = article_sentences(data, name, per, int(11000 * scale), rng)
        pairs += ruled(nlp, rows, short, lambda title: "eval" if held_out(title) else "train", seed)
    pairs += medquad(data, embed, seed) + mined(data, embed, seed)
    pairs += intents(folder / "intents.txt", embed, seed) + written(folder / "statements.txt", seed)
    for pair in pairs:
        level = 1.0 if pair.split == "train" else 0.5
        if rng.random() < 0.7:
            pair.a, pair.b = surface(pair.a, rng, level), surface(pair.b, rng, level)
    return [p for p in pairs if p.label == 1 or p.a.lower().strip(" ?.") != p.b.lower().strip(" ?.")]
