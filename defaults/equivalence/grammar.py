"""What the rules share: inflected forms, names and words to put in place of others, edits of a parsed text."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from words import NUMBERS, OPPOSITES, SYNONYMS, groups

Doc = Any
Rule = Callable[[Doc, random.Random], str]

NAMED = ("PERSON", "GPE", "ORG", "NORP", "LOC", "FAC", "EVENT", "WORK_OF_ART", "PRODUCT")
FORMS: dict[tuple[str, str], str] = {}
POOL: dict[str, list[str]] = defaultdict(list)
LOCAL: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
SAME_AS: dict[tuple[str, str], list[str]] = defaultdict(list)
OPPOSITE: dict[str, list[str]] = defaultdict(list)
for _pos, _text in SYNONYMS.items():
    for _group in groups(_text):
        for _word in _group:
            SAME_AS[_word, _pos] += [other for other in _group if other != _word]
for _first, _second in [(g[0], g[1]) for g in groups(OPPOSITES)]:
    OPPOSITE[_first].append(_second)
    OPPOSITE[_second].append(_first)
NUMBER_WORDS = NUMBERS.split()
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
QUESTION = re.compile(
    r"^(what|who|whom|whose|which|when|where|why|how|is|are|was|were|do|does|did|can|could|should|will|would|has|have"
    r"|had|in|on|at|by|to|for|from|of|with|during|about|under|after|before)\b",
    re.I,
)


def learn(docs: Iterable[Doc], titles: Iterable[str]) -> None:
    """Collects inflected forms, and names and words to put in place of others, by kind and by article."""
    seen: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for doc, title in zip(docs, titles, strict=True):
        for token in doc:
            if token.is_alpha:
                seen[token.lemma_.lower(), token.tag_][token.lower_] += 1
                if token.tag_ in ("NN", "NNS", "VBD", "VBN", "JJ") and not token.ent_type_ and len(token) > 3:
                    LOCAL[title][token.tag_].append(token.text)
                    if len(POOL[token.tag_]) < 40000:
                        POOL[token.tag_].append(token.text)
        for entity in doc.ents:
            if entity.label_ in NAMED and "'" not in entity.text:
                POOL[entity.label_].append(entity.text)
                LOCAL[title][entity.label_].append(entity.text)
    for key, forms in seen.items():
        FORMS[key] = forms.most_common(1)[0][0]


def inflect(lemma: str, tag: str) -> str:
    """The form of a lemma with a Penn tag, as seen in the texts; "" where it was not."""
    if tag in ("VB", "NN", "JJ", "RB", "VBP"):
        return lemma
    return FORMS.get((lemma, tag), "")


def joined(doc: Doc, changed: dict[int, str]) -> str:
    """The text with the tokens at some places replaced; "" removes one."""
    parts = []
    for token in doc:
        text = changed.get(token.i, token.text)
        if text:
            parts.append(text + token.whitespace_)
    return re.sub(r"\s+", " ", "".join(parts)).strip()


def matched(new: str, old: str) -> str:
    """`new` with the capitals of `old`."""
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def lowered(doc: Doc) -> str:
    """The text, its first letter small unless it is a name or 'I'."""
    first = doc[0]
    if first.ent_type_ or first.pos_ == "PROPN" or first.text in ("I", "I'm") or first.text.isupper():
        return str(doc.text)
    return str(doc.text[0].lower() + doc.text[1:])


def raised(text: str) -> str:
    """With a capital in front."""
    return text[:1].upper() + text[1:]


def ask(text: str) -> str:
    """As a question: one question mark at the end."""
    return raised(text.rstrip(" ?.!,") + "?")


def is_question(doc: Doc) -> bool:
    """Whether the text asks."""
    return doc.text.rstrip().endswith("?") or bool(
        QUESTION.match(doc.text) and len(doc) < 20 and doc[-1].text != "."
    )


def is_plain_subject(token: Any) -> bool:
    """Whether a noun stands there, no pronoun."""
    return token.pos_ in ("NOUN", "PROPN") and token.lower_ not in ("who", "which", "that", "what")
