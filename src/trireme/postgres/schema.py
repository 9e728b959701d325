"""The tables of the PostgreSQL store and how they come to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from psycopg import Connection, errors, sql

from trireme.errors import UnavailableError, UnsupportedError
from trireme.postgres.budget_schema import TABLES as BUDGET_TABLES
from trireme.postgres.cost_schema import REQUEST_INDEX
from trireme.postgres.cost_schema import TABLES as COST_TABLES
from trireme.postgres.functions import FUNCTIONS
from trireme.postgres.job_schema import TABLES as JOB_TABLES
from trireme.postgres.key_schema import PRIORITY, PRIORITY_CHECK
from trireme.postgres.key_schema import TABLES as KEY_TABLES
from trireme.postgres.lexeme_schema import add_lexemes
from trireme.postgres.pool import DeadlineConnection
from trireme.postgres.queue_schema import create_queue
from trireme.postgres.revision_schema import TABLES as REVISIONS
from trireme.postgres.sparse_schema import SPARSE
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS

# Any fixed numbers: they serialize the processes on one database.
MIGRATION_LOCK = 7_239_161_004
INDEX_LOCK = 7_239_161_005
# The first with iterative index scans.
OLDEST_PGVECTOR = (0, 8)
# Versions 1 to 4 were never released.
FIRST_VERSION = 5

# Searches run as this role, which row-level security holds to the tenant of the setting `trireme.tenant`.
TENANT_ROLE = "trireme_tenant"

TABLES = """
    CREATE TABLE trireme.collections (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        collection text COLLATE "C" NOT NULL,
        passages bigint NOT NULL DEFAULT 0,
        UNIQUE (tenant, collection)
    );

    -- A text is stored once, its vectors once for each index version.
    CREATE TABLE trireme.indexes (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        collection_id bigint NOT NULL REFERENCES trireme.collections (id) ON DELETE CASCADE,
        embedder text NOT NULL,
        dimensions integer NOT NULL,
        -- The model folder that makes the vectors; '' where nobody has said.
        model text NOT NULL DEFAULT '',
        storage text NOT NULL DEFAULT 'float32' CHECK (storage IN ('float32', 'float16', 'binary')),
        state text NOT NULL CHECK (state IN ('active', 'building', 'kept')),
        -- The last passage key that a build has filled.
        progress bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE UNIQUE INDEX indexes_active ON trireme.indexes (collection_id) WHERE state = 'active';
    CREATE INDEX indexes_collection ON trireme.indexes (collection_id);

    CREATE TABLE trireme.documents (
        key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        collection_id bigint NOT NULL REFERENCES trireme.collections (id) ON DELETE CASCADE,
        tenant text COLLATE "C" NOT NULL,
        id text COLLATE "C" NOT NULL,
        digest text NOT NULL,
        title text NOT NULL DEFAULT '',
        source text NOT NULL DEFAULT '',
        chunks bigint NOT NULL DEFAULT 0,
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (collection_id, id)
    );

    -- Metadata comes back letter by letter, so it is json; what jsonb cannot hold (\\u0000) no filter finds.
    CREATE FUNCTION trireme.filterable(metadata json) RETURNS jsonb
        LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
        BEGIN RETURN metadata::jsonb; EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$;

    -- A passage whose text changes gets a new key, so that a key stands for one text for good.
    CREATE TABLE trireme.passages (
        key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        collection_id bigint NOT NULL REFERENCES trireme.collections (id) ON DELETE CASCADE,
        tenant text COLLATE "C" NOT NULL,
        document_key bigint REFERENCES trireme.documents (key) ON DELETE CASCADE,
        id text COLLATE "C" NOT NULL,
        text text NOT NULL,
        metadata json NOT NULL,
        filterable jsonb GENERATED ALWAYS AS (trireme.filterable(metadata)) STORED,
        -- The words are read before they come here (retrieve/words.py).
        tsv tsvector NOT NULL,
        UNIQUE (collection_id, id)
    -- Uncompressed up to 8 kB: full text reads the words of every candidate.
    ) WITH (toast_tuple_target = 8160);

    -- Rows stay in line up to 8 kB: fetching each vector from a TOAST table slows exact search down.
    CREATE TABLE trireme.embeddings (
        index_id bigint NOT NULL REFERENCES trireme.indexes (id) ON DELETE CASCADE,
        passage_key bigint NOT NULL REFERENCES trireme.passages (key) ON DELETE CASCADE,
        tenant text COLLATE "C" NOT NULL,
        -- `embedding` where the index stores float32, else `half`.
        embedding vector,
        half halfvec,
        PRIMARY KEY (index_id, passage_key),
        CHECK (num_nonnulls(embedding, half) = 1)
    ) WITH (toast_tuple_target = 8160);

    CREATE INDEX passages_collection ON trireme.passages (collection_id, key);
    CREATE INDEX passages_document ON trireme.passages (document_key);
    CREATE INDEX passages_tsv ON trireme.passages USING gin (tsv);
    CREATE INDEX passages_filterable ON trireme.passages USING gin (filterable jsonb_path_ops);
    CREATE INDEX embeddings_passage ON trireme.embeddings (passage_key);

    ALTER TABLE trireme.collections ENABLE ROW LEVEL SECURITY;
    ALTER TABLE trireme.indexes ENABLE ROW LEVEL SECURITY;
    ALTER TABLE trireme.documents ENABLE ROW LEVEL SECURITY;
    ALTER TABLE trireme.passages ENABLE ROW LEVEL SECURITY;
    ALTER TABLE trireme.embeddings ENABLE ROW LEVEL SECURITY;
    -- In a subquery the setting is read once and not for every row.
    CREATE POLICY tenant ON trireme.collections TO trireme_tenant
        USING (tenant = (SELECT current_setting('trireme.tenant', true)));
    CREATE POLICY tenant ON trireme.indexes TO trireme_tenant
        USING (EXISTS (SELECT FROM trireme.collections c WHERE c.id = collection_id));
    CREATE POLICY tenant ON trireme.documents TO trireme_tenant
        USING (tenant = (SELECT current_setting('trireme.tenant', true)));
    CREATE POLICY tenant ON trireme.passages TO trireme_tenant
        USING (tenant = (SELECT current_setting('trireme.tenant', true)));
    CREATE POLICY tenant ON trireme.embeddings TO trireme_tenant
        USING (tenant = (SELECT current_setting('trireme.tenant', true)));
    GRANT USAGE ON SCHEMA trireme TO trireme_tenant;
    GRANT SELECT ON trireme.collections, trireme.indexes, trireme.documents, trireme.passages,
        trireme.embeddings TO trireme_tenant;
    """


def _create(connection: Connection[Any]) -> None:
    connection.execute((TABLES + FUNCTIONS).encode())
    create_queue(connection)


# SQL, or what runs on the connection of the open transaction.
Migration = str | Callable[[Connection[Any]], None]
# The first makes FIRST_VERSION, each further one brings the version before to the next.
MIGRATIONS: tuple[Migration, ...] = (
    _create,
    KEY_TABLES,
    BUDGET_TABLES,
    REVISIONS,
    add_lexemes,
    PRIORITY,
    PRIORITY_CHECK,
    COST_TABLES,
    REQUEST_INDEX,
    JOB_TABLES,
    SPARSE,
)


def migrate(
    connection: DeadlineConnection,
    steps: Sequence[Migration] = MIGRATIONS,
    seconds: float = DEFAULT_TIMEOUTS.migrate,
) -> None:
    """Bring the schema to the version of the last of `steps`, in the open transaction. Safe in several processes.

    Waits for `seconds`, whatever the connection's deadline is. Raises UnsupportedError when pgvector is missing
    or too old, when the role of the tenants is missing and may not be made, or when the schema is older than
    FIRST_VERSION or a newer Trireme's.
    """
    if _is_current(connection, steps):
        return
    began, deadline = monotonic(), connection.deadline
    connection.deadline = began + seconds
    try:
        _migrate(connection, steps)
    finally:
        # What comes after it has the time that was left before, or all would be undone.
        connection.deadline = deadline + (monotonic() - began)


def _migrate(connection: DeadlineConnection, steps: Sequence[Migration]) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
    # A follower of another database lets these writes through (following.py).
    connection.execute("SELECT set_config('trireme.migrates', 'on', true)")
    _require_pgvector(connection)
    _require_tenant_role(connection)
    connection.execute("CREATE SCHEMA IF NOT EXISTS trireme")
    connection.execute("CREATE TABLE IF NOT EXISTS trireme.migrations (version integer PRIMARY KEY)")
    done, last = schema_version(connection), FIRST_VERSION + len(steps) - 1
    if 0 < done < FIRST_VERSION:
        raise UnsupportedError(
            f"the database has schema version {done}, which this Trireme does not read: set TRIREME_DATABASE_URL"
            " to a new database, or remove the folder postgres in TRIREME_DATA_DIR, and ingest again"
        )
    if done > last:
        raise UnsupportedError(
            f"the database has schema version {done}, newer than version {last}: upgrade Trireme"
        )
    for version in range(max(done + 1, FIRST_VERSION), last + 1):
        step = steps[version - FIRST_VERSION]
        if isinstance(step, str):
            connection.execute(step.encode())
        else:
            step(connection)
        connection.execute("INSERT INTO trireme.migrations VALUES (%s)", (version,))


def require_current(connection: Connection[Any], steps: Sequence[Migration] = MIGRATIONS) -> None:
    """For who only looks in: a database of another region is migrated there. Raises UnavailableError."""
    if not _is_current(connection, steps):
        raise UnavailableError(
            "the database of another region has another schema version; bring both to one release"
        )


def _is_current(connection: Connection[Any], steps: Sequence[Migration]) -> bool:
    row = connection.execute("SELECT to_regclass('trireme.migrations') IS NOT NULL").fetchone()
    return bool(row and row[0]) and schema_version(connection) == FIRST_VERSION + len(steps) - 1


def schema_version(connection: Connection[Any]) -> int:
    """The schema's version, 0 where there is none."""
    row = connection.execute("SELECT coalesce(max(version), 0) FROM trireme.migrations").fetchone()
    return int(row[0]) if row else 0


def _require_pgvector(connection: Connection[Any]) -> None:
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except (errors.FeatureNotSupported, errors.UndefinedFile, errors.InsufficientPrivilege):
        raise UnsupportedError(
            "the database lacks pgvector; install it and run CREATE EXTENSION vector as its superuser"
        ) from None
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    version = str(row[0]) if row else "0"
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_PGVECTOR:
        raise UnsupportedError(f"pgvector 0.8 or newer is needed, the database has {version}; update it")


def _require_tenant_role(connection: Connection[Any]) -> None:
    """Make the role, which all databases of a server share, and let this user take it on."""
    row = connection.execute(
        "SELECT current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
    ).fetchone()
    user, is_superuser = row or ("", False)
    try:
        if not _has_role(connection):
            try:
                with connection.transaction():
                    connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(TENANT_ROLE)))
            except (errors.DuplicateObject, errors.UniqueViolation):
                # Another database of the server was migrated at the same moment.
                pass
        if not is_superuser and not _may_take_role(connection):
            with connection.transaction():
                connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(TENANT_ROLE)))
    except errors.InsufficientPrivilege:
        granted = sql.Identifier(str(user)).as_string(connection)
        raise UnsupportedError(
            "the database user may not make the role that keeps tenants apart; run as an administrator: "
            f"CREATE ROLE {TENANT_ROLE} NOLOGIN; GRANT {TENANT_ROLE} TO {granted};"
        ) from None


def _has_role(connection: Connection[Any]) -> bool:
    row = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (TENANT_ROLE,)).fetchone()
    return row is not None


def _may_take_role(connection: Connection[Any]) -> bool:
    # Before PostgreSQL 16 a member may always SET ROLE; since then a membership may be without.
    kind = "SET" if connection.info.server_version >= 160_000 else "MEMBER"
    row = connection.execute("SELECT pg_has_role(%s, %s)", (TENANT_ROLE, kind)).fetchone()
    return bool(row and row[0])
