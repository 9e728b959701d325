"""What a stored passage says of itself: its source, the headings above it, its sentences."""

from __future__ import annotations

import json
from collections.abc import Sequence

from trireme.rag.sentences import Sentence, split_sentences
from trireme.types import Hit


def source_of(passage: Hit) -> str:
    """The file or document a passage came from, its id where its metadata does not say."""
    source = _read_metadata(passage).get("source")
    return passage.id if source is None else str(source)


def find_context(passage: Hit) -> str:
    """The passage's first line where it is the title and headings that ingest put there, else empty."""
    first, _, rest = passage.text.partition("\n")
    metadata = _read_metadata(passage)
    title, heading = str(metadata.get("title") or ""), str(metadata.get("heading") or "")
    parts = list(dict.fromkeys(part for part in (title, *heading.split(" > ")) if part))
    # Long ones have lost their outer parts, or the end of the last.
    leads = (" > ".join(parts[outer:]) for outer in range(len(parts)))
    is_lead = first.strip() and any(lead.startswith(first.strip()) for lead in leads)
    return first if rest and is_lead else ""


def sentences_of(passage: Hit) -> list[Sentence]:
    """The sentences below its headings; of a passage that has nothing below them, these."""
    context = find_context(passage)
    begin = len(context) + 1 if context else 0
    return split_sentences(passage.text, begin) or split_sentences(passage.text)


def find_openings(passages: Sequence[Hit]) -> set[int]:
    """Positions of the passages that open their section, as far as these passages tell.

    A long section is stored as several passages in a row; one whose predecessor is here goes on.
    """
    sections = [_read_metadata(passage) for passage in passages]
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


def _read_metadata(passage: Hit) -> dict[str, object]:
    """Empty where it is not a JSON object."""
    try:
        found = json.loads(passage.metadata)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
