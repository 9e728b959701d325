"""The tables of the job queue in PostgreSQL: procrastinate's own, and what they wait with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

# procrastinate's functions and triggers name their tables without a schema.
SEARCH_PATH = "SELECT set_config('search_path', 'trireme, ' || current_setting('search_path'), %s)"

TABLES = """
    -- The library finds jobs with the same lock by scanning all that wait: minutes for each job of 200,000.
    CREATE INDEX trireme_jobs_lock ON trireme.procrastinate_jobs (lock, id)
        WHERE status IN ('todo', 'doing', 'failed');
    -- A worker that goes away is taken out of its jobs by a foreign key.
    CREATE INDEX trireme_jobs_worker ON trireme.procrastinate_jobs (worker_id) WHERE worker_id IS NOT NULL;
    CREATE INDEX trireme_jobs_batch ON trireme.procrastinate_jobs ((args ->> 'batch'))
        WHERE status IN ('todo', 'doing', 'failed');
    -- The queue's rows come and go; statistics of an hour ago, or none, make bad plans.
    ALTER TABLE trireme.procrastinate_jobs SET (autovacuum_vacuum_scale_factor = 0.05);

    -- What was published, until its job is done. A short text is kept here, a long one in parts.
    CREATE TABLE trireme.submissions (
        job bigint PRIMARY KEY REFERENCES trireme.procrastinate_jobs (id) ON DELETE CASCADE,
        tenant text COLLATE "C" NOT NULL,
        collection text COLLATE "C" NOT NULL,
        document_id text COLLATE "C" NOT NULL,
        digest text NOT NULL,
        title text NOT NULL,
        source text NOT NULL,
        whole boolean NOT NULL,
        extra json NOT NULL,
        -- NULL where the text is in submission_parts.
        text text,
        failures integer NOT NULL DEFAULT 0,
        error text NOT NULL DEFAULT '',
        -- How many chunks are staged, and the embedder of their vectors.
        staged bigint NOT NULL DEFAULT 0,
        staged_with text NOT NULL DEFAULT '',
        created_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX submissions_document ON trireme.submissions (tenant, collection, document_id, job);

    CREATE TABLE trireme.submission_parts (
        job bigint NOT NULL REFERENCES trireme.submissions (job) ON DELETE CASCADE,
        n integer NOT NULL,
        tenant text COLLATE "C" NOT NULL,
        text text NOT NULL,
        PRIMARY KEY (job, n)
    );

    -- Finished chunks of a long document; they move to passages in one transaction at its end.
    CREATE TABLE trireme.staged (
        job bigint NOT NULL REFERENCES trireme.submissions (job) ON DELETE CASCADE,
        position bigint NOT NULL,
        tenant text COLLATE "C" NOT NULL,
        id text COLLATE "C" NOT NULL,
        text text NOT NULL,
        metadata json NOT NULL,
        embedding vector NOT NULL,
        tsv tsvector NOT NULL,
        PRIMARY KEY (job, position)
    );

    ALTER TABLE trireme.submissions ENABLE ROW LEVEL SECURITY;
    ALTER TABLE trireme.submission_parts ENABLE ROW LEVEL SECURITY;
    ALTER TABLE trireme.staged ENABLE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON trireme.submissions TO trireme_tenant
        USING (tenant = (SELECT current_setting('trireme.tenant', true)));
    CREATE POLICY tenant ON trireme.submission_parts TO trireme_tenant
        USING (tenant = (SELECT current_setting('trireme.tenant', true)));
    CREATE POLICY tenant ON trireme.staged TO trireme_tenant
        USING (tenant = (SELECT current_setting('trireme.tenant', true)));
    """


def create_queue(connection: Connection[Any]) -> None:
    """Make the queue's tables in schema trireme, in the open transaction.

    procrastinate's part is that of release 3.10; a later one brings migrations of its own, which then become
    a version of ours.
    """
    from procrastinate.schema import SchemaManager

    connection.execute(SEARCH_PATH, (True,))
    connection.execute(SchemaManager.get_schema().encode())
    connection.execute(TABLES.encode())
