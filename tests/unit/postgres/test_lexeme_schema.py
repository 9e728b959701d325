"""The statistics of BM25: kept by whoever writes passages, and by nobody who did not get to the end of it."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from time import sleep
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from psycopg import errors

from trireme.local.postgres import LocalPostgres, start_postgres
from trireme.postgres.lexeme_schema import LEAST, SAMPLE
from trireme.postgres.pool import ConnectionPool
from trireme.postgres.schema import MIGRATIONS, TENANT_ROLE, migrate
from trireme.postgres.store import PostgresStore
from trireme.types import Embedder, Passage, StoreQuery

pytestmark = pytest.mark.e2e

EMBEDDER = Embedder("a" * 64, 4)
WRITE = """
    INSERT INTO trireme.passages (collection_id, tenant, id, text, metadata, tsv)
    SELECT {collection}, 't', n::text, '', '{{}}', ('ship:1,2 ' || CASE WHEN n % 2 = 0 THEN 'mast:3 ' ELSE '' END
        || 'rope' || n || ':4')::tsvector FROM generate_series({first}, {last}) AS n
"""
MATCH = """
    SELECT key, relevance, coverage FROM trireme.match_text({collection}, %s, '{{}}', '', '{{}}', NULL, 1000, %s)
    ORDER BY key
"""


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as running:
        yield running


@pytest.fixture
def url(server: LocalPostgres) -> str:
    """An empty database of the test's own."""
    name = f"d{uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return urlsplit(server.url)._replace(path=f"/{name}").geturl()


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(url, 2, exact_below=10**6, ef_search=40)) as opened:
        yield opened


def put(store: PostgresStore, texts: list[str], prefix: str = "p") -> None:
    vectors = np.random.default_rng(1).normal(size=(len(texts), 4)).astype(np.float32)
    store.put("t", "c", EMBEDDER, [Passage(f"{prefix}{n}", text) for n, text in enumerate(texts)], vectors)


def read(url: str, statement: str, *values: object, tenant: str = "t") -> list[tuple]:
    with psycopg.connect(url) as connection:
        connection.execute("SELECT set_config('trireme.tenant', %s, true)", (tenant,))
        return connection.execute(statement.encode(), values).fetchall()


def collection_of(url: str) -> int:
    return read(url, "SELECT id FROM trireme.collections")[0][0]


def totals(url: str) -> list[tuple]:
    return read(url, "SELECT passages, words, uncounted FROM trireme.collections")


def test_words_are_counted_by_their_places_and_without_stop_words(url, store):
    put(store, ["the ship and the ship, the mast", "the", "client/server"])
    assert read(url, "SELECT id, words FROM trireme.passages ORDER BY id") == [
        ("p0", 3),
        ("p1", 0),
        ("p2", 3),
    ]
    assert totals(url) == [(3, 6, 3)]


def test_totals_follow_replacement_and_deletion(url, store):
    put(store, ["ship mast", "rope"])
    put(store, ["ship mast keel rudder"])
    assert totals(url) == [(2, 5, 4)]
    put(store, ["ship mast keel rudder"])
    assert totals(url) == [(2, 5, 4)]
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM trireme.passages WHERE id = 'p0'")
    assert totals(url)[0][1:] == (1, 5)


def test_words_read_by_other_rules_are_counted_anew(url, store):
    put(store, ["ship", "rope"])
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE trireme.passages SET tsv = 'ship:1,2,3' WHERE id = 'p0'")
    assert totals(url)[0][1] == 4


def test_a_writer_that_dies_before_its_commit_changes_nothing(url, store):
    put(store, ["ship mast"])
    before, collection = totals(url), collection_of(url)
    writer = psycopg.connect(url)
    writer.execute(WRITE.format(collection=collection, first=1, last=50).encode())
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (writer.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        writer.execute("SELECT 1")
    assert totals(url) == before
    put(store, ["rope"], "q")
    assert totals(url) == [(2, 3, 2)]


def test_common_words_are_counted_once_there_are_enough_passages_and_again_when_many_have_changed(url, store):
    put(store, ["ship"])
    collection = collection_of(url)
    shares = "SELECT lexeme, share FROM trireme.lexemes ORDER BY lexeme"
    with psycopg.connect(url) as connection:
        connection.execute(WRITE.format(collection=collection, first=2, last=SAMPLE - 1).encode())
        assert connection.execute(shares.encode()).fetchall() == []
        connection.execute(WRITE.format(collection=collection, first=SAMPLE, last=SAMPLE).encode())
    # Words that one passage holds are counted by the search.
    found = dict(read(url, shares))
    assert found == {"mast": pytest.approx(0.5, abs=0.001), "ship": 1.0}
    assert totals(url)[0][2] == 0
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE trireme.collections SET passages = 5000")
        connection.execute("DELETE FROM trireme.passages WHERE tsv @@ 'mast'")
        assert connection.execute(shares.encode()).fetchall() != [("ship", 1.0)]
        connection.execute(WRITE.format(collection=collection, first=10_001, last=14_000).encode())
    assert dict(read(url, shares))["mast"] == pytest.approx(2000 / 6500, abs=0.02)
    store.drop("t", "c")
    assert read(url, shares) == []


def test_a_common_word_counts_in_the_passages_that_a_rare_one_finds(url, store):
    put(store, ["ship mast"] * 30 + ["ship keel", "keel", "ship ship keel"])
    collection = collection_of(url)
    every = {
        key: values for key, *values in read(url, MATCH.format(collection=collection), "ship keel", 1000)
    }
    assert len(every) == 33
    read_few = MATCH.format(collection=collection)
    with psycopg.connect(url) as connection:
        connection.execute("SELECT trireme.count_lexemes(%s)", (collection,))
    few = {key: values for key, *values in read(url, read_few, "ship keel", 10)}
    assert len(few) == 3
    assert few == {key: [pytest.approx(value) for value in every[key]] for key in few}


def test_no_more_than_twice_the_passages_to_scan_are_read(url, store):
    put(store, ["ship"] * 50)
    assert len(read(url, MATCH.format(collection=collection_of(url)), "ship", 10)) == 20


def test_no_tenant_reads_the_shares_or_another_tenants_relevance(url, store):
    put(store, ["ship"])
    collection = collection_of(url)
    assert read(url, MATCH.format(collection=collection), "ship", 10, tenant="u") == []
    with psycopg.connect(url) as connection:
        connection.execute(f"SET ROLE {TENANT_ROLE}".encode())
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM trireme.lexemes")


def test_a_database_of_the_version_before_is_counted_when_it_is_upgraded(url):
    with closing(ConnectionPool(url, 1, partial(migrate, steps=MIGRATIONS[:4]))) as old:
        old.run(lambda connection: connection.execute("SELECT 1"), 60)
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO trireme.collections (tenant, collection, passages) VALUES ('t', 'c', 6000)"
        )
        connection.execute(WRITE.format(collection=1, first=1, last=6000).encode())
    revision = "SELECT revision FROM trireme.collections"
    before = read(url, revision)
    with closing(PostgresStore(url, 1, exact_below=10**6, ef_search=40)) as upgraded:
        assert [info.passages for info in upgraded.collections(None)] == []
    assert totals(url) == [(6000, 6000 * 3 + 3000, 0)]
    assert dict(read(url, "SELECT lexeme, share FROM trireme.lexemes")) == {
        "mast": pytest.approx(0.5),
        "ship": 1.0,
    }
    assert len(read(url, MATCH.format(collection=1), "ship rope7", 100)) == 1
    # What caches hold was ranked by other rules.
    assert read(url, revision) != before


def test_an_index_version_that_is_switched_to_changes_no_relevance(url, store):
    put(store, ["ship mast", "ship"])
    query = StoreQuery(np.ones(4, np.float32) / 2, EMBEDDER, 9, "t", "c", text="ship mast", mode="text")
    before, counted = [hit.rank_score for hit in store.search(query)], totals(url)
    other = Embedder("b" * 64, 4)
    version = store.versions.begin("t", "c", other, "other").number
    keys = [one.key for one in store.versions.missing(version, 9)]
    store.versions.fill(version, keys, np.eye(4, dtype=np.float32)[: len(keys)])
    store.versions.switch(version)
    asked = StoreQuery(query.embedding, other, 9, "t", "c", text="ship mast", mode="text")
    assert ([hit.rank_score for hit in store.search(asked)], totals(url)) == (before, counted)


def test_words_are_read_anew_without_comparing_every_passage_with_every_other(url, store):
    put(store, ["ship", "rope"])
    plans: list[str] = []
    with psycopg.connect(url) as connection:
        connection.add_notice_handler(lambda notice: plans.append(notice.message_detail or ""))
        connection.execute("SET client_min_messages = log")
        connection.execute("SET debug_print_plan = on")
        connection.execute("UPDATE trireme.passages SET tsv = 'ship:1,2,3' WHERE id = 'p0'")
    assert any("PLANNEDSTMT" in plan for plan in plans)
    assert not any("NESTLOOP" in plan for plan in plans)


def test_a_sample_of_a_collection_written_at_once_is_no_larger(url, store):
    put(store, ["ship"])
    write = (
        "INSERT INTO trireme.passages (collection_id, tenant, id, text, metadata, tsv) "
        "SELECT %s, 't', n::text, '', '{}', ('word' || n / 30 || ':1')::tsvector FROM generate_series(1, %s) AS n"
    )
    with psycopg.connect(url) as connection:
        connection.execute(write, (collection_of(url), 6 * SAMPLE))
    [(least,)] = read(url, "SELECT min(share) FROM trireme.lexemes")
    # LEAST of about SAMPLE passages, not of all of them.
    assert least == pytest.approx(LEAST / SAMPLE, rel=0.1)


def test_an_upgrade_waits_for_a_writer_and_does_not_hold_what_it_wants_next(url):
    with closing(ConnectionPool(url, 1, partial(migrate, steps=MIGRATIONS[:4]))) as old:
        old.run(lambda connection: connection.execute("SELECT 1"), 60)
    with psycopg.connect(url) as writer, closing(PostgresStore(url, 1, 10**6, 40)) as upgraded:
        writer.execute("INSERT INTO trireme.collections (tenant, collection) VALUES ('t', 'c')")
        with ThreadPoolExecutor(1) as pool:
            upgrade = pool.submit(upgraded.collections, None)
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
            while read(url, waits) == [(0,)] and not upgrade.done():
                sleep(0.01)
            writer.execute(WRITE.format(collection=1, first=1, last=9).encode())
            writer.commit()
            upgrade.result()
    assert totals(url)[0][1] == 9 * 3 + 4
