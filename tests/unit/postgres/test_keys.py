"""What PostgreSQL itself must hold to for keys: the way from version 5, rights, the order of changes, faults."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import psycopg
import pytest

from fakes.ports import free_ports
from trireme.access.keys import Key, digest_of
from trireme.errors import InvalidInputError, UnavailableError
from trireme.local.postgres import LocalPostgres, start_postgres
from trireme.postgres.keys import PostgresKeys
from trireme.postgres.pool import ConnectionPool
from trireme.postgres.schema import MIGRATIONS, TENANT_ROLE, migrate
from trireme.postgres.store import PostgresStore
from trireme.types import Embedder, Passage, StoreQuery

EMBEDDER = Embedder("a" * 64, 2)
ONE = np.ones((1, 2), np.float32)
DIGEST = digest_of("a secret")


@pytest.fixture
def database() -> Iterator[LocalPostgres]:
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as running:
        yield running


def versions_of(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT version FROM trireme.migrations ORDER BY version").fetchall()
    return [version for (version,) in rows]


@pytest.mark.e2e
def test_a_database_of_version_five_is_brought_up_and_keeps_its_passages(database):
    with closing(ConnectionPool(database.url, 1, partial(migrate, steps=MIGRATIONS[:1]))) as old:
        old.run(
            lambda c: c.execute(
                "INSERT INTO trireme.collections (tenant, collection, passages) VALUES ('t', 'old', 7)"
            ),
            60.0,
        )
    assert versions_of(database.url) == [5]
    with closing(PostgresKeys(database.url)) as keys:
        keys.create(Key("key_a", "t"), DIGEST)
        assert set(keys.read(-1).keys) == {DIGEST}
        assert keys.count("key_a", 1) == 0.0
    assert versions_of(database.url)[:2] == [5, 6]
    with psycopg.connect(database.url) as connection:
        assert connection.execute("SELECT collection, passages FROM trireme.collections").fetchall() == [
            ("old", 7)
        ]
    with closing(PostgresStore(database.url, 1, 1000, 100)) as store:
        store.put("t", "c", EMBEDDER, [Passage("x", "text")], ONE)
        assert [hit.id for hit in store.search(StoreQuery(ONE[0], EMBEDDER, 5, "t", "c"))] == ["x"]


@pytest.mark.e2e
def test_a_searchs_role_may_not_read_keys_even_where_new_tables_are_given_to_it(database):
    with closing(ConnectionPool(database.url, 1, partial(migrate, steps=MIGRATIONS[:1]))) as old:
        old.run(
            lambda c: c.execute(
                f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {TENANT_ROLE}, PUBLIC".encode()
            ),
            60.0,
        )
    with closing(PostgresKeys(database.url)) as keys:
        keys.create(Key("key_a", "t"), DIGEST)
    for table in ("keys", "key_revision", "key_minutes"):
        with psycopg.connect(database.url) as connection:
            connection.execute(f"SET ROLE {TENANT_ROLE}".encode())
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT * FROM trireme.{table}".encode())


@pytest.mark.e2e
def test_a_priority_that_was_written_by_hand_becomes_normal_and_can_be_written_no_more(database):
    with closing(ConnectionPool(database.url, 1, partial(migrate, steps=MIGRATIONS[:6]))) as old:
        old.run(lambda c: c.execute("SELECT"), 60.0)
    insert = "INSERT INTO trireme.keys VALUES (%s, %s, 't', '', '{}', '{}', '{}', 0, now(), NULL, %s)"
    written = {"key_a": "urgent", "key_b": "batch", "key_c": ""}
    with psycopg.connect(database.url) as connection:
        for name, priority in written.items():
            connection.execute(insert, (name, digest_of(name), priority))
    with closing(PostgresKeys(database.url)) as keys:
        held = keys.read(-1)
        found = {key.id: key.priority for key in held.keys.values()}
        assert found == {"key_a": "normal", "key_b": "batch", "key_c": "normal"}
        # Who has read the keys before reads them again.
        assert held.revision == 1
        with psycopg.connect(database.url) as connection, pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(insert, ("key_d", digest_of("d"), "urgent"))


@pytest.mark.e2e
def test_a_priority_of_a_later_version_is_normal_to_this_one(database):
    with closing(PostgresKeys(database.url)) as keys:
        keys.create(Key("key_a", "t", priority="high"), DIGEST)
        with psycopg.connect(database.url) as connection:
            connection.execute("ALTER TABLE trireme.keys DROP CONSTRAINT keys_priority")
            connection.execute("UPDATE trireme.keys SET priority = 'higher'")
        assert keys.read(-1).keys[DIGEST].priority == "normal"
        assert [key.priority for key in keys.find()] == ["normal"]


@pytest.mark.e2e
def test_a_change_waits_for_the_one_before_it_and_readers_wait_for_neither(database):
    with closing(PostgresKeys(database.url)) as keys:
        held = keys.read(-1)
        with psycopg.connect(database.url) as other:
            other.execute("SELECT FROM trireme.key_revision FOR UPDATE")
            making = threading.Thread(target=keys.create, args=(Key("key_a", "t"), DIGEST))
            making.start()
            waiting = "SELECT FROM pg_locks WHERE NOT granted"
            with psycopg.connect(database.url, autocommit=True) as watch:
                while watch.execute(waiting).fetchone() is None:
                    assert making.is_alive()
            assert keys.read(held.revision) is None
        making.join()
        assert set(keys.read(held.revision).keys) == {DIGEST}


@pytest.mark.e2e
def test_a_database_that_was_put_back_has_no_revision_that_was_read_before(database):
    with closing(PostgresKeys(database.url)) as keys:
        keys.create(Key("key_a", "t"), DIGEST)
        held = keys.read(-1)
        with psycopg.connect(database.url) as connection:
            # As it was before the key, and then another one is made.
            connection.execute("DELETE FROM trireme.keys")
            connection.execute("UPDATE trireme.key_revision SET revision = 0")
        keys.create(Key("key_b", "t"), digest_of("another"))
        assert set(keys.read(held.revision).keys) == {digest_of("another")}


@pytest.mark.e2e
def test_a_key_has_one_row_of_counts_however_many_minutes_it_is_used(database):
    with closing(PostgresKeys(database.url)) as keys:
        for _ in range(3):
            keys.count("key_a", 5)
            with psycopg.connect(database.url) as connection:
                connection.execute("UPDATE trireme.key_minutes SET minute = minute - interval '7 minutes'")
        with psycopg.connect(database.url) as connection:
            rows = connection.execute("SELECT key_id, requests FROM trireme.key_minutes").fetchall()
    assert rows == [("key_a", 1)]


@pytest.mark.e2e
def test_a_refused_key_tells_no_name_of_a_table(database):
    with closing(PostgresKeys(database.url)) as keys:
        keys.create(Key("key_a", "t"), DIGEST)
        with pytest.raises(InvalidInputError) as caught:
            keys.create(Key("key_a", "t"), DIGEST)
    assert "trireme." not in str(caught.value)
    assert "_pkey" not in str(caught.value)


def test_every_verb_says_that_the_database_does_not_answer():
    (port,) = free_ports(1)
    keys = PostgresKeys(f"postgresql://someone:secret@127.0.0.1:{port}/x")
    for verb in (
        lambda: keys.create(Key("key_a", "t"), DIGEST),
        keys.find,
        lambda: keys.revoke(["key_a"]),
        lambda: keys.read(-1),
        lambda: keys.count("key_a", 1),
    ):
        with pytest.raises(UnavailableError, match="check TRIREME_DATABASE_URL") as caught:
            verb()
        assert "secret" not in str(caught.value)
    keys.close()
