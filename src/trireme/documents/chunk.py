"""Cut a document into passages that stand alone and fit the embedder, in constant memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from trireme.documents.blocks import Block, blocks
from trireme.errors import InvalidInputError
from trireme.languages import ENGLISH, LANGUAGE, find_language
from trireme.passage_text import LEAD, SENTENCE_END
from trireme.sentence_ends import sentence_ends
from trireme.types import Document, Passage

# The code of the language that a text is in, "" where it does not tell.
LanguageTeller = Callable[[str], str]
# Tokens of each of several texts, without special tokens.
TokenCounter = Callable[[Sequence[str]], Sequence[int]]

# A document's language is told by so much of its beginning.
TELLING_CHARACTERS = 2000
# Part of what a document's digest should cover: raise it when the same text would give other passages.
CHUNKER_VERSION = 4
MAX_TOKENS = 256
# [CLS] and [SEP].
SPECIAL_TOKENS = 2
OVERLAP_TOKENS = 32
SMALLEST_BUDGET = 16
# A tokenizer sees one token in spaces or in an endless word, however long; a passage stays readable all the same.
MOST_CHARACTERS_PER_TOKEN = 20
# Text that is counted in one call.
BATCH_CHARACTERS = 1 << 15

WORD = re.compile(r"[a-zA-Z]+|\w|[^\w\s]")
SPACED_WORD = re.compile(r"\S+\s*")
SPACED_SENTENCE_END = re.compile(rf"(?:{SENTENCE_END.pattern})\s*")
_SPACES = re.compile(r"\s*")

# A text that is not cut any further, with its size in tokens.
Unit = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Piece:
    """What becomes a passage: the headings above it, the line made of title and headings, its own text."""

    heading: tuple[str, ...]
    lead: str
    body: str


def estimate_tokens(texts: Sequence[str]) -> list[int]:
    """About how many WordPiece tokens each text has, rather too many than too few.

    Five Latin letters to a token; every digit, sign and letter of another script counts as one.
    """
    return [sum((len(word) + 4) // 5 for word in WORD.findall(text)) for text in texts]


def chunk(
    document: Document,
    max_tokens: int = MAX_TOKENS,
    count_tokens: TokenCounter = estimate_tokens,
    tell_language: LanguageTeller | None = None,
) -> Iterator[Passage]:
    """Passages of at most about `max_tokens` tokens, cut at headings, paragraphs and sentences, in that order.

    Each starts with its title and headings and repeats the end of the one before; words are never cut, unless
    one alone is too long. Ids are `<document id>#<number>`; metadata holds source, title, heading, position,
    and what the document brings, which wins where it has one of these names; and LEAD (see passage_text).
    A whole document becomes one passage under its own id. tell_language: tells the language of the document by its
    beginning, where the document does not bring it; metadata has it as LANGUAGE, and sentences end by its rules.
    Without it they end as in English. Reads the document's parts as it goes and raises what they raise; the same
    text gives the same passages wherever its parts end.
    """
    if max_tokens < 2 * SMALLEST_BUDGET:
        raise InvalidInputError(f"max_tokens must be at least {2 * SMALLEST_BUDGET}, got {max_tokens}")
    language = ""
    if tell_language is not None:
        beginning, document = _peek(document)
        language = find_language(str(document.extra.get(LANGUAGE, ""))) or tell_language(beginning)
    if document.whole:
        yield _passage(document, document.id, _Piece((), document.title, document.text), 0, language)
        return
    for position, piece in enumerate(_pieces(document, max_tokens, count_tokens, language)):
        yield _passage(document, f"{document.id}#{position}", piece, position, language)


def _peek(document: Document) -> tuple[str, Document]:
    """The beginning of a document's text, with its title, and the document with its parts unread."""
    parts = iter(document.parts)
    read: list[str] = []
    while sum(map(len, read)) < TELLING_CHARACTERS and (part := next(parts, None)) is not None:
        read.append(part)
    beginning = f"{document.title}\n{''.join(read)[:TELLING_CHARACTERS]}"
    return beginning, replace(document, parts=chain(read, parts))


def _passage(document: Document, key: str, piece: _Piece, position: int, language: str) -> Passage:
    lead, body = piece.lead.strip(), piece.body.strip()
    text = "\n".join(part for part in (lead, body) if part)
    # What the document brings wins: it is what its owner filters by.
    metadata = {
        "source": document.source,
        "title": document.title,
        "heading": " > ".join(piece.heading),
        "position": position,
        **({LANGUAGE: language} if language else {}),
        **document.extra,
        LEAD: len(text) - len(body) if body else 0,
    }
    return Passage(key, text, json.dumps(metadata, ensure_ascii=False))


def _pieces(
    document: Document, max_tokens: int, count_tokens: TokenCounter, language: str
) -> Iterator[_Piece]:
    """The passages, in order."""
    number, lead = -1, ""
    heading: tuple[str, ...] = ()
    packer = _Packer(0)
    for batch in _batches(blocks(document.parts)):
        sentences = iter(_count(batch, count_tokens, language))
        for block, units in zip(batch, sentences, strict=True):
            if block.section != number:
                yield from (_Piece(heading, lead, body) for body in packer.close())
                number, heading = block.section, block.heading
                lead = _lead(document.title, heading, max_tokens // 4, count_tokens)
                packer = _Packer(max_tokens - SPECIAL_TOKENS - count_tokens([lead])[0])
            short = _short_units(units, packer.budget, count_tokens)
            if short and block.ends_paragraph:
                last, size = short[-1]
                short[-1] = last.rstrip() + "\n\n", size
            yield from (_Piece(heading, lead, body) for body in packer.add(short))
    yield from (_Piece(heading, lead, body) for body in packer.close())


def _batches(found: Iterable[Block]) -> Iterator[list[Block]]:
    """As many blocks as are counted in one call."""
    batch: list[Block] = []
    size = 0
    for block in found:
        batch.append(block)
        size += len(block.text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _count(batch: Sequence[Block], count_tokens: TokenCounter, language: str) -> Iterator[list[Unit]]:
    """The sentences of each block with the white space after them, and their sizes."""
    sentences = [_sentences(block.text, language) for block in batch]
    units = iter(_measure([text for texts in sentences for text in texts], count_tokens))
    for texts in sentences:
        yield [next(units) for _ in texts]


def _measure(texts: Sequence[str], count_tokens: TokenCounter) -> list[Unit]:
    sizes = count_tokens(texts)
    return [
        (text, max(size, len(text) // MOST_CHARACTERS_PER_TOKEN))
        for text, size in zip(texts, sizes, strict=True)
    ]


def _sentences(text: str, language: str) -> list[str]:
    if language in ("", ENGLISH):
        ends = [found.end() for found in SPACED_SENTENCE_END.finditer(text)]
    else:
        ends = [_SPACES.match(text, end).end() for end in sentence_ends(text, language)]  # type: ignore[union-attr]
    starts = [0, *ends]
    return [text[start:end] for start, end in zip(starts, [*ends, len(text)], strict=True) if text[start:end]]


def _short_units(units: list[Unit], budget: int, count_tokens: TokenCounter) -> list[Unit]:
    """The same text; what is over `budget` as words, such words as characters."""
    if all(size <= budget for _, size in units):
        return units
    short: list[Unit] = []
    for text, size in units:
        if size <= budget:
            short.append((text, size))
            continue
        for word, word_size in _measure(SPACED_WORD.findall(text), count_tokens):
            if word_size <= budget:
                short.append((word, word_size))
            else:
                short += [(sign, max(size, 1)) for sign, size in _measure(list(word), count_tokens)]
    return short


def _lead(title: str, heading: tuple[str, ...], budget: int, count_tokens: TokenCounter) -> str:
    """Title and headings on one line, without the outer ones where all would take too much of a passage."""
    parts = [part for part in dict.fromkeys((title, *heading)) if part]
    while len(parts) > 1 and count_tokens([" > ".join(parts)])[0] > budget:
        del parts[0]
    text = " > ".join(parts)
    if not text or _measure([text], count_tokens)[0][1] <= budget:
        return text
    packer = _Packer(budget, overlap=0)
    units = _short_units(_measure([text], count_tokens), packer.budget, count_tokens)
    return next(chain(packer.add(units), packer.close()), "")


class _Packer:
    """Fills pieces with units in order; each starts with the last units of the one before, up to `overlap`."""

    def __init__(self, budget: int, overlap: int = OVERLAP_TOKENS) -> None:
        self.budget = max(budget, SMALLEST_BUDGET)
        self._overlap = min(overlap, self.budget // 4)
        self._piece: list[Unit] = []
        self._used = 0

    def add(self, units: Iterable[Unit]) -> Iterator[str]:
        """The pieces that are full."""
        for unit in units:
            size = unit[1]
            if self._piece and self._used + size > self.budget:
                yield from self._text()
                self._piece = _tail(self._piece, min(self._overlap, self.budget - size))
                self._used = sum(tokens for _, tokens in self._piece)
            self._piece.append(unit)
            self._used += size

    def close(self) -> Iterator[str]:
        """The last piece, unless there is nothing in it."""
        yield from self._text()
        self._piece, self._used = [], 0

    def _text(self) -> Iterator[str]:
        text = "".join(text for text, _ in self._piece).strip()
        if text:
            yield text


def _tail(piece: list[Unit], overlap: int) -> list[Unit]:
    kept: list[Unit] = []
    for unit in reversed(piece[1:]):
        overlap -= unit[1]
        if overlap < 0:
            break
        kept.append(unit)
    return kept[::-1]
