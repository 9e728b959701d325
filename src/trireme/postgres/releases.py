"""Deploys and notes in PostgreSQL."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from trireme.cost.releases import Deploy, check_note
from trireme.errors import NotFoundError
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.schema import migrate
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts

CONNECTIONS = 1
NONE_YET = "no release was deployed yet"
# Gateways that start at once take turns, or each would append the deploy.
TURN = "SELECT pg_advisory_xact_lock(7239161007)"
COLUMNS = "(extract(epoch FROM at) * 1000)::bigint, release, version, revision, models, note"
DEPLOY = f"""
    INSERT INTO trireme.releases (release, version, revision, models, note)
    SELECT %(release)s, %(version)s, %(revision)s, %(models)s::jsonb, ''
    WHERE NOT EXISTS (
        SELECT FROM (SELECT * FROM trireme.releases WHERE note = '' ORDER BY id DESC LIMIT 1) AS last
        WHERE release = %(release)s AND version = %(version)s AND revision = %(revision)s
            AND models = %(models)s::jsonb
    )
    RETURNING {COLUMNS}
    """  # noqa: S608 - of constants
NOTE = f"""
    INSERT INTO trireme.releases (release, version, revision, models, note)
    SELECT release, version, revision, '{{}}', %(note)s FROM (
        SELECT release, version, revision FROM trireme.releases
        WHERE note = '' AND (%(release)s = '' OR release = %(release)s) ORDER BY id DESC LIMIT 1
    ) AS last RETURNING {COLUMNS}
    """  # noqa: S608 - of constants
FIND = f"SELECT {COLUMNS} FROM trireme.releases ORDER BY id"  # noqa: S608 - of constants


class PostgresReleases:
    """A ReleaseLog beside the ledger. Connects at first use."""

    def __init__(self, url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._pool = ConnectionPool(url, CONNECTIONS, partial(_configure, timeouts), timeouts)

    def deploy(self, deploy: Deploy) -> bool:
        """See ReleaseLog.deploy."""
        values = {
            "release": deploy.release,
            "version": deploy.version,
            "revision": deploy.revision,
            "models": json.dumps(deploy.models),
        }
        return bool(self._write(DEPLOY, values))

    def note(self, release: str, text: str) -> Deploy:
        """See ReleaseLog.note."""
        rows = self._write(NOTE, {"release": release, "note": check_note(text)})
        if not rows:
            if not release:
                raise NotFoundError(f"{NONE_YET}; a gateway notes its own when it starts")
            raise NotFoundError(
                f"no release {release[:80]!r} was deployed; trireme release list shows those there are"
            )
        return Deploy(*rows[0])

    def find(self) -> list[Deploy]:
        """See ReleaseLog.find."""
        rows = self._pool.run(lambda c: c.execute(FIND.encode()).fetchall(), self._pool.timeouts.read_usage)
        return [Deploy(*row) for row in rows]

    def close(self) -> None:
        """See ReleaseLog.close."""
        self._pool.close()

    def _write(self, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        def write(connection: DeadlineConnection) -> list[tuple[Any, ...]]:
            connection.execute(TURN)
            return connection.execute(statement.encode(), values).fetchall()

        return self._pool.run(write, self._pool.timeouts.caps)


def _configure(timeouts: Timeouts, connection: DeadlineConnection) -> None:
    migrate(connection, seconds=timeouts.migrate)
