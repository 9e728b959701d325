"""Rules that tell English questions apart which look alike: what differs in numbers, negation, names, order.

A rule that finds nothing says nothing: whether two questions mean the same is for the equivalence model to say.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from trireme.cache import words as known
from trireme.cache.numbers import read_numbers

_WORD = re.compile(r"°[cf]\b|[$€£¥₹%]|[^\W_]+(?:['.&-][^\W_]+)*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?:]\s+$")
# Quoted text; an apostrophe within a word opens nothing.
_QUOTED = re.compile(r"\"([^\"]+)\"|(?<!`)`+([^`]+)`+|(?<!\w)'([^']{2,}?)'(?!\w)|«([^»]+)»")
_LITERAL = re.compile(
    r"https?://\S+|www\.\S+|[\w.+-]+@[\w-]+\.[\w.]+"  # addresses
    r"|(?<!\w)--?[a-z][\w-]*|(?<![\w/])(?:~|\.{0,2})/[\w./-]+"  # options, paths
    r"|\b\w+_\w+\b|\b\w+\.\w+\(|\b\w+\(\)|\b[a-z]+[A-Z]\w*\b"  # names in code
    r"|\b[A-Za-z]+\d[\w.]*\b|\b\d+(?!(?:st|nd|rd|th|s|k|mn|bn|km|cm|mm|kg|mg|g|ml|l|m|gb|mb|kb|tb|hz|ghz|mhz|am|pm|x)\b)"
    r"[A-Za-z]\w*\b"  # A100, mp3, 3D
    r"|(?<!\S)[-\u2212]\d[\d.,]*"  # below zero
    r"|(?<=[A-Za-z] )\d+\.[1-9]0\b"  # Python 3.10, which is not 3.1
    r"|(?<![-/.:\w])0\d+\b(?![-/.:])"  # 007
    r"|\b[A-Za-z](?:\+\+|#)|(?<=\d)\s*[-+*/^=<>]+\s*(?=\d)"  # C++, operators between numbers
)
# NFKC makes digits of them: 2\u00b2 would be 22.
_RAISED = re.compile("[\u00b2\u00b3\u00b9\u2070\u2074-\u2079]+")
_SINGLE_UNIT = re.compile(r"\d(m|g|l|s|h|w|v)\b|\d (m|g|l)\b", re.IGNORECASE)
_NUMBERED_UNIT = re.compile(
    rf"[$€£¥₹]|\d\s?(?:{'|'.join(sorted((re.escape(u) for u in known.UNITS), key=len, reverse=True))})(?![a-z])",
    re.IGNORECASE,
)
_COUNTED_UNITS = re.compile(rf"\bhow many (?:{'|'.join(sorted(u for u in known.UNITS if u.isalpha()))})\b")
# Doctor Who asks for no person.
_NAMED_WHO = re.compile(r"(?<=\w) (?:Who|When|Where|Why)\b")
_CONTRACTED = (("can't", "can not"), ("cannot", "can not"), ("won't", "will not"), ("n't", " not"),
               ("what's", "what is"), ("who's", "who is"), ("where's", "where is"), ("how's", "how is"),
               ("it's", "it is"), ("that's", "that is"), ("there's", "there is"), ("i'm", "i am"),
               ("'re", " are"), ("'ve", " have"), ("'ll", " will"))  # fmt: skip
_RANGE = re.compile(r"\d\S*\s+(?:to|from|minus|divided|over|than|into)\b|\bfrom\b.*\d", re.IGNORECASE)
LEAST_LATIN = 0.9
_UNKNOWN_WORDS = 12
# Words that open English questions and nothing else.
_OPENERS = known.split("who whose what when where why how which explain")


@dataclass(frozen=True, slots=True)
class _Reading:
    """What rules look at in one text. words: lower case, contractions spelt out. names: with capitals, in lower
    case, in order. has_case: whether capitals tell anything. has_owner: whether there is a genitive."""

    text: str
    words: tuple[str, ...]
    names: tuple[str, ...]
    has_case: bool
    has_owner: bool
    numbers: tuple[str, ...]

    @property
    def content(self) -> tuple[str, ...]:
        """The words that are no function words, without those that say where or when."""
        pairs = zip(("", *self.words), self.words, strict=False)
        return tuple(
            word
            for before, word in pairs
            if word not in known.FUNCTION_WORDS and before not in known.ADJUNCTS
        )


def is_readable(text: str) -> bool:
    """Whether the rules can judge a text: English, by its letters and its function words."""
    letters = [sign for sign in text if sign.isalpha()]
    if not letters or sum("LATIN" in unicodedata.name(sign, "") for sign in letters) < LEAST_LATIN * len(
        letters
    ):
        return False
    words = [word.lower() for word in _WORD.findall(text.replace("\u2019", "'"))]
    english = sum(word in known.FUNCTION_WORDS for word in words)
    foreign = sum(word in known.FOREIGN_WORDS for word in words)
    least = 1 if len(words) < 4 or words[0] in _OPENERS else 2
    return english >= least and english > foreign and english * _UNKNOWN_WORDS >= len(words)


def find_difference(a: str, b: str) -> str:
    """The name of the first rule by which two texts do not mean the same, "" if there is none. Symmetric; pure."""
    first, second = _read(a), _read(b)
    if first.words == second.words and first.names == second.names:
        # Signs may differ still: code, addresses.
        return "" if _literals(first.text) == _literals(second.text) else "literals"
    for name, differ in RULES.items():
        if differ(first, second):
            return name
    return ""


@lru_cache(maxsize=2048)
def _read(text: str) -> _Reading:
    text = _RAISED.sub(lambda match: "^" + match.group(), text)
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("\u2018", "'")
    text = text.replace("\u201c", '"').replace("\u201d", '"')
    plain = text.lower()
    for short, whole in _CONTRACTED:
        plain = plain.replace(short, whole)
    has_owner = "'s " in plain or "s' " in plain
    words = tuple(_stem(word) for word in _WORD.findall(plain))
    cased = [(match.group(), match.start()) for match in _WORD.finditer(text)]
    alphabetic = [token for token, _ in cased if token[:1].isalpha()]
    capitals = sum(token[0].isupper() for token in alphabetic)
    # Texts all in small letters, or mostly in capitals as titles are, tell no names.
    has_case = capitals > 0 and not (len(alphabetic) > 3 and capitals > 0.75 * len(alphabetic))
    names: list[str] = []
    for token, start in cased if has_case else ():
        opens = start == 0 or bool(_SENTENCE_END.search(text[:start])) or not text[:start].strip("\"'([ ")
        is_acronym = len(token) > 1 and token.isupper() and token.isalpha()
        if token[:1].isupper() and (not opens or is_acronym) and token.lower() not in _NO_NAMES:
            names.append(_stem(token.lower()))
    # Days and months are dates.
    names = [name for name in names if name not in known.MONTHS and name not in known.WEEKDAYS]
    return _Reading(text, words, tuple(names), has_case, has_owner, tuple(read_numbers(text)))


_NO_NAMES = known.split("i i'm i've i'd i'll ok what who when where why how which is the a an")


def _stem(word: str) -> str:
    word = word.removesuffix("'s").removesuffix("'")
    return known.ALIASES.get(word, word)


def _counted(sequence: Sequence[str]) -> Counter[str]:
    return Counter(sequence)


def _differ_in_literals(a: _Reading, b: _Reading) -> bool:
    return _literals(a.text) != _literals(b.text)


def _literals(text: str) -> Counter[str]:
    """Quoted text, addresses, code and signs such as A100, which must be the same."""
    quoted = [" ".join(next(filter(None, groups)).lower().split()) for groups in _QUOTED.findall(text)]
    rest = _QUOTED.sub(" ", text)
    found = [match.group().strip().lower().rstrip(".,?!)") for match in _LITERAL.finditer(rest)]
    return Counter(quoted + [one for one in found if one not in known.ALIASES])


def _differ_in_numbers(a: _Reading, b: _Reading) -> bool:
    return _counted(a.numbers) != _counted(b.numbers)


def _differ_in_dates(a: _Reading, b: _Reading) -> bool:
    return _dates(a) != _dates(b)


def _dates(reading: _Reading) -> set[str]:
    found = {word for word in reading.words if word.removesuffix("s") in known.WEEKDAYS}
    for word in reading.words:
        if word in known.MONTHS and (word not in known.WORD_MONTHS or word.capitalize() in reading.text):
            found.add(f"month {known.MONTHS[word]}")
    for month in re.findall(r"\b\d{4}-(\d{2})-\d{2}\b", reading.text):
        found.add(f"month {int(month)}")
    return found


def _differ_in_negation(a: _Reading, b: _Reading) -> bool:
    return (_negations(a) - _negations(b)) % 2 == 1 or _has_prefixed(a, b) or _has_prefixed(b, a)


def _negations(reading: _Reading) -> int:
    count = 0
    for word, following in zip(reading.words, (*reading.words[1:], ""), strict=False):
        if word in known.NEGATORS and not (word == "no" and following in known.INTERJECTION_AFTER_NO):
            count += 1
    return count


def _has_prefixed(a: _Reading, b: _Reading) -> bool:
    """Whether b has a word of a with a prefix that turns its meaning, such as possible and impossible."""
    only = set(b.words) - set(a.words)
    return any(
        len(word) > 3 and f"{prefix}{joint}{word}" in only
        for word in set(a.words) - set(b.words)
        for prefix in known.PREFIXES
        for joint in ("", "-")
    )


def _differ_in_restriction(a: _Reading, b: _Reading) -> bool:
    return bool(known.RESTRICTIONS & set(a.words)) != bool(known.RESTRICTIONS & set(b.words))


def _differ_in_opposites(a: _Reading, b: _Reading) -> bool:
    # Counted, so that of "low" and "high" beside "low" and "low" the second is seen.
    only_a, only_b = _counted(a.words) - _counted(b.words), _counted(b.words) - _counted(a.words)
    return any(
        (one in only_a and other in only_b) or (other in only_a and one in only_b)
        for one, other in known.OPPOSITES
    )


def _differ_in_units(a: _Reading, b: _Reading) -> bool:
    first, second = _units(a), _units(b)
    if not first or not second:
        # "a day" and "daily" are one; 20 % and 20 are not.
        return bool(
            _NUMBERED_UNIT.search(a.text) if first else _NUMBERED_UNIT.search(b.text) if second else None
        )
    if set(first) != set(second):
        return True
    is_directed = any(word in known.DIRECTIONS for word in a.words + b.words)
    return is_directed and len(set(first)) > 1 and list(dict.fromkeys(first)) != list(dict.fromkeys(second))


def _units(reading: _Reading) -> list[str]:
    """Units in order; those of one letter stand after a number alone, others also right behind one, as in 5km."""
    text = reading.text.lower().replace("km/h", "kmh")
    found = [
        known.UNITS[word]
        for word in re.findall(r"°[cf]|[$€£¥₹%]|(?<=\d)[a-z]+|\b[a-z]+(?:/h)?\b", text)
        if word in known.UNITS
    ]
    # A second that is no time, as in "the second one", is a number.
    if "second" in found and re.search(r"\bsecond (?!s\b)[a-z]", text):
        found = [unit for unit in found if unit != "second"]
    return found + [f"{one or other} " for one, other in _SINGLE_UNIT.findall(text)]


def _differ_in_names(a: _Reading, b: _Reading) -> bool:
    """Whether one has a name that stands in the other neither as a name nor as a word."""
    return _lacks_names(a, b) or _lacks_names(b, a)


def _lacks_names(a: _Reading, b: _Reading) -> bool:
    there = " ".join(b.words).replace("-", " ").replace(".", "")
    words = set(there.split())
    for name in a.names:
        parts = name.replace("-", " ").replace(".", "").split()
        if not all(part in words or part.removesuffix("s") in words or f"{part}s" in words for part in parts):
            return True
    return False


def _differ_in_what_is_asked(a: _Reading, b: _Reading) -> bool:
    first, second = _asked(a), _asked(b)
    if first and second:
        return not first & second
    # How many there are, and which ones.
    return ("count" in first and b.words[:1] == ("which",)) or (
        "count" in second and a.words[:1] == ("which",)
    )


@lru_cache(maxsize=4)
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((name, re.compile(rf"\b(?:{'|'.join(phrases)})\b")) for name, phrases in known.ASKED)


def _asked(reading: _Reading) -> set[str]:
    # So many of a unit are a length, a price, a time.
    plain = _NAMED_WHO.sub(" ", reading.text).lower().replace("'s", " is")
    text = _COUNTED_UNITS.sub(" ", plain)
    return {name for name, pattern in _patterns() if pattern.search(text)}


def _differ_in_time(a: _Reading, b: _Reading) -> bool:
    """Whether one speaks of what was and the other of what is or will be."""
    first, second = _tenses(a), _tenses(b)
    return bool(first) and bool(second) and not first & second


def _tenses(reading: _Reading) -> set[str]:
    kinds = {"past": known.PAST, "present": known.PRESENT, "future": known.FUTURE}
    return {name for name, words in kinds.items() if words & set(reading.words)}


def _differ_in_modals(a: _Reading, b: _Reading) -> bool:
    """Whether both begin with a modal verb, of different kinds: can I, should I."""
    first, second = (known.MODALS.get(one.words[0], "") if one.words else "" for one in (a, b))
    return bool(first) and bool(second) and first != second


def _differ_in_order(a: _Reading, b: _Reading) -> bool:
    """Whether two things have changed places, as in from A to B, A than B, A beats B."""
    if known.SYMMETRIC & set(a.words) and known.SYMMETRIC & set(b.words):
        return False
    first, second = _placed_names(a), _placed_names(b)
    if len(set(first) & set(second)) > 1:
        # A passive turns them round: A beat B, B was beaten by A.
        is_turned = _is_passive(a) != _is_passive(b)
        if _order_differs(first, second) != is_turned:
            return True
    if _RANGE.search(a.text) and _RANGE.search(b.text) and _order_differs(a.numbers, b.numbers):
        return True
    roles_a, roles_b = _roles(a), _roles(b)
    # From A to B is to B from A; of A is A's.
    is_moved = "from" in a.words and "from" in b.words and roles_a == roles_b and any(roles_a.values())
    if not is_moved and a.has_owner == b.has_owner and _are_turned(a.content, b.content):
        return True
    shared = set(roles_a) & set(roles_b)
    # One thing has come behind "to" or "than", and another one has left it.
    came = {word for word in shared if roles_a[word] == "" and roles_b[word] != ""}
    left = {word for word in shared if roles_a[word] != "" and roles_b[word] == ""}
    return bool(came) and bool(left)


def _placed_names(reading: _Reading) -> list[str]:
    """Names in order, without those that say where or when."""
    words = reading.words
    before = dict(zip(reversed(words[1:]), reversed(words[:-1]), strict=True))
    return [name for name in dict.fromkeys(reading.names) if before.get(name) not in known.ADJUNCTS]


def _is_passive(reading: _Reading) -> bool:
    """Whether a name stands behind "by"."""
    pairs = zip(reading.words, reading.words[1:], strict=False)
    return any(word == "by" and following in reading.names for word, following in pairs)


def _order_differs(first: Sequence[str], second: Sequence[str]) -> bool:
    shared = set(first) & set(second)
    return [w for w in first if w in shared] != [w for w in second if w in shared]


def _are_turned(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether the same words stand in another order, beyond a single word that has moved."""
    if _counted(first) != _counted(second) or tuple(first) == tuple(second):
        return False
    rest = [([w for w in first if w != word], [w for w in second if w != word]) for word in set(first)]
    return all(one != other for one, other in rest)


def _roles(reading: _Reading) -> dict[str, str]:
    """Content word -> the last word of direction before it; "from" counts as none."""
    roles: dict[str, str] = {}
    role = ""
    for word in reading.words:
        if word in known.DIRECTIONS:
            role = "" if word == "from" else "to" if word == "into" else word
        elif word in known.FUNCTION_WORDS:
            # Articles keep the direction, other function words end it.
            role = role if word in {"the", "a", "an", "my", "your", "its", "their"} else ""
        else:
            roles.setdefault(word, role)
            role = ""
    return roles


Differ = Callable[[_Reading, _Reading], bool]
# In this order; the name is a label of a metric.
RULES: dict[str, Differ] = {
    "literals": _differ_in_literals,
    "numbers": _differ_in_numbers,
    "dates": _differ_in_dates,
    "units": _differ_in_units,
    "negation": _differ_in_negation,
    "restriction": _differ_in_restriction,
    "opposites": _differ_in_opposites,
    "names": _differ_in_names,
    "asked": _differ_in_what_is_asked,
    "time": _differ_in_time,
    "modals": _differ_in_modals,
    "order": _differ_in_order,
}
