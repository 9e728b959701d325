"""By which of PostgreSQL's text search configurations the words of a language are read."""

from __future__ import annotations

from trireme.languages import AUTO, ENGLISH, LANGUAGE, LANGUAGES, find_language
from trireme.metadata import read_json

# Those of Snowball in PostgreSQL, by the code of their language; each has the language's English name.
SNOWBALL = frozenset(
    "ar ca da de el en es et eu fi fr ga hi hu hy id it lt ne nl no pt ro ru sr sv ta tr yi".split()  # noqa: SIM905
)
# Its dictionary gives words back as they are.
SIMPLE = "simple"
DEFAULT = LANGUAGES[ENGLISH].name
# Of languages whose texts hold English words, which nothing else is written like in them.
ENGLISH_LATIN = frozenset(("arabic", "armenian", "greek", "hindi", "nepali", "russian", "tamil", "yiddish"))


def configuration_of(language: str) -> str:
    """The configuration of a language's code; of none ("") English, as everything was read before.

    Languages without a stemmer are not read as another one's. Where their letters are not Latin, words of Latin
    letters are English ones.
    """
    known = LANGUAGES.get(language)
    if known is None:
        return DEFAULT
    if language in SNOWBALL:
        return known.name
    return SIMPLE if known.is_latin else DEFAULT


def passage_configuration(language: str, metadata: str) -> str:
    """The configuration of a passage in a collection of `language`: AUTO is by the passage's own metadata."""
    return configuration_of(language if language != AUTO else passage_language(metadata))


def passage_language(metadata: str) -> str:
    """The code of the language that a passage's metadata names, "" where it names none."""
    if LANGUAGE not in metadata:
        return ""
    found = read_json(metadata)
    value = found.get(LANGUAGE) if isinstance(found, dict) else None
    return find_language(value) if isinstance(value, str) else ""
