"""How long a tenant's documents, passages and jobs take to be read in pages, and a collection to be deleted.

Seeds an embedded PostgreSQL of its own by SQL, beside as many rows of other tenants: a large collection, one long
document, jobs of every state. Each page is read several times through the port that the gateway uses; medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.common.report import (
    DOCS,
    RESULTS,
    read_circumstances,
    render,
    show_progress_note,
    write_json,
    write_section,
)
from benchmarks.common.script import make_parser, run_script
from trireme.ingest.catalog import Catalog, DocumentsQuery, JobsQuery, PassagesQuery
from trireme.ingest.queue import JobQuery, JobQueue
from trireme.local.postgres import start_postgres
from trireme.storage import open_catalog, open_queue, open_store

SEED = 1
DIMENSIONS = 384
TENANT, COLLECTION, DRAFTS = "acme", "library", "drafts"
OTHERS = 100
DEAD = 500
LONG = "book"
WORKER_SECONDS = 15.0

# Vectors are compared by nobody here; they weigh what real ones do.
SEED_DOCUMENTS = """
    INSERT INTO trireme.collections (tenant, collection, passages, documents)
        VALUES (%(tenant)s, %(collection)s, %(documents)s, %(documents)s);
    INSERT INTO trireme.collections (tenant, collection, passages)
        SELECT 'tenant' || n, %(collection)s, %(documents)s / %(others)s FROM generate_series(1, %(others)s) AS n;
    INSERT INTO trireme.indexes (collection_id, embedder, dimensions, state)
        SELECT id, repeat('a', 64), %(dimensions)s, 'active' FROM trireme.collections;
    INSERT INTO trireme.documents (collection_id, tenant, id, digest, title, source, chunks)
        SELECT c.id, c.tenant, format('reports/%%s/%%s.md', n %% 1000, n), md5(n::text), 'Report ' || n,
            n || '.md', 1
        FROM trireme.collections c, generate_series(1, c.passages) AS n;
    INSERT INTO trireme.passages (collection_id, tenant, document_key, id, text, metadata, tsv)
        SELECT d.collection_id, d.tenant, d.key, d.id || '#0', texts.body,
            json_build_object('source', d.source, 'title', d.title, 'heading', '', 'position', 0), texts.words
        FROM trireme.documents d,
        -- The index of words is not read here, and would take most of the seed's time.
        (SELECT body, to_tsvector('pg_catalog.english', left(body, 20)) AS words
            FROM (SELECT string_agg('word' || w, ' ') AS body FROM generate_series(1, 120) AS w) AS made) AS texts;
    INSERT INTO trireme.embeddings (index_id, passage_key, tenant, embedding)
        SELECT i.id, p.key, p.tenant,
            (SELECT array_agg(sin(g)) FROM generate_series(1, %(dimensions)s) AS g)::real[]::vector
        FROM trireme.passages p JOIN trireme.indexes i ON i.collection_id = p.collection_id;
    """

SEED_LONG = """
    WITH book AS (
        INSERT INTO trireme.documents (collection_id, tenant, id, digest, title, source, chunks)
        SELECT id, tenant, %(long)s, 'x', 'Book', 'book.pdf', %(passages)s FROM trireme.collections
        WHERE tenant = %(tenant)s AND collection = %(collection)s RETURNING key, collection_id, tenant)
    INSERT INTO trireme.passages (collection_id, tenant, document_key, id, text, metadata, tsv)
    SELECT collection_id, tenant, key, %(long)s || '#' || n, repeat('A sentence of the book. ', 40),
        json_build_object('position', n), ''
    FROM book, generate_series(0, %(passages)s - 1) AS n ORDER BY md5(n::text)
    """

SEED_JOBS = """
    INSERT INTO trireme.procrastinate_jobs (queue_name, task_name, lock, args, status, attempts)
    SELECT 'ingest', 'trireme:ingest', md5(%(tenant)s || %(collection)s || n),
        jsonb_build_object('tenant', %(tenant)s, 'collection', %(collection)s,
            'document', format('reports/%%s.md', n), 'batch', 'http'),
        %(status)s::trireme.procrastinate_job_status, 1
    FROM generate_series(1, %(jobs)s) AS n
    """

SEED_SUBMISSIONS = """
    INSERT INTO trireme.submissions
        (job, tenant, collection, document_id, digest, title, source, whole, extra, text, error)
    SELECT id, tenant, collection, args ->> 'document', 'x', '', '', false, '{}', repeat('Some text. ', 100),
        CASE status WHEN 'failed' THEN 'the file is no PDF' ELSE '' END
    FROM trireme.procrastinate_jobs WHERE status IN ('todo', 'failed')
    """


@dataclass(frozen=True, slots=True)
class Timed:
    """What was done and how long it took, in milliseconds: the median, and the longest, of `runs`."""

    what: str
    median_ms: float
    most_ms: float
    runs: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rows of the seed: documents (and jobs, and both again of other tenants), passages of the long document."""

    documents: int
    passages: int


def seed(url: str, sizes: Sizes) -> None:
    """Fill an empty database that has the schema. Blocks for minutes."""
    scope = {"tenant": TENANT, "collection": COLLECTION, "others": OTHERS, "dimensions": DIMENSIONS}
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SET search_path TO trireme, public")
        show_progress_note(f"{sizes.documents:,} documents")
        connection.execute(SEED_DOCUMENTS, {**scope, "documents": sizes.documents})
        connection.execute(SEED_LONG, {**scope, "long": LONG, "passages": sizes.passages})
        show_progress_note("jobs")
        for collection, status, count in (
            (COLLECTION, "succeeded", sizes.documents),
            (COLLECTION, "failed", DEAD),
            (DRAFTS, "todo", sizes.documents),
        ):
            connection.execute(
                SEED_JOBS, {**scope, "collection": collection, "jobs": count, "status": status}
            )
        for number in range(1, OTHERS + 1):
            other = {"tenant": f"tenant{number}", "jobs": sizes.documents // OTHERS, "status": "succeeded"}
            connection.execute(SEED_JOBS, {**scope, **other})
        connection.execute(SEED_SUBMISSIONS)
        # As autovacuum leaves tables that are written now and then.
        connection.execute("VACUUM ANALYZE")


def measure(act: Callable[[], Any], what: str, runs: int) -> Timed:
    """Do it once to warm up, then `runs` times."""
    act()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        act()
        taken.append((time.perf_counter() - began) * 1000)
    timed = Timed(what, statistics.median(taken), max(taken), runs)
    show_progress_note(f"{timed.median_ms:9.1f} ms  {what}")
    return timed


def measure_reads(catalog: Catalog, queue: JobQueue, sizes: Sizes, runs: int) -> list[Timed]:
    """Every kind of page."""
    documents = DocumentsQuery(TENANT, COLLECTION)
    middle = catalog.documents(DocumentsQuery(TENANT, COLLECTION, after="reports/5"))
    assert middle is not None
    book = PassagesQuery(TENANT, COLLECTION, LONG)
    half, last = f"{LONG}#{sizes.passages // 2}", f"{LONG}#{sizes.passages - 60}"
    newest = catalog.jobs(JobsQuery(TENANT)).jobs[0]
    deep = str(int(newest.id) - sizes.documents)
    reads: list[tuple[str, Callable[[], Any]]] = [
        ("first page of documents", lambda: catalog.documents(documents)),
        (
            "page of documents in the middle",
            lambda: catalog.documents(DocumentsQuery(TENANT, COLLECTION, after=middle.documents[0].id)),
        ),
        (
            "page of documents by prefix",
            lambda: catalog.documents(DocumentsQuery(TENANT, COLLECTION, prefix="reports/7")),
        ),
        (
            "a prefix that no document has",
            lambda: catalog.documents(DocumentsQuery(TENANT, COLLECTION, prefix="~")),
        ),
        (
            "a document of one passage",
            lambda: catalog.passages(PassagesQuery(TENANT, COLLECTION, "reports/7/7.md")),
        ),
        (f"first page of a document of {sizes.passages:,} passages", lambda: catalog.passages(book)),
        (
            "a passage in its middle, among its neighbours",
            lambda: catalog.passages(PassagesQuery(TENANT, COLLECTION, LONG, around=half, limit=9)),
        ),
        ("its last page", lambda: catalog.passages(PassagesQuery(TENANT, COLLECTION, LONG, after=last))),
        ("first page of jobs, with counts", lambda: catalog.jobs(JobsQuery(TENANT))),
        ("page of jobs in the middle, with counts", lambda: catalog.jobs(JobsQuery(TENANT, after=deep))),
        ("dead letters, with counts", lambda: catalog.jobs(JobsQuery(TENANT, state="dead"))),
        (
            "jobs of one collection, with counts",
            lambda: catalog.jobs(JobsQuery(TENANT, collections=(COLLECTION,))),
        ),
        ("jobs of one batch, with counts", lambda: catalog.jobs(JobsQuery(TENANT, batch="http"))),
        ("one job", lambda: catalog.jobs(JobsQuery(TENANT, ids=(newest.id,), limit=1))),
        (
            "numbers of one collection's jobs",
            lambda: queue.find(JobQuery(tenant=TENANT, collection=COLLECTION, limit=0)),
        ),
    ]
    return [measure(act, what, runs) for what, act in reads]


def measure_writes(url: str, catalog: Catalog, queue: JobQueue, sizes: Sizes) -> list[Timed]:
    """Each once: what is deleted is gone."""
    dead = [job.id for job in catalog.jobs(JobsQuery(TENANT, state="dead", limit=200)).jobs]
    timed = []
    for what, act in (
        ("retry of a dead job", lambda: queue.retry(dead[:1])),
        ("a dead job forgotten", lambda: catalog.forget(TENANT, dead[1])),
        (
            f"deletion of a collection for which {sizes.documents:,} jobs wait",
            lambda: catalog.drop(TENANT, DRAFTS),
        ),
        (
            f"deletion of a collection of {sizes.documents:,} documents and as many jobs",
            lambda: catalog.drop(TENANT, COLLECTION),
        ),
    ):
        began = time.perf_counter()
        act()
        taken = (time.perf_counter() - began) * 1000
        timed.append(Timed(what, taken, taken, 1))
        show_progress_note(f"{taken:9.1f} ms  {what}")
    return timed


def run(sizes: Sizes, runs: int, scratch: Path | None) -> list[Timed]:
    """Seeds a server of its own and measures. Blocks for minutes."""
    with (
        tempfile.TemporaryDirectory(prefix="trireme-", dir=scratch) as folder,
        start_postgres(Path(folder)) as server,
        closing(open_store(server.url)) as store,
        closing(open_catalog(server.url, WORKER_SECONDS)) as catalog,
        closing(open_queue(server.url, WORKER_SECONDS)) as queue,
    ):
        # It makes the schema.
        store.collections(None)
        seed(server.url, sizes)
        return [
            *measure_reads(catalog, queue, sizes, runs),
            *measure_writes(server.url, catalog, queue, sizes),
        ]


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures and writes the results and the section of docs/documents.md."""
    seen = read_circumstances("benchmarks.ingestion.holdings", words, SEED)
    sizes = Sizes(options.documents, options.passages)
    timed = run(sizes, options.runs, options.scratch)
    entry = {**asdict(seen), "sizes": asdict(sizes), "timed": [asdict(one) for one in timed]}
    section = render("ingestion/holdings.md.j2", **entry)
    print(section)
    if options.write:
        write_json(RESULTS / "holdings.json", entry)
        write_section(DOCS / "documents.md", "benchmarks.ingestion.holdings", section)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--passages", type=int, default=20_000, help="of the long document")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--scratch", type=Path, help="a folder with room for the database, 2 GB")
    parser.add_argument("--write", action="store_true", help="write results and page")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
