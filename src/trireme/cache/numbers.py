"""Numbers of an English text, in digits and in words, as values that compare."""

from __future__ import annotations

import re
from decimal import Context, Decimal, InvalidOperation

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
# Not m, which is a metre more often.
_SHORT_SCALES = {"k": 1_000, "mn": 10**6, "bn": 10**9}
_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fourteenth": 14, "fifteenth": 15,
    "sixteenth": 16, "seventeenth": 17, "eighteenth": 18, "nineteenth": 19, "twentieth": 20, "thirtieth": 30,
    "fortieth": 40, "fiftieth": 50, "sixtieth": 60, "seventieth": 70, "eightieth": 80, "ninetieth": 90,
    "hundredth": 100, "thousandth": 1000,
}  # fmt: skip
_OTHERS = {
    "half": Decimal("0.5"), "dozen": Decimal(12), "double": Decimal(2), "twice": Decimal(2), "triple": Decimal(3),
    "thrice": Decimal(3), "quadruple": Decimal(4),
}  # fmt: skip
_SMALL = {word: value for value, word in enumerate(_ONES)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
# No digit of a text is rounded away: numbers that differ in the last of 30 differ.
_WIDE = Context(prec=10_000)
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}

_TOKEN = re.compile(
    r"(?P<iso>\b\d{4}-\d{2}-\d{2}\b)"
    r"|(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)+|\d+|(?<![\w.])\.\d+)(?P<tail>(?:st|nd|rd|th|s|k|mn|bn)\b)?"
    r"|(?P<roman>(?<=[A-Za-z] )(?-i:[IVXLCDM]{2,}|[IVX])\b)"
    r"|(?P<word>[A-Za-z]+)",
    re.IGNORECASE,
)


def read_numbers(text: str) -> list[str]:
    """The numbers in order, each as text such as 1500, 0.5 or 3 for third; a version such as 3.11.2 as it stands.

    "one" alone is no number, since it mostly is none ("which one"); after a capitalised word Roman numerals count.
    """
    found: list[str] = []
    # The number in words that is being read: its finished part, its open part, and whether there is any.
    words: list[str] = []
    for match in _TOKEN.finditer(text.replace("\u2019", "'")):
        kind = match.lastgroup if match.lastgroup != "tail" else "digits"
        token = match.group(kind or 0)
        lower = token.lower()
        if kind == "word" and (lower in _SMALL or lower in _SCALES or lower in _ORDINALS):
            words.append(lower)
            continue
        if kind == "word" and lower == "and" and words and words[-1] in _SCALES:
            continue
        found += _read_words(words)
        words = []
        if kind == "iso":
            found += [_plain(Decimal(part)) for part in token.split("-")]
        elif kind == "digits":
            value = _digits(token, (match["tail"] or "").lower())
            found.append(value)
        elif kind == "roman":
            if value := _roman(text, match.start(), token):
                found.append(value)
        elif lower in _OTHERS:
            found.append(_plain(_OTHERS[lower]))
    return _join_scales(found + _read_words(words), text)


def _digits(token: str, tail: str) -> str:
    plain = token.replace(",", "")
    if plain.count(".") > 1:
        return plain
    try:
        value = Decimal(plain)
    except InvalidOperation:
        return plain
    return _plain(_WIDE.multiply(value, Decimal(_SHORT_SCALES.get(tail, 1))))


def _plain(value: Decimal) -> str:
    return f"{value.normalize(_WIDE):f}"


def _read_words(words: list[str]) -> list[str]:
    """The numbers that a run of number words says: "two hundred five" is one, "nineteen eighty" two."""
    if not words or words == ["one"]:
        return []
    if set(words) <= set(_SCALES):
        # "a hundred", "millions": a scale by itself, or after digits.
        return [f"x{_SCALES[word]}" for word in words]
    found: list[int] = []
    total, part, last = 0, 0, 0
    for word in words:
        if word in _SCALES:
            scale = _SCALES[word]
            if scale == 100:
                part = max(part, 1) * 100
            else:
                total += max(part, 1) * scale
                part = 0
            last = scale
            continue
        value = _ORDINALS.get(word, _SMALL.get(word, 0))
        # A number ends where what follows cannot be its next, smaller part.
        fits = last == 0 or last >= 100 or (20 <= last < 100 and 0 < value < 10)
        if not fits:
            found.append(total + part)
            total, part = 0, 0
        part += value
        last = value if value else 1
        if word in _ORDINALS:
            found.append(total + part)
            total, part, last = 0, 0, 0
    if total or part or last:
        found.append(total + part)
    return [str(value) for value in found]


def _roman(text: str, start: int, token: str) -> str:
    """The value of a Roman numeral after a capitalised word, "" for what is none, such as the pronoun I."""
    if not token.isupper():
        return ""
    before = text[:start].split()
    previous = before[-1] if before else ""
    opens = len(before) < 2 or before[-2][-1] in ".?!"
    if not previous[:1].isupper() or (len(token) == 1 and opens):
        return ""
    total = 0
    for sign, following in zip(token, token[1:] + " ", strict=True):
        value = _ROMAN[sign]
        total += -value if value < _ROMAN.get(following, 0) else value
    # MIX or DIV are words: a numeral is written as its value is.
    return str(total) if _as_roman(total) == token else ""


def _as_roman(value: int) -> str:
    signs = ((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"),
             (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))  # fmt: skip
    text = ""
    for size, sign in signs:
        count, value = divmod(value, size)
        text += sign * count
    return text


def _join_scales(found: list[str], text: str) -> list[str]:
    """ "5 million" is one number; a scale without a number before it, "a hundred", counts as itself."""
    joined: list[str] = []
    for value in found:
        if not value.startswith("x"):
            joined.append(value)
            continue
        scale = Decimal(value[1:])
        adjoins = re.search(
            r"\d[\d.,]*\s*-?\s*(hundred|thousand|million|billion|trillion)", text, re.IGNORECASE
        )
        if joined and adjoins and joined[-1].replace(".", "", 1).isdigit():
            joined[-1] = _plain(_WIDE.multiply(Decimal(joined[-1]), scale))
        else:
            joined.append(_plain(scale))
    return joined
