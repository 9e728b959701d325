"""Every verb gives up after its own time, and only then, while another connection holds every table."""

import dataclasses
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import psycopg
import pytest

from trireme.access.keys import Key
from trireme.budget.caps import Cap
from trireme.budget.ledger import LedgerRow, Recorded, SumQuery, UsageQuery
from trireme.errors import UnavailableError
from trireme.ingest.queue import JobQuery
from trireme.local.postgres import start_postgres
from trireme.postgres.caps import PostgresCaps
from trireme.postgres.documents import PostgresDocuments
from trireme.postgres.index_builder import PostgresIndexBuilder
from trireme.postgres.keys import PostgresKeys
from trireme.postgres.ledger import PostgresLedger
from trireme.postgres.queue import ProcrastinateQueue
from trireme.postgres.store import PostgresStore
from trireme.postgres.timeouts import Timeouts
from trireme.types import Document, Embedder, Passage, StoreQuery

pytestmark = pytest.mark.e2e

EMBEDDER = Embedder("a" * 64, 2)
ONE = np.ones((1, 2), np.float32)
TABLES = (
    "collections, indexes, documents, passages, embeddings, submissions, procrastinate_jobs,"
    " keys, key_revision, key_minutes, caps, cap_revision, ledger"
)
ROW = Recorded(LedgerRow("a", "r", "t", "u", "k", "chat", "local", "llm", "local:llm", 0))
QUICK, LONG = 0.6, 30.0
OTHERS = {one.name: LONG for one in dataclasses.fields(Timeouts) if one.name != "connect"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as running:
        with closing(PostgresStore(running.url, 1, 1000, 100)) as store:
            store.put("t", "c", EMBEDDER, [Passage("x", "text")], ONE)
        with psycopg.connect(running.url) as other:
            other.execute("SET search_path = trireme")
            other.execute(f"LOCK TABLE {TABLES}")
            yield running.url


def open_store(url: str, timeouts: Timeouts) -> PostgresStore:
    return PostgresStore(url, 1, 1000, 100, timeouts=timeouts)


def open_documents(url: str, timeouts: Timeouts) -> PostgresDocuments:
    return PostgresDocuments(url, timeouts=timeouts)


def open_queue(url: str, timeouts: Timeouts) -> ProcrastinateQueue:
    return ProcrastinateQueue(url, timeouts=timeouts)


def open_builder(url: str, timeouts: Timeouts) -> PostgresIndexBuilder:
    return PostgresIndexBuilder(url, 1000, timeouts=timeouts)


def open_keys(url: str, timeouts: Timeouts) -> PostgresKeys:
    return PostgresKeys(url, timeouts)


def open_caps(url: str, timeouts: Timeouts) -> PostgresCaps:
    return PostgresCaps(url, timeouts)


def open_ledger(url: str, timeouts: Timeouts) -> PostgresLedger:
    return PostgresLedger(url, timeouts)


@pytest.mark.parametrize(
    ("opened", "field", "verb"),
    [
        (open_store, "search", lambda s: s.search(StoreQuery(ONE[0], EMBEDDER, 1, "t", "c"))),
        (open_store, "search", lambda s: s.collections(None)),
        (open_store, "write_passages", lambda s: s.put("t", "c", EMBEDDER, [Passage("x", "y")], ONE)),
        (open_store, "write_passages", lambda s: s.versions.begin("t", "c", EMBEDDER, "m")),
        (open_store, "read_passages", lambda s: s.versions.missing(1, 1)),
        (open_store, "drop", lambda s: s.drop("t", "c")),
        (open_documents, "read_documents", lambda d: d.digests("t", "c", ["a"])),
        (open_documents, "read_documents", lambda d: d.ids("t", "c")),
        (open_documents, "move_document", lambda d: d.delete("t", "c", ["a"])),
        (open_queue, "queue", lambda q: q.find(JobQuery())),
        (open_queue, "queue", lambda q: q.take(1)),
        (open_queue, "publish", lambda q: q.publish("t", "c", [Document("a", "", ("x",), "a")])),
        (open_builder, "read_documents", lambda b: b.build_due()),
        (open_keys, "keys", lambda k: k.create(Key("key_a", "t"), "a" * 64)),
        (open_keys, "keys", lambda k: k.find()),
        (open_keys, "keys", lambda k: k.revoke(["key_a"])),
        (open_keys, "read_keys", lambda k: k.read(-1)),
        (open_keys, "count_request", lambda k: k.count("key_a", 1)),
        (open_caps, "caps", lambda c: c.put(Cap("t", "", "day", tokens=1))),
        (open_caps, "caps", lambda c: c.find()),
        (open_caps, "read_caps", lambda c: c.read(-1)),
        (open_ledger, "record_usage", lambda one: one.record([ROW])),
        (open_ledger, "read_usage", lambda one: one.usage(UsageQuery(0, 1, "day"))),
        (open_ledger, "read_usage", lambda one: one.sum(SumQuery("", "", 0, 1, "", 0))),
    ],
)
def test_a_verb_gives_up_after_its_own_time(url, opened, field, verb):
    with closing(opened(url, Timeouts(**OTHERS | {field: QUICK}))) as adapter:
        began = time.monotonic()
        with pytest.raises(UnavailableError):
            verb(adapter)
        # A statement ends a little before the deadline of its connection.
        assert QUICK / 2 < time.monotonic() - began < LONG / 2
