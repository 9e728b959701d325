"""What a stored passage says of itself: its source, the headings above it, its sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import itemgetter

from trireme.languages import LANGUAGE, find_language
from trireme.passage_text import document_of, find_lead, read_metadata
from trireme.rag.sentences import Sentence, split_sentences
from trireme.types import Hit


def source_of(passage: Hit) -> str:
    """The file or document a passage came from, its id where its metadata does not say."""
    source = read_metadata(passage.metadata).get("source")
    return passage.id if source is None else str(source)


def document_id_of(passage: Hit) -> str:
    """The id of the document that a passage was cut from."""
    return document_of(passage.id, passage.metadata)


def find_context(passage: Hit) -> str:
    """The title and headings that stand before the passage's own text; empty where none do."""
    return passage.text[: find_lead(passage.text, passage.metadata)].removesuffix("\n")


def sentences_of(passage: Hit) -> list[Sentence]:
    """The sentences below its headings; of a passage that has nothing below them, these."""
    begin, language = find_lead(passage.text, passage.metadata), language_of(passage)
    return split_sentences(passage.text, begin, language) or split_sentences(passage.text, language=language)


def language_of(*passages: Hit) -> str:
    """The code of the language that most of the passages say they are in; "" where none says."""
    said = (find_language(str(read_metadata(passage.metadata).get(LANGUAGE, ""))) for passage in passages)
    return max(Counter(said).items(), key=itemgetter(1), default=("", 0))[0]


def find_openings(passages: Sequence[Hit]) -> set[int]:
    """Positions of the passages that open their section, as far as these passages tell.

    A long section is stored as several passages in a row; one whose predecessor is here goes on.
    """
    sections = [read_metadata(passage.metadata) for passage in passages]
    places = [(one.get("source"), one.get("heading"), one.get("position")) for one in sections]
    found = set()
    for position, (source, heading, number) in enumerate(places):
        earlier = [
            other
            for other_source, other_heading, other in places
            if (other_source, other_heading) == (source, heading)
            and isinstance(other, int)
            and isinstance(number, int)
            and other < number
        ]
        if not earlier:
            found.add(position)
    return found
