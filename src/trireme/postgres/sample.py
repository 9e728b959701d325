"""Some passages of a collection, for questions to which they are the answer."""

from __future__ import annotations

from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.types import Passage

# Keys in the order of their hashes: the same sample each time, spread over the whole collection.
_SAMPLE = (
    "SELECT p.id, p.text, p.metadata::text FROM trireme.passages p JOIN trireme.collections c "
    "ON c.id = p.collection_id WHERE c.tenant = %s AND c.collection = %s "
    "ORDER BY hashint8extended(p.key, %s), p.key LIMIT %s"
)


def sample_passages(url: str, tenant: str, collection: str, count: int, seed: int = 0) -> list[Passage]:
    """At most `count` passages of a collection in a random but repeatable choice; none of an unknown one.

    The schema must exist. Raises UnavailableError when the database does not answer within a minute.
    """

    def work(connection: DeadlineConnection) -> list[Passage]:
        rows = connection.execute(_SAMPLE, (tenant, collection, seed, count)).fetchall()
        return [Passage(*row) for row in rows]

    pool = ConnectionPool(url, 1, lambda connection: None)
    try:
        return pool.run(work, pool.timeouts.read_passages)
    finally:
        pool.close()
