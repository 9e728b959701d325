"""How the tables come to be: from nothing, version by version, and by a user with few rights."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import psycopg
import pytest
from psycopg import sql

from trireme.errors import UnsupportedError
from trireme.local.postgres import LocalPostgres, start_postgres
from trireme.postgres.pool import ConnectionPool
from trireme.postgres.schema import FIRST_VERSION, MIGRATIONS, TENANT_ROLE, migrate
from trireme.postgres.store import PostgresStore
from trireme.types import Embedder, FloatArray, Passage, StoreQuery

pytestmark = pytest.mark.e2e

EMBEDDER = Embedder("a" * 64, 4)


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


def version_of(url: str) -> object:
    return rows(url, "SELECT max(version) FROM trireme.migrations")[0][0]


@pytest.mark.parametrize("version", range(1, FIRST_VERSION))
def test_a_database_from_before_the_first_version_is_refused_with_what_to_do(database, version):
    execute(
        database.url,
        "CREATE SCHEMA trireme",
        "CREATE TABLE trireme.migrations (version integer PRIMARY KEY)",
        f"INSERT INTO trireme.migrations SELECT generate_series(1, {version})",
    )
    store = PostgresStore(database.url, 2, exact_below=10, ef_search=100)
    with pytest.raises(UnsupportedError, match=f"schema version {version}, .* ingest again"):
        store.collections(None)
    assert not store.is_ready()
    assert version_of(database.url) == version


def test_a_database_of_a_newer_version_is_refused_with_what_to_do(database):
    use_store(database.url)
    execute(database.url, f"INSERT INTO trireme.migrations VALUES ({FIRST_VERSION + len(MIGRATIONS)})")
    store = PostgresStore(database.url, 2, exact_below=10, ef_search=100)
    with pytest.raises(UnsupportedError, match="upgrade Trireme"):
        store.collections(None)


def test_a_later_version_is_added_once_to_what_is_there_and_loses_nothing(database):
    use_store(database.url)
    steps = (
        *MIGRATIONS,
        "CREATE TABLE trireme.second AS SELECT count(*) AS passages FROM trireme.passages",
        lambda connection: connection.execute("INSERT INTO trireme.second VALUES (7)"),
    )
    for _ in range(2):
        pool = ConnectionPool(database.url, 1, partial(migrate, steps=steps))
        found = pool.run(lambda c: c.execute("SELECT passages FROM trireme.second").fetchall(), 60.0)
        pool.close()
        assert found == [(1,), (7,)]
    assert version_of(database.url) == FIRST_VERSION + len(steps) - 1


def test_a_new_database_gets_all_versions(database):
    pool = ConnectionPool(database.url, 1, partial(migrate, steps=(*MIGRATIONS, "SELECT 1")))
    pool.run(lambda c: c.execute("SELECT FROM trireme.passages"), 60.0)
    pool.close()
    assert version_of(database.url) == FIRST_VERSION + len(MIGRATIONS)


def test_a_migration_that_takes_longer_than_the_request_that_began_it_is_kept(database):
    slow = partial(migrate, steps=(*MIGRATIONS, "SELECT pg_sleep(3.5)"))
    pool = ConnectionPool(database.url, 1, slow)
    pool.run(lambda c: c.execute("SELECT 1"), 3.0)
    pool.close()
    assert version_of(database.url) == FIRST_VERSION + len(MIGRATIONS)


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
