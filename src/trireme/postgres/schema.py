"""The tables of the PostgreSQL store and how they come to be."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from psycopg import Connection, errors, sql

from trireme.errors import UnsupportedError
from trireme.postgres.functions import FUNCTIONS
from trireme.postgres.pool import DeadlineConnection
from trireme.postgres.queue_schema import create_queue
from trireme.postgres.words import rewrite_words

# Any fixed numbers: they serialize the processes on one database.
MIGRATION_LOCK = 7_239_161_004
INDEX_LOCK = 7_239_161_005
# The first with iterative index scans.
OLDEST_PGVECTOR = (0, 8)
# A database of version 1 with a million passages is rewritten by version 2.
MIGRATION_SECONDS = 3600.0

# Searches run as this role, which row-level security holds to the tenant of the setting `trireme.tenant`.
TENANT_ROLE = "trireme_tenant"

VERSION_1 = """
    CREATE TABLE trireme.collections (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        collection text COLLATE "C" NOT NULL,
        embedder text NOT NULL,
        dimensions integer NOT NULL,
        passages bigint NOT NULL DEFAULT 0,
        UNIQUE (tenant, collection)
    );
    -- Rows stay in line up to 8 kB: fetching each vector from a TOAST table slows exact search down.
    CREATE TABLE trireme.passages (
        collection_id bigint NOT NULL REFERENCES trireme.collections (id),
        id text COLLATE "C" NOT NULL,
        text text NOT NULL,
        metadata json NOT NULL,
        embedding vector NOT NULL,
        PRIMARY KEY (collection_id, id)
    ) WITH (toast_tuple_target = 8160);
    """

VERSION_2 = """
    -- Texts and vectors part: a text is stored once, its vectors once for each index version.
    ALTER TABLE trireme.passages RENAME TO passages_1;
    ALTER TABLE trireme.passages_1 RENAME CONSTRAINT passages_pkey TO passages_1_pkey;

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
        -- A tsvector holds 1 MB; words of the first 100,000 characters always fit.
        tsv tsvector GENERATED ALWAYS AS (to_tsvector('pg_catalog.english', left(text, 100000))) STORED,
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

    INSERT INTO trireme.indexes (collection_id, embedder, dimensions, state)
        SELECT id, embedder, dimensions, 'active' FROM trireme.collections;
    INSERT INTO trireme.passages (collection_id, tenant, id, text, metadata)
        SELECT c.id, c.tenant, p.id, p.text, p.metadata
        FROM trireme.passages_1 p JOIN trireme.collections c ON c.id = p.collection_id;
    INSERT INTO trireme.embeddings (index_id, passage_key, tenant, embedding)
        SELECT i.id, n.key, n.tenant, p.embedding
        FROM trireme.passages_1 p
        JOIN trireme.passages n ON n.collection_id = p.collection_id AND n.id = p.id
        JOIN trireme.indexes i ON i.collection_id = p.collection_id;

    CREATE INDEX passages_collection ON trireme.passages (collection_id, key);
    CREATE INDEX passages_document ON trireme.passages (document_key);
    CREATE INDEX passages_tsv ON trireme.passages USING gin (tsv);
    CREATE INDEX passages_filterable ON trireme.passages USING gin (filterable jsonb_path_ops);
    CREATE INDEX embeddings_passage ON trireme.embeddings (passage_key);
    -- A collection that had an HNSW index has one again.
    DO $$
    DECLARE one record;
    BEGIN
        FOR one IN SELECT i.id, i.dimensions FROM trireme.indexes i
            WHERE to_regclass('trireme.passages_hnsw_' || i.collection_id) IS NOT NULL
        LOOP
            EXECUTE format('CREATE INDEX embeddings_hnsw_%s ON trireme.embeddings USING hnsw '
                '((embedding::vector(%s)) vector_cosine_ops) WHERE index_id = %s',
                one.id, one.dimensions, one.id);
        END LOOP;
    END $$;
    DROP TABLE trireme.passages_1;
    ALTER TABLE trireme.collections DROP COLUMN embedder, DROP COLUMN dimensions;

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

VERSION_4 = """
    -- The words are read before they come here (retrieve/words.py).
    ALTER TABLE trireme.passages ALTER COLUMN tsv DROP EXPRESSION, ALTER COLUMN tsv SET NOT NULL;
    -- What is staged has no words yet: its documents are begun anew.
    DELETE FROM trireme.staged;
    UPDATE trireme.submissions SET staged = 0, staged_with = '' WHERE staged > 0;
    ALTER TABLE trireme.staged ADD COLUMN tsv tsvector NOT NULL;
    DROP FUNCTION IF EXISTS trireme.match_text(bigint, text, jsonb, bigint, bigint);
    """


def _take_words(connection: Connection[Any]) -> None:
    """Version 4: words as retrieve/words.py reads them, also of what is stored."""
    connection.execute((VERSION_4 + FUNCTIONS).encode())
    rewrite_words(connection)


# SQL, or what runs on the connection of the open transaction; one for each version of the schema.
Migration = str | Callable[[Connection[Any]], None]
MIGRATIONS: tuple[Migration, ...] = (VERSION_1, VERSION_2 + FUNCTIONS, create_queue, _take_words)


def migrate(connection: DeadlineConnection) -> None:
    """Bring the schema to this version, in the open transaction. Safe in several processes at once.

    Waits for as long as a migration takes, whatever the connection's deadline is. Raises UnsupportedError
    when pgvector is missing or too old, when the role of the tenants is missing and may not be made, or when
    a newer Trireme made the schema.
    """
    if _is_current(connection):
        return
    began, deadline = monotonic(), connection.deadline
    connection.deadline = began + MIGRATION_SECONDS
    try:
        _migrate(connection)
    finally:
        # What comes after it has the time that was left before, or all would be undone.
        connection.deadline = deadline + (monotonic() - began)


def _migrate(connection: DeadlineConnection) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
    _require_pgvector(connection)
    _require_tenant_role(connection)
    connection.execute("CREATE SCHEMA IF NOT EXISTS trireme")
    connection.execute("CREATE TABLE IF NOT EXISTS trireme.migrations (version integer PRIMARY KEY)")
    done = _version(connection)
    if done > len(MIGRATIONS):
        raise UnsupportedError(
            f"the database has schema version {done}, newer than version {len(MIGRATIONS)}: upgrade Trireme"
        )
    for version in range(done, len(MIGRATIONS)):
        step = MIGRATIONS[version]
        if isinstance(step, str):
            connection.execute(step.encode())
        else:
            step(connection)
        connection.execute("INSERT INTO trireme.migrations VALUES (%s)", (version + 1,))


def _is_current(connection: Connection[Any]) -> bool:
    row = connection.execute("SELECT to_regclass('trireme.migrations') IS NOT NULL").fetchone()
    return bool(row and row[0]) and _version(connection) == len(MIGRATIONS)


def _version(connection: Connection[Any]) -> int:
    row = connection.execute("SELECT count(*) FROM trireme.migrations").fetchone()
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
