"""How the catalog reads PostgreSQL: along indexes, in spite of row-level security; what the contract cannot say."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from trireme.errors import UnavailableError
from trireme.ingest.catalog import DocumentsQuery, JobsQuery
from trireme.postgres.catalog import PostgresCatalog

pytestmark = pytest.mark.e2e

OTHERS = 20_000
SEED = """
    INSERT INTO trireme.collections (tenant, collection) VALUES ('t', 'c'), ('other', 'c');
    INSERT INTO trireme.documents (collection_id, tenant, id, digest)
        SELECT c.id, tenant, 'd' || n, 'x' FROM trireme.collections c, generate_series(1, %(others)s) AS n;
    INSERT INTO trireme.procrastinate_jobs (queue_name, task_name, args, status)
        SELECT 'ingest', 'trireme:ingest', jsonb_build_object(
            'tenant', CASE WHEN n %% 1000 = 0 THEN 't' ELSE 'other' END, 'collection', 'c', 'document', 'd' || n),
            'succeeded'
        FROM generate_series(1, %(others)s) AS n;
    ANALYZE;
    """


WAITING = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"


@pytest.fixture
def catalog(url):
    with closing(PostgresCatalog(url)) as opened:
        # It makes the schema.
        assert opened.documents(DocumentsQuery("t", "c")) is None
        with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
            connection.execute(SEED, {"others": OTHERS})
        yield opened


def rows_read(url, index):
    """Entries that scans of an index have returned so far."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_stat_clear_snapshot()")
        return connection.execute(
            "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = %s", (index,)
        ).fetchone()[0]


def test_a_page_of_jobs_reads_no_other_tenants(catalog, url):
    before = rows_read(url, "trireme_jobs_tenant")
    page = catalog.jobs(JobsQuery("t", limit=5))
    assert (len(page.jobs), page.has_more, page.count("done")) == (5, True, OTHERS // 1000)
    # Statistics are told when the connection is idle, or ends.
    catalog.close()
    read = rows_read(url, "trireme_jobs_tenant") - before
    # Each of its own a few times at most: for each state, for the page, for the numbers.
    assert 0 < read <= 10 * OTHERS // 1000


def test_a_page_of_documents_begins_where_the_one_before_ended(catalog, url):
    before = rows_read(url, "documents_collection_id_id_key")
    page = catalog.documents(DocumentsQuery("t", "c", prefix="d1", after="d15", limit=5))
    assert [one.id for one in page.documents] == ["d150", "d1500", "d15000", "d15001", "d15002"]
    catalog.close()
    read = rows_read(url, "documents_collection_id_id_key") - before
    # The page, and the whole collection once where it is counted along this index.
    assert 0 < read <= 6 + OTHERS


def test_a_drop_that_runs_when_the_catalog_is_closed_ends_and_deletes_nothing(url, catalog):
    with psycopg.connect(url) as other, ThreadPoolExecutor(1) as threads:
        other.execute("SELECT FROM trireme.collections FOR UPDATE")
        dropped = threads.submit(catalog.drop, "t", "c")
        with psycopg.connect(url, autocommit=True) as looking:
            while not looking.execute(WAITING).fetchone()[0]:
                time.sleep(0.01)
        catalog.close()
        with pytest.raises(UnavailableError):
            dropped.result(30)
    assert catalog.documents(DocumentsQuery("t", "c")) is not None
    assert catalog.drop("t", "c")
