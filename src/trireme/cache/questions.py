"""Which texts may be answered from the semantic cache at all: English, and the same for everybody at any time."""

from __future__ import annotations

import re

from trireme.cache.rules import is_readable
from trireme.cache.words import split

# Longer ones say more than a vector of a question holds, and most do not fit into the embedder's window.
MOST_CHARACTERS = 1_000
LEAST_WORDS = 3

# The one list of what ties an answer to who asks, or to when.
PERSONAL = split(
    "my mine myself our ours ourselves i'm i've i'd i'll we're we've we'd we'll im ive"  # the caller
)
TIMELY = split(
    "today today's tonight tomorrow yesterday now nowadays currently current latest newest recent recently "
    "upcoming ago still yet lately soon presently ongoing weather forecast news headlines"
)
# What is asked in order to get something else than last time.
VARIED = split("random randomly another again else surprise joke poem story continue different creative")

_PHRASES = (
    ("personal", r"\b(?:am i|i am|i was|i were|i have|i had|i live|i work|i feel|i got|i bought|i own|i need"
                 r"|i want)\b"),
    ("personal", r"\b(?:near|around|about|for|to|remind|between) (?:me|us)\b|\bwho (?:i|we) (?:am|are)\b"),
    ("timely", r"\b(?:this|next|last|past|coming) (?:second|minute|hour|day|morning|afternoon|evening|night|week"
               r"|weekend|month|quarter|season|year|decade|time|monday|tuesday|wednesday|thursday|friday|saturday"
               r"|sunday)s?\b"),
    ("timely", r"\b(?:right now|these days|so far|at the moment|at present|up to date|until now|as of)\b"),
    ("timely", r"\b(?:what time is it|what day is it|what is the (?:time|date)|what's the (?:time|date)"
               r"|stock price|share price|exchange rate|price of (?:bitcoin|gold|oil))\b"),
    ("timely", r"\bin (?:the )?(?:next|last|past|coming)\b"),
)  # fmt: skip
_PATTERNS = tuple((name, re.compile(pattern)) for name, pattern in _PHRASES)
_TELLING = re.compile(r"\b(?:tell|explain to|give|show|teach|help|let|remind) (?:me|us)\b|\babout us\b(?=\?)")
_WORD = re.compile(r"[\w']+")


def find_obstacle(text: str) -> str:
    """Why a text is not for the semantic cache, in a word for metrics; "" if it is."""
    if len(text) > MOST_CHARACTERS:
        return "long"
    plain = text.lower().replace("\u2019", "'")
    words = _WORD.findall(plain)
    if len(words) < LEAST_WORDS:
        return "short"
    if not is_readable(text):
        return "language"
    named = set(words)
    for name, listed in (("personal", PERSONAL), ("timely", TIMELY), ("varied", VARIED)):
        if named & listed:
            return name
    plain = _TELLING.sub(" ", plain)
    return next((name for name, pattern in _PATTERNS if pattern.search(plain)), "")
