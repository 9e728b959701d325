"""The languages of collections in PostgreSQL: read, set, and their passages' words read anew."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from trireme.languages import AUTO


def language_of(connection: Connection[Any], tenant: str, collection: str) -> str:
    """A collection's language; that of a new one where there is none."""
    row = connection.execute(
        "SELECT language FROM trireme.collections WHERE tenant = %s AND collection = %s", (tenant, collection)
    ).fetchone()
    return str(row[0]) if row else AUTO
