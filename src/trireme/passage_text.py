"""A passage's text: a lead of title and headings, where it has one, then sentences and code."""

from __future__ import annotations

import json
import re
from typing import Any

# The name in a passage's metadata under which its lead's length is kept; no document's own metadata may say it.
LEAD = "trireme_lead"

# Where a sentence may end. Whether it does is for the reader to say: abbreviations end in a period, too.
# Looked for from the first mark of a row alone: from each of them a row of dots would cost its square.
SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]+[\"'”’»)\]*_`]*(?=\s|$)|[。！？]+[”’」』）]*")
# The pattern of what opens a block of code in Markdown.
FENCE = "```|~~~"


def read_metadata(metadata: str) -> dict[str, Any]:
    """A passage's metadata, empty where it is not a JSON object."""
    try:
        found = json.loads(metadata)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def document_of(passage: str, metadata: str) -> str:
    """The id of the document that a passage was cut from, by the passage's id: it ends with # and its number.

    A document that is one passage under its own id is its document, unless that id ends with # and the number 0.
    """
    document, mark, number = passage.rpartition("#")
    if not (document and mark and number.isascii() and number.isdecimal()):
        return passage
    position = read_metadata(metadata).get("position")
    # What the document brings may stand in its place.
    is_number = type(position) is int
    return document if not is_number or position == int(number) else passage


def find_lead(text: str, metadata: str) -> int:
    """How many characters of a passage's text are its lead, with the line end behind it; 0 where it has none.

    Its metadata says so. Of a passage that was put without this, the first line is taken for the lead where it
    is made of the metadata's title and headings and something stands below it.
    """
    known = read_metadata(metadata)
    lead = known.get(LEAD)
    if type(lead) is int and (lead == 0 or (0 < lead < len(text) and text[lead - 1] == "\n")):
        return lead
    first, _, rest = text.partition("\n")
    title, heading = str(known.get("title") or ""), str(known.get("heading") or "")
    parts = list(dict.fromkeys(part for part in (title, *heading.split(" > ")) if part))
    # Long ones have lost their outer parts, or the end of the last.
    leads = (" > ".join(parts[outer:]) for outer in range(len(parts)))
    is_lead = first.strip() and any(one.startswith(first.strip()) for one in leads)
    return len(first) + 1 if rest and is_lead else 0
