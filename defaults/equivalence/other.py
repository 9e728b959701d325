"""Rules that change the meaning: a parsed text and a Random give a text, or "" where a rule does not apply."""

from __future__ import annotations

import random
import re

from grammar import (
    LOCAL,
    NAMED,
    NUMBER_WORDS,
    OPPOSITE,
    POOL,
    SAME_AS,
    Doc,
    Rule,
    inflect,
    is_plain_subject,
    is_question,
    joined,
    matched,
    raised,
)
from words import RESTRICTIONS, WH_CHANGES, choices


def _other(pool: list[str], old: str, rng: random.Random) -> str:
    for _ in range(8):
        new = rng.choice(pool) if pool else ""
        if new and new.lower() not in old.lower() and old.lower() not in new.lower():
            return new
    return ""


def other_name(doc: Doc, rng: random.Random) -> str:
    """A name by another of its kind, from the same article where there is one."""
    names = [e for e in doc.ents if e.label_ in NAMED]
    if not names:
        return ""
    e = rng.choice(names)
    local = LOCAL[doc.user_data.get("title", "")].get(e.label_, [])
    new = _other(local if rng.random() < 0.7 else POOL[e.label_], e.text, rng) or _other(
        POOL[e.label_], e.text, rng
    )
    return joined(doc, {e.start: new} | {i: "" for i in range(e.start + 1, e.end)}) if new else ""


def part_of_name(doc: Doc, rng: random.Random) -> str:
    """One word of a name of several."""
    names = [e for e in doc.ents if e.label_ in ("PERSON", "ORG", "FAC", "EVENT") and len(e) > 1]
    if not names:
        return ""
    e = rng.choice(names)
    other = rng.choice(POOL[e.label_]).split()
    t = rng.choice([t for t in e if t.text[:1].isupper()] or list(e))
    new = rng.choice(other)
    return joined(doc, {t.i: new}) if new.lower() != t.lower_ and new[:1].isupper() else ""


def other_number(doc: Doc, rng: random.Random) -> str:
    """A number or year by a near one."""
    numbers = [t for t in doc if re.fullmatch(r"\d[\d,.]*", t.text) or t.lower_ in NUMBER_WORDS[2:]]
    if not numbers:
        return ""
    t = rng.choice(numbers)
    if t.lower_ in NUMBER_WORDS:
        return joined(doc, {t.i: matched(rng.choice([w for w in NUMBER_WORDS[2:] if w != t.lower_]), t.text)})
    digits = [i for i, c in enumerate(t.text) if c.isdigit()]
    i = rng.choice(digits[1:] or digits)
    new = t.text[:i] + rng.choice([d for d in "0123456789" if d != t.text[i]]) + t.text[i + 1 :]
    return joined(doc, {t.i: new}) if new[0] != "0" else ""


def swapped_names(doc: Doc, rng: random.Random) -> str:
    """Two names change places, unless they stand beside one another as equals."""
    names = [e for e in doc.ents if e.label_ in (*NAMED, "DATE", "CARDINAL")]
    pairs = [
        (a, b)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if a.label_ == b.label_ or {a.label_, b.label_} <= set(NAMED)
    ]
    rng.shuffle(pairs)
    for a, b in pairs:
        between = doc[a.end : b.start]
        words = {t.lower_ for t in between}
        if a.text.lower() == b.text.lower() or (
            len(between) < 2 and words <= {",", "and", "or", "&", "/", "-"}
        ):
            continue
        if (
            words <= {",", "and", "or", "the", "&", "("}
            or b.root.dep_ == "conj"
            or (words & {"with", "versus", "between"} and len(between) < 3)
        ):
            continue
        return joined(
            doc,
            {a.start: b.text, b.start: a.text}
            | {i: "" for i in (*range(a.start + 1, a.end), *range(b.start + 1, b.end))},
        )
    return ""


def swapped_words(doc: Doc, rng: random.Random) -> str:
    """Two nouns, adjectives or verbs of one form change places."""
    tag = rng.choice(("NN", "NNS", "JJ", "VBN", "VBD", "NNP", "NN", "JJ"))
    found = [
        t for t in doc if t.tag_ == tag and t.is_alpha and len(t) > 2 and t.dep_ not in ("aux", "auxpass")
    ]
    pairs = [
        (a, b) for i, a in enumerate(found) for b in found[i + 1 :] if b.i - a.i > 1 and a.lemma_ != b.lemma_
    ]
    rng.shuffle(pairs)
    for a, b in pairs:
        if (b.head == a and b.dep_ == "conj") or (a.head == b.head and a.dep_ == b.dep_) or b in a.conjuncts:
            continue
        return joined(
            doc,
            {
                a.i: matched(b.text if b.pos_ == "PROPN" else b.lower_, a.text),
                b.i: a.text if a.pos_ == "PROPN" else a.lower_,
            },
        )
    return ""


def swapped_roles(doc: Doc, rng: random.Random) -> str:
    """Who does it and to whom it is done change places."""
    for root in [t for t in doc if t.pos_ == "VERB"]:
        subject = [c for c in root.children if c.dep_ in ("nsubj", "nsubjpass") and is_plain_subject(c)]
        thing = [c for c in root.children if c.dep_ == "dobj" and is_plain_subject(c)]
        thing += [
            c
            for p in root.children
            if p.dep_ in ("prep", "agent") and p.lower_ in ("by", "to", "from", "against", "over", "of")
            for c in p.children
            if c.dep_ == "pobj" and is_plain_subject(c)
        ]
        if len(subject) != 1 or not thing or root.lemma_ in ("meet", "marry", "resemble", "be", "equal"):
            continue
        a, b = subject[0], thing[0]
        s, t = doc[a.left_edge.i : a.right_edge.i + 1], doc[b.left_edge.i : b.right_edge.i + 1]
        if s.end > t.start or len(s) > 8 or len(t) > 8:
            continue
        text = s.text if a.pos_ == "PROPN" or s.start else s.text[0].lower() + s.text[1:]
        end = f"{text}{doc[t.end - 1].whitespace_}{doc[t.end :].text}"
        new = f"{doc[: s.start].text} {t.text} {doc[s.end : t.start].text} {end}"
        return raised(re.sub(r"\s+", " ", new.strip()))
    return ""


_NAME = r"([\w.'-]+(?: [A-Z][\w.'-]+)*)"
_BIG_NAME = r"([A-Z][\w.'-]+(?: [A-Z][\w.'-]+)*)"
_WAYS = (
    rf"\bfrom ([\w .'-]{{2,30}}?) to {_NAME}",
    rf"\b(?:convert|change|turn|translate|move|transfer|switch|upgrade) ([\w .'-]{{2,30}}?) (?:to|into) {_NAME}",
    rf"{_BIG_NAME} (?:is|was|are|were) (?:\w+er|more \w+|less \w+) than {_BIG_NAME}",
)


def swapped_ways(doc: Doc, rng: random.Random) -> str:
    """from A to B -> from B to A, and the like."""
    m = next(filter(None, (re.search(way, doc.text) for way in _WAYS)), None)
    if m is None or m[1].lower() == m[2].lower():
        return ""
    text = doc.text
    return str(text[: m.start(1)] + m[2] + text[m.end(1) : m.start(2)] + m[1] + text[m.end(2) :])


def opposite(doc: Doc, rng: random.Random) -> str:
    """One word by its opposite."""
    places = []
    for t in doc:
        for key in (t.lower_, t.lemma_.lower()):
            if (
                key in OPPOSITE
                and not (key == "may" and t.pos_ == "AUX")
                and not (key == "for" and rng.random() < 0.9)
            ):
                places.append((t, key))
                break
    if not places:
        return ""
    t, key = rng.choice(places)
    new = rng.choice(OPPOSITE[key])
    if key != t.lower_:
        new = inflect(new, t.tag_)
    if t.text.isdigit() or not new:
        return ""
    return joined(doc, {t.i: matched(new, t.text)})


def negated(doc: Doc, rng: random.Random) -> str:
    """A 'not' more or less."""
    nots = [t for t in doc if t.dep_ == "neg" and t.lower_ in ("not", "n't", "never")]
    if nots:
        return joined(doc, {nots[0].i: ""}).replace(" ca ", " can ").replace(" wo ", " will ")
    for t in doc:
        if t.pos_ == "AUX" and t.lower_ in (
            "is",
            "was",
            "are",
            "were",
            "can",
            "could",
            "will",
            "would",
            "should",
            "may",
            "has",
            "have",
            "had",
            "did",
            "does",
            "do",
        ):
            if t.i > 0 and not is_question(doc):
                return joined(doc, {t.i: f"{t.text} {rng.choice(('not', 'not', 'never'))}"})
            if is_question(doc):
                head = t.head if t.dep_ in ("aux", "auxpass") else None
                if head is not None and head.i > t.i:
                    return joined(doc, {head.i: f"not {head.text}"})
                short = {
                    "is": "isn't",
                    "was": "wasn't",
                    "are": "aren't",
                    "were": "weren't",
                    "can": "can't",
                    "did": "didn't",
                    "does": "doesn't",
                    "do": "don't",
                }
                return joined(doc, {t.i: matched(short.get(t.lower_, t.text + " not"), t.text)})
    for t in doc:
        if t.dep_ == "ROOT" and t.tag_ in ("VBD", "VBZ") and not is_question(doc):
            return joined(doc, {t.i: ("did not " if t.tag_ == "VBD" else "does not ") + t.lemma_})
    return ""


def other_word(doc: Doc, rng: random.Random) -> str:
    """A noun, verb or adjective by one that the article, or any, has in its place."""
    found = [
        t
        for t in doc
        if t.tag_ in ("NN", "NNS", "VBD", "VBN", "JJ") and not t.ent_type_ and len(t) > 3 and t.is_alpha
    ]
    if not found:
        return ""
    t = rng.choice(found)
    local = LOCAL[doc.user_data.get("title", "")].get(t.tag_, [])
    new = _other(local if rng.random() < 0.6 else POOL[t.tag_], t.text, rng)
    if not new or new.lower() in (x for x in SAME_AS.get((t.lemma_.lower(), t.pos_), ())):
        return ""
    return joined(doc, {t.i: matched(new.lower() if t.i else new, t.text)})


def other_wh(doc: Doc, rng: random.Random) -> str:
    """Another question word."""
    for t in doc:
        low = t.lower_
        if low in WH_CHANGES and is_question(doc):
            follow = doc[t.i + 1] if t.i + 1 < len(doc) else None
            if low == "how" and follow is not None and follow.pos_ in ("ADJ", "ADV"):
                if follow.lower_ in ("many", "much"):
                    return joined(doc, {t.i: matched("which", t.text), follow.i: ""})
                return joined(
                    doc,
                    {
                        follow.i: rng.choice(
                            [w for w in ("often", "long", "far", "old", "much", "big") if w != follow.lower_]
                        )
                    },
                )
            if low == "what" and follow is not None and follow.pos_ == "NOUN":
                return joined(doc, {t.i: matched("how many", t.text)})
            return joined(doc, {t.i: matched(rng.choice(WH_CHANGES[low]), t.text)})
    return ""


def restricted(doc: Doc, rng: random.Random) -> str:
    """A question that asks for a narrower thing."""
    if not is_question(doc) or len(doc) > 22:
        return ""
    place = rng.choice(POOL["GPE"] or ["France"])
    name = rng.choice(POOL["PERSON"] or ["Smith"])
    extra = rng.choice(choices(RESTRICTIONS)).format(place=place, year=rng.randrange(1780, 2025), name=name)
    return doc.text.rstrip("?. ") + extra + ("?" if doc.text.rstrip().endswith("?") else "")


def shortened(doc: Doc, rng: random.Random) -> str:
    """A question without one of its conditions: a phrase or an adjective less."""
    if not is_question(doc):
        return ""
    found = [
        (t.left_edge.i, t.right_edge.i + 1)
        for t in doc
        if t.dep_ in ("prep", "advcl", "relcl", "acl") and t.i > 2 and t.right_edge.i - t.left_edge.i >= 1
    ]
    found += [(t.i, t.i + 1) for t in doc if t.dep_ in ("amod", "compound", "nummod") and t.i > 1]
    if not found:
        return ""
    a, b = rng.choice(found)
    return joined(doc, {i: "" for i in range(a, b)}) if b - a < len(doc) - 4 else ""


def extended(doc: Doc, rng: random.Random) -> str:
    """A noun with another adjective in front."""
    nouns = [
        t
        for t in doc
        if t.tag_ in ("NN", "NNS") and t.i > 0 and doc[t.i - 1].pos_ in ("DET", "ADP", "VERB", "PRON")
    ]
    if not nouns or not POOL["JJ"]:
        return ""
    t = rng.choice(nouns)
    local = LOCAL[doc.user_data.get("title", "")].get("JJ", [])
    return joined(doc, {t.i: f"{(_other(local, t.text, rng) or rng.choice(POOL['JJ'])).lower()} {t.text}"})


def other_tense(doc: Doc, rng: random.Random) -> str:
    """did -> will, was -> will be, is -> was, and so on."""
    table = {
        "did": ("will", "does"),
        "was": ("will be",),
        "will": ("did",),
        "does": ("did",),
        "do": ("did",),
        "can": ("must", "should"),
        "should": ("can", "must"),
        "must": ("may",),
        "would": ("did",),
        "could": ("must",),
    }
    found = [t for t in doc if t.lower_ in table and t.pos_ in ("AUX", "VERB")]
    if not found:
        return ""
    t = rng.choice(found)
    return joined(doc, {t.i: matched(rng.choice(table[t.lower_]), t.text)})


OTHER: dict[str, Rule] = {
    "other_name": other_name,
    "part_of_name": part_of_name,
    "other_number": other_number,
    "swapped_names": swapped_names,
    "swapped_words": swapped_words,
    "swapped_roles": swapped_roles,
    "swapped_ways": swapped_ways,
    "opposite": opposite,
    "negated": negated,
    "other_word": other_word,
    "other_wh": other_wh,
    "restricted": restricted,
    "shortened": shortened,
    "extended": extended,
    "other_tense": other_tense,
}
