"""The words of a text: what full text finds a passage by, read in one way from passages and queries.

NFKC, case folding, and no invisible characters, so that what looks the same is the same. Compounds
("client/server", "settings.toml", "2.51") give their parts and themselves. Scripts that write no spaces give
n-grams. docs/retrieval.md says what finds what; texts that are shown stay as they were.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from trireme.retrieve.scripts import (
    APOSTROPHES,
    CIRCLED,
    HYPHENS,
    INVISIBLE,
    JOINT,
    LETTERS_ALIKE,
    OPTIONAL_MARKS,
    PERSIAN_JOINT,
    SIGNS_OF_TRADE,
    SLASHES,
    SUPERSCRIPTS,
    VULGAR_FRACTIONS,
    gram_size,
    mark_ranges,
    spaceless_ranges,
)

# Read of a passage; and of a query.
PASSAGE_CHARACTERS = 100_000
QUERY_CHARACTERS = 20_000
# PostgreSQL keeps 1 MB of words with a text; each has some bytes beside its letters.
WORDS_BYTES = 900_000
WORD_OVERHEAD = 8
PLACE_BYTES = 2
# More of the same adds nothing to a ranking.
MOST_REPEATS = 16
# PostgreSQL's limit of a word, and ours of a compound: what is longer is a blob, and nobody types it.
WORD_BYTES = 2046
COMPOUND_CHARACTERS = 200

# What may stand inside a compound, besides letters, digits and marks. Signs after a letter end a name, as in C++.
_JOINERS = r"./\\\-:@+#&=?~%" + JOINT
_ASCII_CHUNK = re.compile(rf"[\w{_JOINERS}]+", re.ASCII)
# Between the parts of a path or an address; a sign stays with what is before it.
_OUTER = re.compile(r"[/\\:@&=?~%]+|(?<=[+#])(?=[^\W_])")
_INNER = re.compile(rf"[{JOINT}._\-+#]+")
_ENDS = "./\\-:@&=?~%_" + JOINT
_SIGNED = re.compile(r"[^\W\d_]+[+#]+")


@dataclass(slots=True)
class Words:
    """What a text is found by. Words are folded: lower case, NFKC, without accents.

    plain: those of ASCII letters and digits, in order, which a store may stem as English and whose commonest it
    may leave out. exact: words of other letters, and n-grams, with how often they occur. compounds: what is
    found by its parts too: names, paths, versions, and words with their accents. They sharpen a ranking; a
    passage that has the parts alone holds the query's words all the same. spelled: all words of scripts that
    write spaces, in order, with their accents, for a store that stems by another language than English.
    """

    plain: list[str] = field(default_factory=list)
    exact: Counter[str] = field(default_factory=Counter)
    compounds: Counter[str] = field(default_factory=Counter)
    spelled: list[str] = field(default_factory=list)


def passage_words(text: str) -> Words:
    """The words to index `text` by: of its first 100,000 characters, as many as an index entry holds."""
    return _Reader(is_query=False).read(text[:PASSAGE_CHARACTERS])


def query_words(text: str) -> Words:
    """The words to look for, of the first 20,000 characters of a query."""
    return _Reader(is_query=True).read(text[:QUERY_CHARACTERS])


def is_gram(word: str) -> bool:
    """Whether a word of Words.exact is letters of a script without spaces, of which there is no spelled one."""
    return _spaceless_pattern().match(word) is not None


def fold(text: str) -> str:
    """`text` as words are compared: NFKC, case folded, without invisible characters. Accents stay."""
    if text.isascii():
        return text.lower()
    text = _prepare(text)
    text = unicodedata.normalize("NFKD", text).casefold()
    text = _APOSTROPHES.sub("'", _HYPHENS.sub("-", _SLASHES.sub("/", text)))
    text = _OTHER_DIGITS.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    return unicodedata.normalize("NFKC", text)


def _prepare(text: str) -> str:
    """What NFKC would glue to its neighbours is set apart: it has lost its place when it is a plain letter."""
    text = _BROKEN_WORD.sub("", text)
    text = _PERSIAN_JOINT.sub(JOINT, text)
    text = _INVISIBLE.sub("", text)
    text = _SIGNS_OF_TRADE.sub(" ", text)
    text = _APART.sub(r" \g<0> ", text)
    text = _heap_pattern().sub(r"\1", text)
    return _SUPERSCRIPTS.sub(JOINT + r"\g<0>", text)


# A soft hyphen that is seen, at the end of a line.
_BROKEN_WORD = re.compile(r"\u00ad[^\S\n]*\n[^\S\n]*")
_PERSIAN_JOINT = re.compile(PERSIAN_JOINT)
_INVISIBLE = re.compile(f"[{INVISIBLE}]+")
_SIGNS_OF_TRADE = re.compile(f"[{SIGNS_OF_TRADE}]")
_APART = re.compile(f"[{VULGAR_FRACTIONS}{CIRCLED}]")
_SUPERSCRIPTS = re.compile(f"[{SUPERSCRIPTS}]+")
_APOSTROPHES = re.compile(f"[{APOSTROPHES}]")
_HYPHENS = re.compile(f"[{HYPHENS}]")
_SLASHES = re.compile(f"[{SLASHES}]")
_OTHER_DIGITS = re.compile(r"(?![0-9])\d")
_OPTIONAL_MARKS = re.compile(OPTIONAL_MARKS)
_LETTERS_ALIKE = str.maketrans(LETTERS_ALIKE)


@cache
def _chunk_pattern() -> re.Pattern[str]:
    r"""As _ASCII_CHUNK, of all scripts. \w lacks the marks, without which Hindi falls apart."""
    return re.compile(rf"[\w{mark_ranges()}{_JOINERS}]+")


@cache
def _heap_pattern() -> re.Pattern[str]:
    """More marks on one letter than the 30 of Unicode's stream-safe text: normalizing takes the square of them."""
    return re.compile(f"([{mark_ranges()}]{{30}})[{mark_ranges()}]+")


@cache
def _run_pattern() -> re.Pattern[str]:
    """Runs of a script without spaces, or of anything else."""
    return re.compile(f"([{spaceless_ranges()}]+)|[^{spaceless_ranges()}]+")


@cache
def _spaceless_pattern() -> re.Pattern[str]:
    return re.compile(f"[{spaceless_ranges()}]")


@cache
def _letter_pattern() -> re.Pattern[str]:
    """One letter of a script without spaces, with its marks and what is stacked below it."""
    marks = mark_ranges()
    return re.compile(rf"[^{marks}][{marks}]*(?:(?<=[\u1039\u17d2\u1a60])[^{marks}][{marks}]*)*|[{marks}]+")


class _Reader:
    """Collects the words of one text, as long as there is room."""

    def __init__(self, *, is_query: bool) -> None:
        self._is_query = is_query
        self._words = Words()
        self._known: set[str] = set()
        self._room = WORDS_BYTES

    def read(self, text: str) -> Words:
        folded = fold(text)[: 2 * PASSAGE_CHARACTERS]
        chunks = _ASCII_CHUNK if folded.isascii() else _chunk_pattern()
        for chunk in chunks.findall(folded):
            if chunk.isascii() and chunk.isalnum():
                self._add_plain(chunk, chunk)
            else:
                self._read_chunk(chunk)
        return self._words

    def _read_chunk(self, chunk: str) -> None:
        core = chunk.lstrip(_ENDS + "+#").rstrip(_ENDS)
        segments = [part for part in _OUTER.split(core) if part]
        if len(segments) > 1:
            self._add_compound(core.replace(JOINT, ""))
        for segment in segments:
            self._read_segment(segment)

    def _read_segment(self, segment: str) -> None:
        if _SIGNED.fullmatch(segment):
            self._add_compound(segment)
        segment = segment.strip(_ENDS + "+#")
        parts = [part for part in _INNER.split(segment) if part]
        if len(parts) > 1:
            self._add_compound(_whole(segment, parts))
        for part in parts:
            self._read_part(part)

    def _read_part(self, part: str) -> None:
        if part.isascii():
            self._add_word(part)
            return
        for run in _run_pattern().finditer(part):
            if run[1]:
                for gram in self._grams(_letter_pattern().findall(run[0])):
                    self._add(self._words.exact, gram)
            else:
                self._add_word(run[0])

    def _grams(self, letters: list[str]) -> Iterator[str]:
        """Neighbouring letters: of passages all shorter ones too, for queries that are as short."""
        longest = min(len(letters), gram_size(letters[0]))
        for size in range(longest if self._is_query else 1, longest + 1):
            yield from map("".join, zip(*(letters[start:] for start in range(size)), strict=False))

    def _add_word(self, word: str) -> None:
        plain = word if word.isascii() else without_accents(word)
        if plain != word:
            self._add_compound(word)
        if plain.isascii():
            self._add_plain(plain, word)
        elif self._add(self._words.exact, plain):
            self._words.spelled.append(word)

    def _add_plain(self, plain: str, word: str) -> None:
        if plain and self._has_room(plain):
            self._words.plain.append(plain)
            self._words.spelled.append(word)

    def _add_compound(self, text: str) -> None:
        # Pairs of letters find those of scripts without spaces, whose colon or slash joins whole sentences.
        is_blob = len(text) > COMPOUND_CHARACTERS
        if not is_blob and (text.isascii() or not _spaceless_pattern().search(text)):
            self._add(self._words.compounds, text)

    def _add(self, where: Counter[str], word: str) -> bool:
        has_place = where[word] < MOST_REPEATS and self._has_room(word)
        if has_place:
            where[word] += 1
        return has_place

    def _has_room(self, word: str) -> bool:
        """Takes the room of one more place of the word, where there is that much."""
        size = PLACE_BYTES
        if word not in self._known:
            letters = len(word.encode())
            size += letters + WORD_OVERHEAD
            if letters > WORD_BYTES:
                return False
        if self._room < size:
            return False
        self._room -= size
        self._known.add(word)
        return True


def _whole(segment: str, parts: list[str]) -> str:
    """A compound as one word: "e-mail" as email and "U.S." as us, but "settings.toml", "1-24" as they are."""
    joints = set(segment) - set("".join(parts))
    if joints <= {"-", JOINT} and not all(part.isdecimal() for part in parts):
        return "".join(parts)
    if joints == {"."} and all(len(part) == 1 and part.isalpha() for part in parts):
        return "".join(parts)
    return segment.replace(JOINT, "^")


def without_accents(word: str) -> str:
    """The word without what people leave out when they type; its letters stay apart from all others."""
    bare = _OPTIONAL_MARKS.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", bare).translate(_LETTERS_ALIKE)
