"""Pages of a list: `limit` and `after`, the last id of the page before. Rows that come or go move none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trireme.errors import InvalidInputError

DEFAULT_LIMIT = 50
MOST_LIMIT = 200
PARAMETERS = ("after", "limit")


@dataclass(frozen=True, slots=True)
class Page:
    """What is asked for. after: "" from the first on."""

    after: str = ""
    limit: int = DEFAULT_LIMIT

    @property
    def looked_for(self) -> int:
        """One more than is shown: whether there is more."""
        return self.limit + 1


def read_page(query: Mapping[str, str]) -> Page:
    """The page of a query. Raises InvalidInputError for a limit that is none."""
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 9 and 1 <= int(limit) <= MOST_LIMIT):
        raise InvalidInputError(f"limit must be 1 to {MOST_LIMIT}, got {limit[:20]!r}", "limit")
    return Page(query.get("after", ""), int(limit))


def page_body(page: Page, rows: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A list as it is answered, of rows that were looked for, each with its id."""
    shown = rows[: page.limit]
    return {
        "object": "list",
        "data": [body for _, body in shown],
        "has_more": len(rows) > page.limit,
        "last_id": shown[-1][0] if shown else None,
    }
