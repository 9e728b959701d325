"""Revisions of collections on a real PostgreSQL: each commit that changes what searches find changes them."""

import numpy as np
import psycopg
import pytest

from trireme.postgres.revisions import PostgresRevisions
from trireme.storage import open_store
from trireme.types import Embedder, Passage

pytestmark = pytest.mark.e2e
EMBEDDER = Embedder("a" * 64, 2)
OTHER = Embedder("b" * 64, 2)


@pytest.fixture
def store(database):
    opened = open_store(database.url)
    yield opened
    for one in opened.collections(None):
        opened.drop(one.tenant, one.collection)
    opened.close()


@pytest.fixture
def revisions(database):
    opened = PostgresRevisions(database.url)
    yield opened
    opened.close()


def put(store, *texts, tenant="t", collection="c"):
    passages = [Passage(f"p{n}", text, "{}") for n, text in enumerate(texts)]
    vectors = np.ones((len(texts), 2), np.float32)
    store.put(tenant, collection, EMBEDDER, passages, vectors)


def test_a_collection_that_is_not_there_has_no_revision(revisions):
    assert revisions.read("nobody", "c") == ""
    assert revisions.read("a\x00", "c") == ""


def test_every_change_of_passages_is_a_new_revision_and_nothing_else_is(store, revisions):
    seen = []

    def changed():
        seen.append(revisions.read("t", "c"))
        assert revisions.read("t", "c") == seen[-1]
        return seen.count(seen[-1]) == 1

    put(store, "one", "two")
    assert changed()
    put(store, "one", "three")
    assert changed()
    put(store, "one", "three", tenant="u")
    put(store, "one", "three", collection="d")
    assert not changed()
    store.drop("t", "c")
    assert revisions.read("t", "c") == ""
    put(store, "one", "two")
    assert changed()


def test_statements_of_any_writer_count_once_for_each_commit(database, store, revisions):
    put(store, "one", "two")
    before = revisions.read("t", "c")
    with psycopg.connect(database.url) as connection:
        connection.execute(
            "UPDATE trireme.passages SET metadata = '{\"a\": 1}' WHERE tenant = 't' AND id = 'p0'"
        )
        row = "SELECT revision::text FROM trireme.collections WHERE tenant = 't' AND collection = 'c'"
        once = connection.execute(row).fetchone()[0]
        connection.execute("DELETE FROM trireme.passages WHERE tenant = 't' AND id = 'p1'")
        assert connection.execute(row).fetchone()[0] == once != before
        connection.rollback()
    assert revisions.read("t", "c") == before


def test_a_switch_to_another_index_version_is_a_new_revision(store, revisions):
    put(store, "one", "two")
    before = revisions.read("t", "c")
    versions = store.versions
    made = versions.begin("t", "c", OTHER, "model")
    missing = versions.missing(made.number, 10)
    versions.fill(made.number, [one.key for one in missing], np.ones((len(missing), 2), np.float32))
    assert revisions.read("t", "c") == before
    versions.switch(made.number)
    assert revisions.read("t", "c") != before
