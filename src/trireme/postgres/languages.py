"""The languages of collections in PostgreSQL: found, set, and their passages' words read anew."""

from __future__ import annotations

import re
from functools import partial
from itertools import accumulate
from typing import Any

from psycopg import Connection

from trireme.languages import AUTO, ENGLISH, LANGUAGE, LANGUAGES, find_language
from trireme.metadata import read_json
from trireme.postgres.configurations import configuration_of, passage_configuration, passage_language
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.rows import allow_seconds
from trireme.postgres.schema import migrate
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts
from trireme.postgres.words import passage_columns
from trireme.retrieve.languages import CollectionLanguage, LanguageTeller, Reread
from trireme.retrieve.store import check_names, raise_unknown

_FIND = "SELECT id, language, readings FROM trireme.collections WHERE tenant = %s AND collection = %s"

_REREAD = """
    UPDATE trireme.passages p SET metadata = new.metadata::json, configuration = new.configuration,
        tsv = trireme.read_passage(new.configuration, new.plain, new.exact::tsvector)
    FROM unnest(%b::bigint[], %b::text[], %b::text[], %b::text[], %b::text[])
        AS new (key, metadata, configuration, plain, exact)
    WHERE p.key = new.key
    """


# Passages that are held at once.
STEP = 500
# As many characters take PostgreSQL some seconds.
STEP_CHARACTERS = 1_000_000
_STAGED = "SELECT position, metadata::text, configuration FROM trireme.staged WHERE job = %s"
_STAGED_TEXTS = "SELECT position, text FROM trireme.staged WHERE job = %s AND position = ANY(%s)"
_REREAD_STAGED = """
    UPDATE trireme.staged s SET configuration = new.configuration,
        tsv = trireme.read_passage(new.configuration, new.plain, new.exact::tsvector)
    FROM unnest(%b::bigint[], %b::text[], %b::text[], %b::text[]) AS new (position, configuration, plain, exact)
    WHERE s.job = %s AND s.position = new.position
    """


class PostgresLanguages:
    """CollectionLanguages beside PostgresStore."""

    def __init__(self, url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        """Does not connect."""
        self._pool = ConnectionPool(url, 1, partial(migrate, seconds=timeouts.migrate), timeouts)

    def find(self, tenant: str, collection: str) -> CollectionLanguage | None:
        """See CollectionLanguages.find."""
        check_names(tenant, collection)
        row = self._pool.run(
            lambda connection: connection.execute(_FIND, (tenant, collection)).fetchone(),
            self._pool.timeouts.search,
        )
        return CollectionLanguage(row[1], _main_language(row[2])) if row else None

    def set(self, tenant: str, collection: str, language: str) -> None:
        """See CollectionLanguages.set."""
        check_names(tenant, collection)
        self._pool.run(
            lambda connection: connection.execute(
                "INSERT INTO trireme.collections (tenant, collection, language) VALUES (%s, %s, %s) "
                "ON CONFLICT (tenant, collection) DO UPDATE SET language = EXCLUDED.language",
                (tenant, collection, language),
            ),
            self._pool.timeouts.write_passages,
        )

    def reread(
        self, tenant: str, collection: str, tell: LanguageTeller, after: int = 0, limit: int = STEP
    ) -> Reread:
        """See CollectionLanguages.reread."""
        check_names(tenant, collection)

        def work(connection: DeadlineConnection) -> Reread:
            allow_seconds(connection, self._pool.timeouts.write_passages)
            # Writers of one collection take turns.
            found = connection.execute(f"{_FIND} FOR UPDATE".encode(), (tenant, collection)).fetchone()
            if found is None:
                raise_unknown(collection)
            rows = connection.execute(
                "SELECT key, text, metadata::text, configuration FROM trireme.passages "
                "WHERE collection_id = %s AND key > %s ORDER BY key LIMIT %s",
                (found[0], after, limit),
            ).fetchall()
            rows = _first(rows)
            read = [_read(row, found[1], tell) for row in rows]
            changed = [row for row in read if row is not None]
            if changed:
                connection.execute(_REREAD, tuple(list(column) for column in zip(*changed, strict=True)))
            return Reread(len(rows), len(changed), rows[-1][0] if rows else after)

        return self._pool.run(work, self._pool.timeouts.write_passages)

    def close(self) -> None:
        """See CollectionLanguages.close."""
        self._pool.close()


def language_of(connection: Connection[Any], tenant: str, collection: str, new: str) -> str:
    """A collection's language; `new` where there is no such collection."""
    row = connection.execute(_FIND, (tenant, collection)).fetchone()
    return str(row[1]) if row else new


def reread_staged(connection: Connection[Any], job: int, language: str) -> None:
    """Read staged passages by the collection's language, where it was set to another one since they were staged."""
    rows = connection.execute(_STAGED, (job,)).fetchall()
    read_by = [(position, passage_configuration(language, metadata)) for position, metadata, _ in rows]
    changed = [one for one, row in zip(read_by, rows, strict=True) if one[1] != row[2]]
    for start in range(0, len(changed), STEP):
        by = dict(changed[start : start + STEP])
        texts = connection.execute(_STAGED_TEXTS, (job, list(by))).fetchall()
        read = [(at, by[at], *passage_columns(text, by[at])) for at, text in texts]
        connection.execute(_REREAD_STAGED, (*map(list, zip(*read, strict=True)), job))


def _first(rows: list[tuple[int, str, str, str]]) -> list[tuple[int, str, str, str]]:
    """As many rows as their texts allow, one at least."""
    sizes = accumulate(len(text) for _, text, *_ in rows)
    return [
        row for n, (row, size) in enumerate(zip(rows, sizes, strict=True)) if not n or size <= STEP_CHARACTERS
    ]


def _main_language(readings: dict[str, int]) -> str:
    most = max(readings, key=lambda name: readings[name], default="")
    return find_language(most) or ENGLISH


def _read(
    row: tuple[int, str, str, str], language: str, tell: LanguageTeller
) -> tuple[int, str, str, str, str] | None:
    """A passage as it is read now: key, metadata, configuration, words; None where it stays as it is."""
    key, text, metadata, configuration = row
    held = read_json(metadata)
    named = held.get(LANGUAGE) if isinstance(held, dict) else None
    told = language if language != AUTO else passage_language(metadata)
    code = tell(text) if language == AUTO and named is None else told
    by = configuration_of(code)
    spoken = _speak(metadata, held, code) if isinstance(held, dict) and code else metadata
    if spoken == metadata and by == configuration:
        return None
    return key, spoken, by, *passage_columns(text, by)


def _speak(metadata: str, held: dict[str, Any], code: str) -> str:
    """Metadata with the language's code; as it is where something else than a code stands there.

    All else stays letter by letter: not everything that is stored can be read and written as JSON.
    """
    named = held.get(LANGUAGE)
    if LANGUAGE not in held:
        rest = metadata.rstrip().removesuffix("}").rstrip()
        return f'{rest}{", " if held else ""}"{LANGUAGE}": "{code}"}}'
    if not isinstance(named, str) or named not in LANGUAGES:
        return metadata
    # The same may stand deeper inside.
    for found in re.finditer(rf'"{LANGUAGE}"\s*:\s*"{named}"', metadata):
        spoken = f'{metadata[: found.start()]}"{LANGUAGE}": "{code}"{metadata[found.end() :]}'
        if read_json(spoken) == {**held, LANGUAGE: code}:
            return spoken
    return metadata
