"""Characters that full text treats in their own way, as Unicode and the scripts' users define them."""

from __future__ import annotations

import unicodedata
from functools import cache

# Stands where a reader sees a break or none: words around it are found apart and together.
JOINT = "\x1f"

# Default_Ignorable_Code_Point of Unicode: soft hyphen, zero-width space and joiner, directions, variants, fillers.
INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# The non-joiner parts prefixes and suffixes in Persian, which others write together, or with a space.
_ARABIC = "\u0620-\u064a\u066e-\u06d3\u06fa-\u06ff\u0750-\u077f"
PERSIAN_JOINT = f"(?<=[{_ARABIC}])\u200c+(?=[{_ARABIC}])"

# NFKC makes letters and digits of these, which would become part of the word beside them.
SIGNS_OF_TRADE = "\u2120\u2122"
VULGAR_FRACTIONS = "\u00bc-\u00be\u2150-\u215f\u2189"
CIRCLED = "\u2460-\u24ff\u2776-\u2793"
SUPERSCRIPTS = "\u00aa\u00b2\u00b3\u00b9\u00ba\u2070-\u207f"

# After NFKD. Apostrophes part words; hyphens and slashes join compounds.
APOSTROPHES = "\u02bb-\u02bd\u2018\u2019"
HYPHENS = "\u058a\u05be\u1806\u2010\u2011\u30a0"
SLASHES = "\u2044\u2215"

# Marks that people leave out, by what they stand on: accents of Latin and Greek, the stress and the diaeresis of
# Russian, points and vowel signs of Hebrew and Arabic, and the stretching of Arabic. After NFD.
OPTIONAL_MARKS = (
    "(?<=[a-z\u00df-\u02af\u0370-\u03ff\u1d00-\u1dbf])[\u0300-\u036f]+"
    "|(?<=[\u0430\u0435\u0438\u043e\u0443\u044b\u044d\u044e\u044f])[\u0300\u0301]+|(?<=\u0435)\u0308"
    "|[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u0652\u0670\u20d0-\u20ff]+"
)
# Latin letters whose plain form Unicode does not give, and Arabic ones that people or Persian write otherwise.
LETTERS_ALIKE = {
    "\u00e6": "ae",
    "\u00f0": "d",
    "\u00f8": "o",
    "\u00fe": "th",
    "\u0111": "d",
    "\u0131": "i",
    "\u0142": "l",
    "\u0153": "oe",
    "\u0622": "\u0627",
    "\u0623": "\u0627",
    "\u0625": "\u0627",
    "\u0649": "\u064a",
    "\u06a9": "\u0643",
    "\u06cc": "\u064a",
}

# Chinese, Japanese, Korean (whose words end in particles), Yi; Thai, Lao, Burmese, Khmer and their neighbours.
SPACELESS = (
    (0x0E01, 0x0E3A),
    (0x0E40, 0x0E4E),
    (0x0E81, 0x0ECE),
    (0x0EDC, 0x0EDF),
    (0x1000, 0x103F),
    (0x1050, 0x108F),
    (0x109A, 0x109D),
    (0x1100, 0x11FF),
    (0x1780, 0x17D3),
    (0x17D7, 0x17D7),
    (0x17DC, 0x17DD),
    (0x1950, 0x19CF),
    (0x1A20, 0x1A7C),
    (0x2E80, 0x2FDF),
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3031, 0x3035),
    (0x303B, 0x303B),
    (0x3041, 0x309A),
    (0x309D, 0x309F),
    (0x30A1, 0x30FA),
    (0x30FC, 0x30FF),
    (0x3105, 0x312F),
    (0x31A0, 0x31BF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA000, 0xA48C),
    (0xA960, 0xA97F),
    (0xA980, 0xA9C0),
    (0xA9E0, 0xA9EF),
    (0xA9FA, 0xA9FE),
    (0xAA60, 0xAA7F),
    (0xAA80, 0xAAC2),
    (0xAC00, 0xD7A3),
    (0xD7B0, 0xD7FB),
    (0xF900, 0xFAFF),
    (0x1AFF0, 0x1B16F),
    (0x20000, 0x3FFFD),
)
# Marks beyond are invisible, above.
_LAST_MARK = 0x1FFFF


def spaceless_ranges() -> str:
    """The letters and marks of scripts without spaces, for a set of a regular expression."""
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in SPACELESS)


def gram_size(letter: str) -> int:
    """How many letters of its script stand for a word: two ideographs or syllables, else three."""
    return 3 if letter < "\u1100" or "\u1200" <= letter < "\u2e80" else 2


@cache
def mark_ranges() -> str:
    r"""All combining marks (categories Mn, Mc, Me), which \w lacks, for a set of a regular expression."""
    ranges: list[list[int]] = []
    for code in range(0x300, _LAST_MARK):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
