"""Rules that keep the meaning: a parsed text and a Random give a text, or "" where a rule does not apply."""

from __future__ import annotations

import random
import re

from grammar import (
    FORMS,
    MONTHS,
    NUMBER_WORDS,
    SAME_AS,
    Doc,
    Rule,
    inflect,
    is_plain_subject,
    joined,
    matched,
    raised,
)
from templates import TEMPLATES
from words import CONTRACTIONS, SPELLINGS, equations


def synonym(doc: Doc, rng: random.Random) -> str:
    """One to three words by near-synonyms."""
    changed = {}
    for token in doc:
        found = SAME_AS.get((token.lemma_.lower(), token.pos_))
        if not found or token.ent_type_ or token.dep_ in ("aux", "auxpass") or token.tag_ == "RP":
            continue
        if any(child.dep_ == "prt" for child in token.children) or (
            token.i + 1 < len(doc) and doc[token.i + 1].text == "-"
        ):
            continue
        new = inflect(rng.choice(found), token.tag_).replace("-", " " if token.pos_ == "VERB" else "-")
        if new:
            changed[token.i] = matched(new, token.text)
    keep = rng.sample(sorted(changed), min(len(changed), rng.choice((1, 2, 3))))
    if not keep:
        return ""
    text = joined(doc, {i: changed[i] for i in keep})
    text = re.sub(r"\b([Aa])n (?=[bcdfgjklmnpqrstvwxyz])", r"\1 ", text)
    return re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", text)


def spelling(doc: Doc, rng: random.Random) -> str:
    """Another spelling, contraction or numeral of the same thing."""
    text, table = doc.text, equations(SPELLINGS) + equations(CONTRACTIONS)
    rng.shuffle(table)
    done = 0
    for a, b in table:
        if rng.random() < 0.5:
            a, b = b, a
        pattern = r"(?<![\w.])" + re.escape(a) + r"(?![\w])"
        new = re.sub(pattern, lambda m, b=b: matched(b, m.group()), text, count=1, flags=re.I)
        if new != text and b:
            text, done = new, done + 1
        if done == 2:
            break
    return text if done else ""


def numeral(doc: Doc, rng: random.Random) -> str:
    """Digits by words, words by digits; 5,000 by 5000; dates in the other order."""
    changed = {}
    for token in doc:
        low = token.lower_
        before = doc[token.i - 1].text if token.i else ""
        after = doc[token.i + 1].text if token.i + 1 < len(doc) else ""
        if low in NUMBER_WORDS and token.pos_ == "NUM" and low not in ("zero", "one"):
            changed[token.i] = str(NUMBER_WORDS.index(low))
        elif (
            low.isdigit()
            and 2 <= int(low) <= 20
            and (before + after)[:1] not in "JFMASOND-$#%:"
            and after[:3] not in MONTHS
        ):
            changed[token.i] = NUMBER_WORDS[int(low)]
        elif re.fullmatch(r"\d{1,3},\d{3}", low):
            changed[token.i] = low.replace(",", "")
    text = joined(doc, changed) if changed else doc.text
    months = "January|February|March|April|May|June|July|August|September|October|November|December"
    text = (
        re.sub(
            rf"\b(\d{{1,2}}) ({months})\b(,? \d{{4}})?",
            lambda m: f"{m[2]} {m[1]}" + (f", {m[3].strip(', ')}" if m[3] else ""),
            text,
        )
        if re.search(rf"\b\d{{1,2}} ({months})\b", text)
        else re.sub(
            rf"\b({months}) (\d{{1,2}})\b(?:, (\d{{4}}))?",
            lambda m: f"{m[2]} {m[1]}" + (f" {m[3]}" if m[3] else ""),
            text,
        )
    )
    return text if text != doc.text else ""


def fronted(doc: Doc, rng: random.Random) -> str:
    """An adverbial from the end to the front, or from the front to the end."""
    roots = [t for t in doc if t.dep_ == "ROOT"]
    if len(roots) != 1:
        return ""
    root = roots[0]
    last = len(doc) - 1 if doc[-1].is_punct else len(doc)
    end = doc[-1].text if doc[-1].is_punct else ""
    for child in root.children:
        if child.dep_ not in ("prep", "advcl", "npadvmod", "advmod"):
            continue
        start, stop = child.left_edge.i, child.right_edge.i + 1
        phrase = doc[start:stop]
        if child.dep_ == "advmod" and (stop - start) < 2:
            continue
        if child.dep_ == "prep" and not (
            phrase.ents
            or (stop - start > 2 and child.lower_ in ("in", "after", "during", "before", "on", "at", "since"))
        ):
            continue
        if child.dep_ == "advcl" and not any(c.dep_ in ("mark", "advmod") for c in child.children):
            continue
        if stop == last and start > 3:
            rest = doc[:start].text.rstrip(" ,")
            if doc[0].pos_ != "PROPN" and not doc[0].ent_type_ and doc[0].text != "I":
                rest = rest[0].lower() + rest[1:]
            return f"{raised(phrase.text)}, {rest}{end}"
        if start == 0 and stop < last - 3:
            rest = doc[stop:last].text.lstrip(" ,")
            head = (
                phrase.text
                if (doc[0].ent_type_ and doc[0].pos_ == "PROPN")
                else phrase.text[0].lower() + phrase.text[1:]
            )
            joint = ", " if child.dep_ == "advcl" and rng.random() < 0.3 else " "
            return f"{raised(rest)}{joint}{head}{end}"
    return ""


def turned_conjuncts(doc: Doc, rng: random.Random) -> str:
    """A and B -> B and A."""
    for token in doc:
        conj = [c for c in token.children if c.dep_ == "conj"]
        link = [c for c in token.children if c.dep_ == "cc" and c.lower_ in ("and", "or")]
        if (
            len(conj) != 1
            or len(link) != 1
            or token.pos_ != conj[0].pos_
            or token.pos_ not in ("NOUN", "PROPN", "ADJ")
        ):
            continue
        other, cc = conj[0], link[0]
        a0, a1 = token.left_edge.i, cc.i
        b0, b1 = cc.i + 1, other.right_edge.i + 1
        if (
            other.left_edge.i != b0
            or any(t.dep_ == "conj" for t in other.children)
            or not 0 < a1 - a0 <= 6
            or not 0 < b1 - b0 <= 6
        ):
            continue
        if doc[a1 - 1].is_punct or (a0 > 0 and doc[a0 - 1].lower_ in ("both", "between")):
            pass
        a, b = doc[a0:a1].text.rstrip(" ,"), doc[b0:b1].text.rstrip(" ,")
        if a0 == 0:
            a, b = (a if token.pos_ == "PROPN" else a[0].lower() + a[1:]), raised(b)
        text = f"{doc[:a0].text} {b} {cc.text} {a}{doc[b1 - 1].whitespace_}{doc[b1:].text}"
        return re.sub(r"\s+", " ", text).strip()
    return ""


def voice(doc: Doc, rng: random.Random) -> str:
    """Passive to active and active to passive, for statements and for 'who' questions."""
    roots = [t for t in doc if t.dep_ == "ROOT"]
    if len(roots) != 1 or roots[0].pos_ != "VERB":
        return ""
    root = roots[0]
    kids = {c.dep_: c for c in root.children}
    if any(c.dep_ in ("conj", "neg", "prt", "xcomp", "ccomp", "dative", "aux") for c in root.children):
        return ""
    last = len(doc) - 1 if doc[-1].is_punct else len(doc)
    end = doc[-1].text if doc[-1].is_punct else ""
    if "nsubjpass" in kids and "agent" in kids and root.tag_ == "VBN":
        agent, subject, aux = kids["agent"], kids["nsubjpass"], kids.get("auxpass")
        actor = [c for c in agent.children if c.dep_ == "pobj"]
        if not actor or aux is None or aux.lower_ not in ("was", "were") or agent.i < root.i:
            return ""
        if subject.left_edge.i != 0 or subject.pos_ == "PRON" or actor[0].pos_ == "PRON":
            return ""
        past = FORMS.get((root.lemma_.lower(), "VBD"), "")
        a = doc[actor[0].left_edge.i : actor[0].right_edge.i + 1].text
        s = doc[: subject.right_edge.i + 1].text
        s = s if doc[0].pos_ == "PROPN" or doc[0].ent_type_ else s[0].lower() + s[1:]
        middle = doc[root.i + 1 : agent.i].text
        rest = doc[actor[0].right_edge.i + 1 : last].text
        if not past or (subject.right_edge.i + 1 != aux.i) or root.i - aux.i > 1:
            return ""
        return re.sub(r"\s+", " ", f"{raised(a)} {past} {s} {middle} {rest}".strip()).replace(" ,", ",") + end
    if "nsubj" in kids and "dobj" in kids and root.tag_ == "VBD":
        subject, thing = kids["nsubj"], kids["dobj"]
        done = FORMS.get((root.lemma_.lower(), "VBN"), "")
        if (
            root.lemma_ in ("have", "be", "get", "want", "like", "mean", "cost", "become", "take", "lack")
            or not done
        ):
            return ""
        is_who = subject.lower_ in ("who", "what") and subject.i == 0 and root.i == 1
        if (
            not (is_who or (is_plain_subject(subject) and subject.left_edge.i == 0))
            or subject.right_edge.i + 1 != root.i
        ):
            return ""
        if not is_plain_subject(thing) or thing.left_edge.i != root.i + 1:
            return ""
        if any(c.dep_ == "poss" for c in thing.children):
            return ""
        t = doc[root.i + 1 : thing.right_edge.i + 1].text
        rest = doc[thing.right_edge.i + 1 : last].text
        be = (
            "were"
            if thing.tag_ in ("NNS", "NNPS") or any(c.dep_ == "conj" for c in thing.children)
            else "was"
        )
        if is_who:
            by = "whom" if subject.lower_ == "who" else "what"
            style = rng.random()
            if style < 0.5:
                return re.sub(r"\s+", " ", f"By {by} {be} {t} {done} {rest}".strip()) + "?"
            return re.sub(r"\s+", " ", f"{raised(t)} {be} {done} by {by} {rest}".strip()) + "?"
        s = doc[: root.i].text
        s = s if doc[0].pos_ == "PROPN" or doc[0].ent_type_ else s[0].lower() + s[1:]
        return re.sub(r"\s+", " ", f"{raised(t)} {be} {done} by {s} {rest}".strip()).replace(" ,", ",") + end
    return ""


def possessive(doc: Doc, rng: random.Random) -> str:
    """the X of Y -> Y's X, and back."""
    m = re.search(r"\b([Tt]he) (\w+) of ((?:[A-Z][\w.]+ ?){1,3})(?=[\s,?.]|$)", doc.text)
    if m and m[2] not in ("city", "state", "kingdom", "university", "University", "most", "one", "rest"):
        name = m[3].strip()
        return (
            doc.text[: m.start()]
            + f"{name}'s {m[2]}"
            + (" " if m[3].endswith(" ") else "")
            + doc.text[m.end() :]
        )
    m = re.search(r"\b((?:[A-Z][\w.]+ ){0,2}[A-Z][\w.]+)'s (\w+)(?=[\s,?.]|$)", doc.text)
    if m and m.start() > 0:
        return doc.text[: m.start()] + f"the {m[2]} of {m[1]}" + doc.text[m.end() :]
    return ""


def template(doc: Doc, rng: random.Random) -> str:
    """Another form of the question, by its first words."""
    text = doc.text.strip()
    found = []
    for pattern, forms, most in TEMPLATES:
        m = re.match(pattern, text)
        if m and max(len(g.split()) for g in m.groups()) <= most:
            found.append((m.groups(), forms))
    if not found:
        return ""
    parts, forms = rng.choice(found)
    return raised(rng.choice(forms).format(*[p.strip() for p in parts]))


def attribution(doc: Doc, rng: random.Random) -> str:
    """'X,' said Y <-> Y said X; According to Y, X <-> X, according to Y."""
    text = doc.text.strip()
    m = re.match(r"^According to ([^,]{3,60}), (.+)\.$", text)
    if m:
        forms = ("{1}, according to {0}.", "{0} said that {2}.", "{1}, {0} said.", "{0} reported that {2}.")
        return raised(rng.choice(forms).format(m[1], raised(m[2]), m[2]))
    m = re.match(r"^(.+), according to ([^,]{3,60})\.$", text)
    if m:
        return rng.choice(("According to {1}, {0}.", "{1} said that {0}.")).format(
            m[1][0].lower() + m[1][1:] if doc[0].pos_ != "PROPN" else m[1], raised(m[2])
        )
    m = re.match(r'^([“"].+[,”"]+) (said|says) ([A-Z][^,"”]{3,60})\.$', text)
    if m:
        return raised(f"{m[3]} {m[2]}: {m[1]}").replace(',"', '."').replace(",”", ".”")
    m = re.match(r"^([A-Z][^,]{3,50}) (said|says|announced|stated|added) (?:that )?([^\"“]{20,})\.$", text)
    if m:
        forms = ("{1}, {0} said.", "{1}, according to {0}.", "{0} stated that {2}.", "{0} said {2}.")
        return rng.choice(forms).format(m[1], raised(m[3]), m[3])
    return ""


def lighter(doc: Doc, rng: random.Random) -> str:
    """Without a word that says little: an article, that, also, an adverb of degree."""
    light = {
        "also",
        "really",
        "actually",
        "very",
        "just",
        "quite",
        "then",
        "currently",
        "simply",
        "basically",
        "however",
    }
    places = [
        t.i
        for t in doc
        if t.lower_ in light
        or (t.lower_ == "that" and t.dep_ == "mark")
        or (t.lower_ == "the" and not t.ent_type_ and rng.random() < 0.2)
    ]
    if not places:
        return ""
    return raised(joined(doc, {i: "" for i in rng.sample(places, min(2, len(places)))}))


def turned_comparison(doc: Doc, rng: random.Random) -> str:
    """A is larger than B -> B is smaller than A."""
    m = re.match(r"^(.{2,40}?) (is|was|are|were) (\w+er|more|less) than (.{2,40}?)([.?]?)$", doc.text.strip())
    if not m or m[3] not in TURNED:
        return ""
    return f"{raised(m[4])} {m[2]} {TURNED[m[3]]} than {m[1]}{m[5]}"


TURNED = {
    "larger": "smaller",
    "bigger": "smaller",
    "higher": "lower",
    "older": "younger",
    "longer": "shorter",
    "faster": "slower",
    "heavier": "lighter",
    "stronger": "weaker",
    "taller": "shorter",
    "richer": "poorer",
    "hotter": "colder",
    "better": "worse",
    "greater": "smaller",
    "earlier": "later",
    "wider": "narrower",
    "cheaper": "dearer",
}
TURNED |= {b: a for a, b in TURNED.items()}

SAME: dict[str, Rule] = {
    "synonym": synonym,
    "spelling": spelling,
    "numeral": numeral,
    "fronted": fronted,
    "conjuncts": turned_conjuncts,
    "voice": voice,
    "possessive": possessive,
    "template": template,
    "attribution": attribution,
    "lighter": lighter,
    "comparison": turned_comparison,
}
