"""The text that a language model reads a query and a passage in: a template with {query} and {passage}."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trireme.errors import InvalidInputError

QUERY, PASSAGE = "{query}", "{passage}"


@dataclass(frozen=True, slots=True)
class PairTemplate:
    """`parts`: the texts before, between and behind the two; query_first: which of them comes first."""

    parts: tuple[str, str, str]
    query_first: bool = True

    @classmethod
    def parse(cls, text: str) -> PairTemplate:
        """Raises InvalidInputError unless the template holds {query} and {passage} once each."""
        found = re.findall(r"\{query\}|\{passage\}", text)
        if sorted(found) != [PASSAGE, QUERY]:
            raise InvalidInputError(f"a template holds {QUERY} and {PASSAGE} once each, got {text!r:.120}")
        before, between, after = re.split(r"\{query\}|\{passage\}", text)
        return cls((before, between, after), found[0] == QUERY)

    def fill(self, query: str, passage: str) -> str:
        """The text that is read."""
        before, between, after = self.parts
        first, second = (query, passage) if self.query_first else (passage, query)
        return f"{before}{first}{between}{second}{after}"

    def place_of_passage(self, query: str) -> int:
        """Where the passage begins in the filled text, in characters."""
        before, between, _ = self.parts
        return len(before) + (len(query) + len(between) if self.query_first else 0)
