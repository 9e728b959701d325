"""The prompt of a generated answer: a template file, with the passages as quoted data."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trireme.errors import SettingError
from trireme.rag.sentences import split_sentences

PROMPT_FILE = "prompt.toml"
# About 256 tokens of English, the longest passage that ingest makes.
PASSAGE_CHARACTERS = 1200

_PLACES = {"system": (), "passage": ("number", "text"), "user": ("passages", "question")}
_TAG = re.compile(r"<(?=\s*/?\s*passage\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """`passage` is written once for each passage, with {number} and {text}; `user` has {passages} and {question}.

    `system` has no placeholder: it comes first and is the same for all, so that engines share its prefix.
    """

    system: str
    passage: str
    user: str


def read_prompt(path: Path) -> PromptTemplate:
    """The template in a TOML file. Raises SettingError naming file and key."""
    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingError(f"{path} does not exist; a model of kind rag needs a {PROMPT_FILE}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is not valid TOML: {error}") from None
    for key in keys:
        if key not in _PLACES:
            raise SettingError(f"{path}: unknown key {key!r}; known keys: {', '.join(_PLACES)}")
    for key, places in _PLACES.items():
        if not isinstance(keys.get(key), str):
            raise SettingError(f"{path}: set {key} to a text")
        for place in places:
            if keys[key].count(f"{{{place}}}") != 1:
                raise SettingError(f"{path}: {key} must have the placeholder {{{place}}} once")
    return PromptTemplate(**keys)


def write_messages(template: PromptTemplate, question: str, passages: Sequence[str]) -> list[dict[str, str]]:
    """Chat messages with the passages numbered from 1. Passage tags inside of texts lose their meaning. Pure."""
    quoted = "".join(
        _fill(template.passage, {"number": str(number), "text": _disarm(cut_passage(text))})
        for number, text in enumerate(passages, 1)
    )
    user = _fill(template.user, {"passages": quoted, "question": _disarm(question.strip())})
    return [{"role": "system", "content": template.system}, {"role": "user", "content": user}]


def cut_passage(text: str, most: int = PASSAGE_CHARACTERS) -> str:
    """The text, or as many of its first sentences as fit into `most` characters, or that many characters."""
    if len(text) <= most:
        return text
    ends = [sentence.end for sentence in split_sentences(text) if sentence.end <= most]
    return text[: ends[-1] if ends else most]


def _fill(template: str, values: dict[str, str]) -> str:
    # In one pass: a placeholder inside of a text is text.
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), template)


def _disarm(text: str) -> str:
    return _TAG.sub("&lt;", text)
