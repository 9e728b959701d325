"""The chance that the passages found hold an answer: two measures of what was found, one logistic function."""

from __future__ import annotations

import math
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from trireme.errors import SettingError
from trireme.rag.citations import content_words
from trireme.types import Hit

RELEVANCE_FILE = "relevance.toml"
# Of a question's rare words, no more are counted as missing: long questions would be refused for their length.
MOST_MISSING = 3
_NUMBERS = ("bias", "sentence", "missing")
_KEYS = (*_NUMBERS, "common_words")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
# Scripts that set no space between words: Thai to Khmer, kana, Chinese characters.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True, slots=True)
class RelevanceModel:
    """A fitted file: a logistic of bias + sentence * (best sentence's score) + missing * (rare words it lacks).

    common_words: stems. A word of a question that is none of them is rare, and so is a number, and a word that has
    a capital letter and is not the first. Such words name what is asked for.
    """

    bias: float
    sentence: float
    missing: float
    common_words: frozenset[str]

    def chance(self, score: float, missing: int) -> float:
        """The chance in [0, 1] that there is an answer; none where the score is no number. Pure.

        score: the reranker's, of the best sentence. missing: as `count_missing` counts.
        """
        logit = self.bias + self.sentence * score + self.missing * missing
        if math.isnan(logit):
            return 0.0
        # Beyond this, exp would overflow.
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))

    def count_missing(self, question: str, passage: Hit) -> int:
        """How many rare words of the question the passage lacks, headings included, at most MOST_MISSING. Pure."""
        return min(MOST_MISSING, len(self.rare_words(question) - _stems(passage.text)))

    def rare_words(self, question: str) -> frozenset[str]:
        """The stems of the words that name what is asked for. Pure."""
        found: set[str] = set()
        for position, word in enumerate(_WORD.findall(unicodedata.normalize("NFC", question))):
            is_name = position > 0 and any(letter.isupper() for letter in word)
            for stem in _stems(word):
                if is_name or stem not in self.common_words or any(letter.isdigit() for letter in stem):
                    found.add(stem)
        return frozenset(found)


def read_relevance(path: Path) -> RelevanceModel:
    """The file as it was fitted. Raises SettingError naming file and key."""
    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingError(f"{path} does not exist; a model of kind rag needs a {RELEVANCE_FILE}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is not valid TOML: {error}") from None
    for key in keys:
        if key not in _KEYS:
            raise SettingError(f"{path}: unknown key {key!r}; known keys: {', '.join(_KEYS)}")
    words = keys.get("common_words")
    if not isinstance(words, str):
        raise SettingError(f"{path}: set common_words to a text")
    bias, sentence, missing = (_read_number(path, keys, key) for key in _NUMBERS)
    return RelevanceModel(bias, sentence, missing, frozenset(words.split()))


def _read_number(path: Path, keys: Mapping[str, Any], key: str) -> float:
    value = keys.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SettingError(f"{path}: {key} must be a number, got {value!r}")
    return float(value)


def _stems(text: str) -> frozenset[str]:
    """Of the content words; of scripts without spaces, pairs of neighbouring letters."""
    found: set[str] = set()
    for word in content_words(text):
        if len(word) > 1 and _UNSPACED.search(word):
            found.update(map("".join, pairwise(word)))
        else:
            found.add(word)
    return frozenset(found)
