"""The words of passages and queries as PostgreSQL takes them: plain ones it stems, others it keeps as they are.

Its own parser is given single words of ASCII alone, so that neither its rules for paths and addresses nor the
database's locale decide what is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from trireme.postgres.configurations import DEFAULT
from trireme.retrieve.words import MOST_REPEATS, is_gram, passage_words, query_words


def passage_columns(text: str, configuration: str = DEFAULT) -> tuple[str, str]:
    """Words for trireme.read_passage, and the text of a tsvector; joined they are the words of a passage."""
    words = passage_words(text)
    is_english = configuration == DEFAULT
    kept = words.exact if is_english else Counter({w: n for w, n in words.exact.items() if is_gram(w)})
    exact = kept + Counter({word: n for word, n in words.compounds.items() if not _is_plain(word)})
    natural = words.plain if is_english else words.spelled
    plain = [*natural, *(word for word in words.compounds.elements() if _is_plain(word))]
    return " ".join(plain), " ".join(_with_places(word, count) for word, count in exact.items())


def query_columns(text: str) -> dict[str, Any]:
    """The parameters of trireme.match_text that are words."""
    words = query_words(text)
    return {
        "plain": " ".join(words.plain),
        "exact": list(words.exact),
        "plain_compounds": " ".join(filter(_is_plain, words.compounds)),
        "compounds": [word for word in words.compounds if not _is_plain(word)],
        "spelled": words.spelled,
        "grams": list(filter(is_gram, words.exact)),
    }


def _is_plain(word: str) -> bool:
    return word.isascii() and word.isalnum()


def _with_places(word: str, count: int) -> str:
    quoted = word.replace("\\", "\\\\").replace("'", "''")
    return f"'{quoted}':{_places(count)}"


def _places(count: int) -> str:
    # How often a word occurs is how many places it has; which ones nobody asks.
    numbers: Iterable[int] = range(1, min(count, MOST_REPEATS) + 1)
    return ",".join(map(str, numbers))
