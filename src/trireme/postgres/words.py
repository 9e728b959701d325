"""The words of passages and queries as PostgreSQL takes them: plain ones it stems, others it keeps as they are.

Its own parser is given single words of ASCII alone, so that neither its rules for paths and addresses nor the
database's locale decide what is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from psycopg import Connection

from trireme.retrieve.words import MOST_REPEATS, PASSAGE_CHARACTERS, passage_words, query_words

MIGRATED_ROWS = 2000

REWRITE = """
    UPDATE trireme.passages p SET tsv = new.tsv
    FROM (SELECT key, to_tsvector('pg_catalog.english', plain) || exact::tsvector AS tsv
        FROM unnest(%b::bigint[], %b::text[], %b::text[]) AS new (key, plain, exact)) AS new
    WHERE p.key = new.key AND p.tsv IS DISTINCT FROM new.tsv
    """


def passage_columns(text: str) -> tuple[str, str]:
    """Words for PostgreSQL's English, and the text of a tsvector; joined they are the words of a passage."""
    words = passage_words(text)
    exact = words.exact + Counter({word: n for word, n in words.compounds.items() if not _is_plain(word)})
    plain = [*words.plain, *(word for word in words.compounds.elements() if _is_plain(word))]
    return " ".join(plain), " ".join(_with_places(word, count) for word, count in exact.items())


def query_columns(text: str) -> dict[str, Any]:
    """The parameters `plain`, `exact`, `plain_compounds` and `compounds` of trireme.match_text."""
    words = query_words(text)
    return {
        "plain": " ".join(words.plain),
        "exact": list(words.exact),
        "plain_compounds": " ".join(filter(_is_plain, words.compounds)),
        "compounds": [word for word in words.compounds if not _is_plain(word)],
    }


def rewrite_words(connection: Connection[Any]) -> None:
    """Read the words of all stored passages anew, in the open transaction."""
    index = connection.execute("SELECT pg_get_indexdef(to_regclass('trireme.passages_tsv'))").fetchone()
    # Built at once it takes a fraction of the time of a million changes.
    connection.execute("DROP INDEX trireme.passages_tsv")
    after = 0
    while rows := _next_rows(connection, after):
        after = rows[-1][0]
        columns = [passage_columns(text) for _, text in rows]
        connection.execute(REWRITE, ([key for key, _ in rows], *map(list, zip(*columns, strict=True))))
    if index:
        connection.execute(str(index[0]).encode())
    if after:
        # Searches weigh the commonest words by the planner's statistics.
        connection.execute("ANALYZE trireme.passages")


def _next_rows(connection: Connection[Any], after: int) -> list[tuple[int, str]]:
    return connection.execute(
        "SELECT key, left(text, %s) FROM trireme.passages WHERE key > %s ORDER BY key LIMIT %s",
        (PASSAGE_CHARACTERS, after, MIGRATED_ROWS),
    ).fetchall()


def _is_plain(word: str) -> bool:
    return word.isascii() and word.isalnum()


def _with_places(word: str, count: int) -> str:
    quoted = word.replace("\\", "\\\\").replace("'", "''")
    return f"'{quoted}':{_places(count)}"


def _places(count: int) -> str:
    # How often a word occurs is how many places it has; which ones nobody asks.
    numbers: Iterable[int] = range(1, min(count, MOST_REPEATS) + 1)
    return ",".join(map(str, numbers))
