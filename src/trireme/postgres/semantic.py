"""Questions of the semantic cache in PostgreSQL: found by their vectors within a partition, which may be large."""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock

import numpy as np
from pgvector import HalfVector
from psycopg import sql

from trireme.cache.index import Candidate, Indexed, Vector, check_indexed, check_vector
from trireme.errors import InvalidInputError
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.schema import migrate
from trireme.postgres.semantic_schema import SEMANTIC_INDEX_LOCK, ensure_questions, index_of, table_of
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts

CONNECTIONS = 4
FIND_SECONDS = 1.0
KEEP_SECONDS = 10.0
SWEEP_SECONDS = 60.0
# Whether a partition has an index is asked again after so many seconds: without it all are compared.
LOOK_SECONDS = 30.0
KNOWN_PARTITIONS = 10_000

# Of a table at most: each write looks at all of them. Partitions beyond are compared one by one.
MOST_INDEXES = 100

# The sum keeps the planner from the HNSW index.
EXACT = """
    SELECT entry, question, 1 - (vector <=> %(vector)s), extract(epoch FROM made_at)::float8
    FROM trireme.{table}
    WHERE partition = %(partition)s AND tenant = %(tenant)s AND expires_at > clock_timestamp()
    ORDER BY (vector <=> %(vector)s) + 0, id LIMIT %(count)s
    """
# A literal: a planner that sees a parameter cannot prove that the partition's own index applies.
NEAR = """
    SELECT entry, question, 1 - (vector <=> %(vector)s), extract(epoch FROM made_at)::float8
    FROM trireme.{table}
    WHERE partition = {partition} AND tenant = %(tenant)s AND expires_at > clock_timestamp()
    ORDER BY vector <=> %(vector)s LIMIT %(count)s
    """
HAS_INDEX = """
    SELECT coalesce((SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)), false)
    """
LARGE = """
    SELECT partition, count(*) FROM trireme.{table} GROUP BY partition HAVING count(*) >= %s
    ORDER BY count(*) DESC LIMIT %s
    """
INDEXES = """
    SELECT c.relname, x.indisvalid FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
    WHERE x.indrelid = to_regclass(%s) AND c.relname LIKE %s
    """
INDEX = """
    CREATE INDEX CONCURRENTLY {index} ON trireme.{table} USING hnsw (vector halfvec_cosine_ops)
    WHERE partition = {partition}
    """
KEEP = """
    INSERT INTO trireme.{table} AS old (tenant, partition, entry, question, vector, made_at, expires_at)
    VALUES (%(tenant)s, %(partition)s, %(entry)s, %(question)s, %(vector)s, clock_timestamp(),
        clock_timestamp() + make_interval(secs => %(seconds)s))
    ON CONFLICT (partition, entry) DO UPDATE SET question = EXCLUDED.question, vector = EXCLUDED.vector,
        made_at = EXCLUDED.made_at, expires_at = EXCLUDED.expires_at
    WHERE old.tenant = EXCLUDED.tenant
    """
CROP = """
    DELETE FROM trireme.{table} WHERE id IN (
        SELECT id FROM trireme.{table} WHERE partition = %s ORDER BY made_at DESC, id DESC OFFSET %s)
    """
FORGET = "DELETE FROM trireme.{table} WHERE partition = %s AND tenant = %s AND entry = ANY(%s)"
EXPIRE = "DELETE FROM trireme.{table} WHERE expires_at <= clock_timestamp()"
CROP_ALL = """
    DELETE FROM trireme.{table} WHERE id IN (
        SELECT id FROM trireme.{table} ORDER BY made_at DESC, id DESC OFFSET %s)
    """


@dataclass(frozen=True, slots=True)
class SemanticBounds:
    """exact_below: a partition of so many questions gets an HNSW index of its own. most: questions of all, and of
    one partition.

    ef_search: pgvector's candidates of a search by HNSW; from 1 to 1,000.
    """

    exact_below: int = 2_000
    most: int = 1_000_000
    most_of_partition: int = 20_000
    ef_search: int = 100


class PostgresSemanticIndex:
    """A SemanticIndex beside PostgresStore, on the same database; one for each embedder. Connects at first use.

    embedder: whatever names the model and its weights. Raises InvalidInputError for dimensions that cannot be.
    """

    def __init__(
        self,
        url: str,
        embedder: str,
        dimensions: int,
        bounds: SemanticBounds | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self._dimensions = dimensions
        self._bounds = bounds or SemanticBounds()
        if min(self._bounds.most, self._bounds.most_of_partition) < 1:
            raise InvalidInputError("a semantic index holds at least 1 question")
        self._table = table_of(embedder, dimensions)
        self._pool = ConnectionPool(
            url,
            CONNECTIONS,
            partial(_configure, self._table, dimensions, self._bounds.ef_search, timeouts),
            timeouts,
        )
        # A large partition is looked through now and then: it may be half a percent too large.
        self._crop_every = max(1, self._bounds.most_of_partition // 200)
        self._keeps = itertools.count()
        # Partition -> when it was looked up, and whether it has an index.
        self._indexed: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._lock = Lock()

    def find(self, tenant: str, partition: str, vector: Vector, count: int) -> list[Candidate]:
        """See SemanticIndex.find. A partition that has an HNSW index of its own is searched by it, others exactly,
        so that no partition's questions hide those of another. Where it finds too few, all are compared."""
        check_vector(vector, self._dimensions)
        values = {
            "tenant": tenant,
            "partition": partition,
            "vector": HalfVector(vector.astype(np.float16)),
            "count": count,
        }

        def work(connection: DeadlineConnection) -> list[Candidate]:
            if self._has_index(connection, partition):
                near = sql.SQL(NEAR).format(
                    table=sql.Identifier(self._table), partition=sql.Literal(partition)
                )
                rows = connection.execute(near, values).fetchall()
                if len(rows) >= count:
                    return [Candidate(*row) for row in rows]
            rows = connection.execute(self._statement(EXACT), values).fetchall()
            return [Candidate(*row) for row in rows]

        return self._pool.run(work, FIND_SECONDS)

    def keep(self, question: Indexed) -> None:
        """See SemanticIndex.keep. A key that another tenant has in the partition is left alone."""
        check_indexed(question, self._dimensions)
        values = {
            "tenant": question.tenant,
            "partition": question.partition,
            "entry": question.key,
            "question": question.text,
            "vector": HalfVector(question.vector.astype(np.float16)),
            "seconds": question.seconds,
        }

        def work(connection: DeadlineConnection) -> None:
            connection.execute(self._statement(KEEP), values)
            if next(self._keeps) % self._crop_every == 0:
                connection.execute(
                    self._statement(CROP), (question.partition, self._bounds.most_of_partition)
                )

        self._pool.run(work, KEEP_SECONDS)

    def forget(self, tenant: str, partition: str, keys: Sequence[str]) -> None:
        """See SemanticIndex.forget."""
        values = (partition, tenant, list(keys))
        self._pool.run(lambda c: c.execute(self._statement(FORGET), values), KEEP_SECONDS)

    def sweep(self) -> int:
        """See SemanticIndex.sweep."""

        def work(connection: DeadlineConnection) -> int:
            over = connection.execute(self._statement(EXPIRE)).rowcount
            row = connection.execute(self._statement("SELECT count(*) FROM trireme.{table}")).fetchone()
            if row is None or row[0] <= self._bounds.most:
                return over
            return over + connection.execute(self._statement(CROP_ALL), (self._bounds.most,)).rowcount

        gone = self._pool.run(work, SWEEP_SECONDS)
        self._pool.run_alone(self._build, self._pool.timeouts.build_index)
        return gone

    def close(self) -> None:
        """See SemanticIndex.close. An index that is being built is left for the next sweep."""
        self._pool.cancel_alone()
        self._pool.close()

    def _build(self, connection: DeadlineConnection) -> None:
        """Make the indexes of partitions that have grown large, and drop those of others; one process at a time."""
        if connection.execute("SELECT pg_try_advisory_lock(%s)", (SEMANTIC_INDEX_LOCK,)).fetchone() != (
            True,
        ):
            return
        least = self._bounds.exact_below
        rows = connection.execute(self._statement(LARGE), (max(1, least // 2), MOST_INDEXES)).fetchall()
        # One that has an index keeps it until it is half as large: sizes go up and down.
        sizes = {index_of(self._table, partition): (partition, count) for partition, count in rows}
        there = dict(
            connection.execute(
                INDEXES, (f"trireme.{self._table}", f"{self._table}_near_%".replace("_", r"\_"))
            ).fetchall()
        )
        for name, is_valid in there.items():
            if not is_valid or name not in sizes:
                connection.execute(
                    sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS trireme.{}").format(sql.Identifier(name))
                )
        for name, (partition, count) in sizes.items():
            if count >= least and not there.get(name):
                made = sql.SQL(INDEX).format(
                    index=sql.Identifier(name),
                    table=sql.Identifier(self._table),
                    partition=sql.Literal(partition),
                )
                connection.execute(made)
        with self._lock:
            self._indexed.clear()

    def _has_index(self, connection: DeadlineConnection, partition: str) -> bool:
        """Whether the partition has an index of its own; looked up now and then."""
        now = time.monotonic()
        with self._lock:
            at, has_index = self._indexed.get(partition, (-LOOK_SECONDS, False))
        if now - at < LOOK_SECONDS:
            return has_index
        name = index_of(self._table, partition)
        row = connection.execute(HAS_INDEX, (f"trireme.{name}",)).fetchone()
        has_index = bool(row and row[0])
        with self._lock:
            self._indexed[partition] = (now, has_index)
            self._indexed.move_to_end(partition)
            if len(self._indexed) > KNOWN_PARTITIONS:
                self._indexed.popitem(last=False)
        return has_index

    def _statement(self, text: str) -> sql.Composed:
        return sql.SQL(text).format(table=sql.Identifier(self._table))


def _configure(
    table: str, dimensions: int, ef_search: int, timeouts: Timeouts, connection: DeadlineConnection
) -> None:
    from pgvector.psycopg import register_vector

    migrate(connection, seconds=timeouts.migrate)
    ensure_questions(connection, table, dimensions)
    connection.execute("SET jit = off")
    connection.execute("SET synchronous_commit = off")
    # A sort is the plan without the index; where there is none it is made all the same.
    connection.execute("SET enable_sort = off")
    # The scan goes on past what is over until enough is found.
    connection.execute("SET hnsw.iterative_scan = strict_order")
    connection.execute("SELECT set_config('hnsw.ef_search', %s, false)", (str(ef_search),))
    register_vector(connection)
