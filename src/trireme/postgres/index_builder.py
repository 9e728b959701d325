"""HNSW indexes of the collections that workers load."""

from __future__ import annotations

from trireme.postgres.hnsw import STATES, HnswState, ensure_hnsw
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.schema import migrate
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts

BULK_DOCUMENTS = 1000
# At this size a search without the index takes most of a second.
MOST_UNINDEXED = 500_000

DUE = (
    STATES
    + b"""
    WHERE i.state = 'active' AND c.passages >= %(exact_below)s
        AND (x.indisvalid IS NOT TRUE OR i.has_sparse AND y.indisvalid IS NOT TRUE)
        AND (c.passages >= %(most)s OR %(bulk)s > (
            SELECT count(*) FROM (
                SELECT FROM trireme.submissions s JOIN trireme.procrastinate_jobs j ON j.id = s.job
                WHERE s.tenant = c.tenant AND s.collection = c.collection AND j.status IN ('todo', 'doing')
                LIMIT %(bulk)s) waiting))
    ORDER BY c.passages
    """
)


class PostgresIndexBuilder:
    """An IndexBuilder for the collections of PostgresDocuments, from `exact_below` passages on."""

    def __init__(
        self,
        url: str,
        exact_below: int,
        *,
        bulk_documents: int = BULK_DOCUMENTS,
        most_unindexed: int = MOST_UNINDEXED,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        """Does not connect. Raises SettingError for a malformed URL.

        bulk_documents: so many waiting documents are a bulk load, during which the index is left out.
        most_unindexed: but not beyond this size of the collection.
        """
        self._pool = ConnectionPool(url, 2, migrate, timeouts)
        self._exact_below = exact_below
        self._bulk_documents = bulk_documents
        self._most_unindexed = most_unindexed
        self._is_cancelled = False

    def build_due(self) -> int:
        """See IndexBuilder.build_due."""
        return sum(
            ensure_hnsw(self._pool, index_id, self._exact_below)
            for index_id in self._due()
            if not self._is_cancelled
        )

    def cancel(self) -> None:
        """See IndexBuilder.cancel."""
        self._is_cancelled = True
        self._pool.cancel_alone()

    def close(self) -> None:
        """See IndexBuilder.close."""
        self._pool.close()

    def _due(self) -> list[int]:
        values = {
            "exact_below": self._exact_below,
            "most": self._most_unindexed,
            "bulk": self._bulk_documents,
        }

        def work(connection: DeadlineConnection) -> list[int]:
            found = [HnswState(*row) for row in connection.execute(DUE, values)]
            return [one.index_id for one in found if one.lacking(self._exact_below)]

        return self._pool.run(work, self._pool.timeouts.read_documents)
