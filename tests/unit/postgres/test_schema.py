"""How the tables come to be: from nothing, from an older version, and by a user with few rights."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import psycopg
import pytest
from pgvector import Vector
from psycopg import sql

import trireme.postgres.schema as module
from trireme.errors import UnsupportedError
from trireme.local.postgres import LocalPostgres, start_postgres
from trireme.postgres.pool import ConnectionPool
from trireme.postgres.schema import MIGRATIONS, TENANT_ROLE, VERSION_1, migrate
from trireme.postgres.store import PostgresStore
from trireme.types import CollectionInfo, Embedder, FloatArray, Passage, StoreQuery

pytestmark = pytest.mark.e2e

EMBEDDER = Embedder("a" * 64, 4)
OTHER = Embedder("b" * 64, 3)
ODD_METADATA = '{"k":  "\\u0000", "n": 1.50}'


@pytest.fixture
def database() -> Iterator[LocalPostgres]:
    # One for each test: roles belong to the whole server.
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as running:
        yield running


def url_of(server: LocalPostgres, database: str, user: str | None = None) -> str:
    parts = urlsplit(server.url)
    user_info = parts.netloc if user is None else f"{user}@"
    return urlunsplit(parts._replace(path=f"/{database}", netloc=user_info))


def execute(url: str, *statements: str | sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode() if isinstance(statement, str) else statement)


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode()).fetchall()


def vectors(count: int, dimensions: int) -> FloatArray:
    return np.random.default_rng(1).normal(size=(count, dimensions)).astype(np.float32)


def make_version_1(url: str) -> None:
    """A database as version 1 left it: two tenants, two embedders, one collection with an HNSW index."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE SCHEMA trireme")
        connection.execute("CREATE TABLE trireme.migrations (version integer PRIMARY KEY)")
        connection.execute(VERSION_1.encode())
        connection.execute("INSERT INTO trireme.migrations VALUES (1)")
        for tenant, collection, embedder in (("t", "c", EMBEDDER), ("u", "c", EMBEDDER), ("u", "d", OTHER)):
            row = connection.execute(
                "INSERT INTO trireme.collections (tenant, collection, embedder, dimensions, passages) "
                "VALUES (%s, %s, %s, %s, 50) RETURNING id",
                (tenant, collection, embedder.digest, embedder.dimensions),
            ).fetchone()
            assert row is not None
            for n, vector in enumerate(vectors(50, embedder.dimensions)):
                connection.execute(
                    "INSERT INTO trireme.passages VALUES (%s, %s, %s, %s, %s::vector)",
                    (row[0], f"{n:02d}", f"text {n} of {tenant}", ODD_METADATA, Vector(vector).to_text()),
                )
        connection.execute(
            "CREATE INDEX passages_hnsw_1 ON trireme.passages "
            "USING hnsw ((embedding::vector(4)) vector_cosine_ops) WHERE collection_id = 1"
        )


def test_a_database_of_version_1_is_migrated_and_loses_nothing(database: LocalPostgres):
    make_version_1(database.url)
    store = PostgresStore(database.url, 2, exact_below=10, ef_search=100)
    assert store.collections(None) == [
        CollectionInfo("t", "c", EMBEDDER, 50),
        CollectionInfo("u", "c", EMBEDDER, 50),
        CollectionInfo("u", "d", OTHER, 50),
    ]
    for tenant, collection, embedder in (("t", "c", EMBEDDER), ("u", "c", EMBEDDER), ("u", "d", OTHER)):
        stored = vectors(50, embedder.dimensions)
        hits = store.search(StoreQuery(stored[7], embedder, 50, tenant, collection))
        assert (hits[0].id, hits[0].text, hits[0].metadata) == ("07", f"text 7 of {tenant}", ODD_METADATA)
        assert hits[0].score == pytest.approx(1.0, abs=1e-6)
        assert len(hits) == 50
    assert store.put("u", "c", EMBEDDER, [Passage("07", "new")], vectors(1, 4)) == 1
    assert store.collections("u")[0].passages == 50
    store.close()
    indexes = "SELECT indexname FROM pg_indexes WHERE indexname LIKE '%hnsw%' ORDER BY indexname"
    # The one that was there, and the one that the put made.
    assert rows(database.url, indexes) == [("embeddings_hnsw_1",), ("embeddings_hnsw_2",)]
    tables = "SELECT relname::text FROM pg_class WHERE relname LIKE 'passages\\_1%'"
    assert rows(database.url, tables) == []


def test_a_database_of_version_3_finds_the_words_of_what_it_holds_as_new_ones(database: LocalPostgres):
    with psycopg.connect(database.url) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE ROLE trireme_tenant NOLOGIN")
        connection.execute("CREATE SCHEMA trireme")
        connection.execute("CREATE TABLE trireme.migrations (version integer PRIMARY KEY)")
        for number, step in enumerate(MIGRATIONS[:3], 1):
            connection.execute(step.encode()) if isinstance(step, str) else step(connection)
            connection.execute("INSERT INTO trireme.migrations VALUES (%s)", (number,))
        connection.execute(
            "INSERT INTO trireme.collections (tenant, collection, passages) VALUES ('t', 'c', 2)"
        )
        connection.execute(
            "INSERT INTO trireme.indexes (collection_id, embedder, dimensions, state) VALUES (1, %s, 4, 'active')",
            (EMBEDDER.digest,),
        )
        for key, text in enumerate(("in config/settings.toml", "港口在夜间关闭"), 1):
            connection.execute(
                "INSERT INTO trireme.passages (collection_id, tenant, id, text, metadata) "
                "VALUES (1, 't', %s, %s, '{}')",
                (str(key), text),
            )
            connection.execute(
                "INSERT INTO trireme.embeddings (index_id, passage_key, tenant, embedding) VALUES (1, %s, 't', %s)",
                (key, Vector(vectors(1, 4)[0]).to_text()),
            )
    store = PostgresStore(database.url, 2, exact_below=10, ef_search=100)
    for words, found in (("settings", ["1"]), ("夜间", ["2"]), ("config", ["1"])):
        query = StoreQuery(vectors(1, 4)[0], EMBEDDER, 5, "t", "c", text=words, mode="text")
        assert [hit.id for hit in store.search(query)] == found
    store.close()
    index = "SELECT indexdef FROM pg_indexes WHERE indexname = 'passages_tsv'"
    assert rows(database.url, index) == [("CREATE INDEX passages_tsv ON trireme.passages USING gin (tsv)",)]


def test_a_migration_that_takes_longer_than_the_request_that_began_it_is_kept(database, monkeypatch):
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, "SELECT pg_sleep(1.2)"))
    pool = ConnectionPool(database.url, 1, migrate)
    version = pool.run(lambda c: c.execute("SELECT count(*) FROM trireme.migrations").fetchone(), 1.0)
    pool.close()
    assert version == (len(MIGRATIONS) + 1,)


def make_owner(server: LocalPostgres, rights: str = "") -> str:
    """The URL of a new database whose owner is no superuser; pgvector is there already."""
    execute(server.url, f"CREATE ROLE plain LOGIN {rights}", "CREATE DATABASE theirs OWNER plain")
    execute(url_of(server, "theirs"), "CREATE EXTENSION vector")
    return url_of(server, "theirs", "plain")


def use_store(url: str) -> None:
    store = PostgresStore(url, 2, exact_below=1000, ef_search=100)
    store.put("t", "c", EMBEDDER, [Passage("x", "text")], vectors(1, 4))
    assert [hit.id for hit in store.search(StoreQuery(vectors(1, 4)[0], EMBEDDER, 5, "t", "c"))] == ["x"]
    assert store.is_ready()
    store.close()


def test_an_owner_who_may_make_roles_needs_no_administrator(database: LocalPostgres):
    use_store(make_owner(database, "CREATEROLE"))


def test_an_owner_without_that_right_is_told_what_an_administrator_must_run(database: LocalPostgres):
    url = make_owner(database)
    store = PostgresStore(url, 2, exact_below=1000, ef_search=100)
    with pytest.raises(UnsupportedError, match="CREATE ROLE trireme_tenant NOLOGIN; GRANT") as caught:
        store.collections(None)
    statements = str(caught.value).partition("administrator: ")[2]
    execute(database.url, *statements.rstrip(";").split("; "))
    use_store(url)


def test_an_owner_who_may_not_take_on_the_role_that_is_there_is_told_so(database: LocalPostgres):
    url = make_owner(database)
    execute(database.url, f"CREATE ROLE {TENANT_ROLE} NOLOGIN")
    store = PostgresStore(url, 2, exact_below=1000, ef_search=100)
    with pytest.raises(UnsupportedError, match='GRANT trireme_tenant TO "plain"'):
        store.collections(None)
    execute(database.url, f"GRANT {TENANT_ROLE} TO plain")
    use_store(url)


def test_two_databases_of_one_server_share_the_role(database: LocalPostgres):
    execute(database.url, "CREATE DATABASE second")
    use_store(database.url)
    use_store(url_of(database, "second"))


@pytest.fixture
def two_tenants(database: LocalPostgres) -> Callable[[str], list[tuple[object, ...]]]:
    """Runs a statement as the tenants' role with the setting at tenant "t"; "u" has rows in every table, too."""
    store = PostgresStore(database.url, 2, exact_below=1000, ef_search=100)
    for tenant in ("t", "u"):
        store.put(tenant, "c", EMBEDDER, [Passage("x", f"secret of {tenant}")], vectors(1, 4))
    store.close()
    with psycopg.connect(database.url) as connection:
        connection.execute(
            "INSERT INTO trireme.documents (collection_id, tenant, id, digest) "
            "SELECT id, tenant, 'd', '' FROM trireme.collections"
        )

    def select(statement: str, tenant: str | None = "t") -> list[tuple[object, ...]]:
        with psycopg.connect(database.url) as connection:
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(TENANT_ROLE)))
            if tenant is not None:
                connection.execute("SELECT set_config('trireme.tenant', %s, true)", (tenant,))
            return connection.execute(statement.encode()).fetchall()

    return select


TABLES = ("collections", "indexes", "documents", "passages", "embeddings")


@pytest.mark.parametrize("table", TABLES)
def test_a_query_without_a_filter_sees_its_own_tenants_rows_alone(two_tenants, table):
    assert len(two_tenants(f"SELECT * FROM trireme.{table}")) == 1
    assert two_tenants(f"SELECT * FROM trireme.{table}", "nobody") == []


@pytest.mark.parametrize("table", TABLES)
def test_a_query_without_the_setting_sees_no_row(two_tenants, table):
    assert two_tenants(f"SELECT * FROM trireme.{table}", None) == []


def test_the_role_of_a_search_may_not_write(two_tenants):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        two_tenants("DELETE FROM trireme.passages")
