"""What only the real database can show: the index, outages, kill -9, concurrent first starts."""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import psycopg
import pytest
from psycopg import sql

from trireme.errors import InvalidInputError, TriremeError, UnavailableError, UnsupportedError
from trireme.local.postgres import LocalPostgres, start_postgres
from trireme.postgres.store import PostgresStore
from trireme.types import Embedder, FloatArray, Passage, SparseVector, StoreQuery

pytestmark = pytest.mark.e2e

DIMENSIONS = 24
EMBEDDER = Embedder("a" * 64, DIMENSIONS)


@pytest.fixture(scope="module")
def database() -> Iterator[LocalPostgres]:
    # Not pytest's folder: each new session closes that of all sessions to other accounts.
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as running:
        yield running


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def url(database: LocalPostgres, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh database of the module's server."""
    name = "fresh"
    with psycopg.connect(database.url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield urlunsplit(urlsplit(database.url)._replace(path=f"/{name}")).replace(
        "postgresql:/f", "postgresql:///f"
    )
    with psycopg.connect(database.url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def open_one(url: str) -> Iterator[Callable[..., PostgresStore]]:
    opened: list[PostgresStore] = []

    def make(exact_below: int = 1000, pool_size: int = 4, ef_search: int = 100) -> PostgresStore:
        opened.append(PostgresStore(url, pool_size, exact_below, ef_search))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def vectors(count: int, seed: int = 0) -> FloatArray:
    random = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return random / np.linalg.norm(random, axis=1, keepdims=True)


def passages(count: int) -> list[Passage]:
    return [Passage(f"{n:05d}", f"text {n}") for n in range(count)]


def query(embedding: FloatArray, top_k: int = 10, collection: str = "c", tenant: str = "t") -> StoreQuery:
    return StoreQuery(embedding, EMBEDDER, top_k, tenant, collection)


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode()).fetchall()


def hnsw_scans(url: str, pattern: str = "embeddings_hnsw") -> dict[str, int]:
    """Scans of each HNSW index; complete once the searching connections are closed."""
    return {
        str(name): int(str(scans))
        for name, scans in rows(
            url,
            f"SELECT indexrelname, idx_scan FROM pg_stat_user_indexes WHERE indexrelname LIKE '{pattern}%'",
        )
    }


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_large_collection_is_searched_through_its_index_and_finds_nearly_all(open_one, url):
    store, embeddings = open_one(), vectors(3000)
    store.put("t", "c", EMBEDDER, passages(3000), embeddings)
    queries = vectors(20, seed=1)
    found = [{int(hit.id) for hit in store.search(query(vector))} for vector in queries]
    store.close()
    wait_until(lambda: sum(hnsw_scans(url).values()) == 20)
    nearest = np.argsort(-(queries @ embeddings.T), axis=1)[:, :10]
    recall = np.mean([len(ids & set(truth)) / 10 for ids, truth in zip(found, nearest, strict=True)])
    assert recall > 0.9


def test_the_planner_chooses_the_index_for_the_statement_of_a_search(open_one, monkeypatch):
    store = open_one()
    store.put("t", "c", EMBEDDER, passages(2000), vectors(2000))
    plans: list[str] = []

    execute = psycopg.Connection.execute

    def spy(connection, statement, parameters=None, **options):
        if isinstance(statement, sql.Composed) and "<=>" in statement.as_string():
            explained = execute(connection, sql.SQL("EXPLAIN ") + statement, parameters)
            plans.append("\n".join(row[0] for row in explained))
        return execute(connection, statement, parameters, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", spy)
    store.search(query(vectors(1)[0]))
    open_one(exact_below=10_000).search(query(vectors(1)[0]))
    assert len(plans) == 2
    assert "Index Scan using embeddings_hnsw_" in plans[0]
    assert "embeddings_hnsw_" not in plans[1]


def test_weights_of_a_large_collection_are_searched_through_an_index_of_their_own(open_one, url):
    store, draw = open_one(), np.random.default_rng(1)
    held = [draw_weights(draw) for _ in range(1200)]
    store.put("t", "c", EMBEDDER, passages(1200), vectors(1200), sparse=held)
    dense = np.zeros((1200, 60))
    for row, one in enumerate(held):
        dense[row, one.indices] = one.weights
    asked = [draw_weights(draw) for _ in range(20)]
    found = [
        {int(hit.id) for hit in store.search(replace(query(vectors(1)[0]), mode="sparse", sparse=one))}
        for one in asked
    ]
    store.search(replace(query(vectors(1)[0]), mode="hybrid", text="text", sparse=asked[0]))
    store.close()
    wait_until(lambda: sorted(hnsw_scans(url, "embeddings_%\\_").values()) == [1, 21])
    nearest = [np.argsort(-(dense[:, one.indices] @ one.weights))[:10] for one in asked]
    recall = np.mean([len(ids & set(truth)) / 10 for ids, truth in zip(found, nearest, strict=True)])
    assert recall > 0.9


def draw_weights(draw: np.random.Generator) -> SparseVector:
    indices = np.sort(draw.choice(60, 12, replace=False)).astype(np.int32)
    return SparseVector(indices, draw.random(12).astype(np.float32) + 0.1)


def test_a_small_collection_has_no_index_and_is_searched_exactly(open_one, url):
    store, embeddings = open_one(), vectors(900)
    store.put("t", "c", EMBEDDER, passages(900), embeddings)
    wanted = np.argsort(-(embeddings @ embeddings[5]))[:50]
    assert [int(hit.id) for hit in store.search(query(embeddings[5], 50))] == list(wanted)
    assert hnsw_scans(url) == {}


@pytest.mark.parametrize("ef_search", [1, 100])
def test_a_search_beside_other_tenants_passages_returns_all_of_top_k(open_one, ef_search):
    store = open_one(ef_search=ef_search)
    for tenant in ("t", "other"):
        store.put(tenant, "c", EMBEDDER, passages(1500), vectors(1500))
    hits = store.search(query(vectors(1, seed=3)[0], 700))
    assert len(hits) == len({hit.id for hit in hits}) == 700
    assert len(store.search(query(vectors(1)[0], 10**9))) == 1500


def test_the_index_serves_full_top_k_after_every_passage_was_replaced(open_one):
    store = open_one()
    for seed in range(3):
        store.put("t", "c", EMBEDDER, passages(1100), vectors(1100, seed))
    hits = store.search(query(vectors(1100, 2)[7], 200))
    assert hits[0].id == "00007"
    assert len(hits) == 200


def test_the_index_goes_with_its_collection(open_one, url):
    store = open_one()
    store.put("t", "c", EMBEDDER, passages(1200), vectors(1200))
    assert len(hnsw_scans(url)) == 1
    assert store.drop("t", "c") == 1200
    assert hnsw_scans(url) == {}
    assert rows(url, "SELECT count(*) FROM trireme.passages") == [(0,)]


def test_an_index_that_a_crash_left_unbuilt_is_built_by_the_next_put(open_one, url):
    open_one(exact_below=10_000).put("t", "c", EMBEDDER, passages(1200), vectors(1200))
    store = open_one()
    assert len(store.search(query(vectors(1)[0]))) == 10
    store.put("t", "c", EMBEDDER, passages(1), vectors(1))
    assert len(hnsw_scans(url)) == 1


def test_an_index_that_a_crash_left_half_built_is_built_again_by_the_next_put(open_one, url):
    store = open_one()
    store.put("t", "c", EMBEDDER, passages(1200), vectors(1200))
    invalid = (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'trireme.embeddings_hnsw_1'::regclass"
    )
    with psycopg.connect(url) as connection:
        connection.execute(invalid.encode())
    assert len(store.search(query(vectors(1)[0]))) == 10
    store.put("t", "c", EMBEDDER, passages(1), vectors(1))
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'trireme.embeddings_hnsw_1'::regclass"
    assert rows(url, valid) == [(True,)]


def test_putting_goes_on_while_an_index_is_built(open_one, url):
    store, other = open_one(), open_one(exact_below=10_000)
    other.put("t", "c", EMBEDDER, passages(1200), vectors(1200))
    done: list[int] = []
    # The build waits for every transaction that began before it; meanwhile others write.
    with psycopg.connect(url) as reader:
        reader.execute("SELECT count(*) FROM trireme.embeddings")
        reader.execute("LOCK TABLE trireme.embeddings IN ROW SHARE MODE")
        builder = threading.Thread(
            target=lambda: done.append(store.put("t", "c", EMBEDDER, passages(1), vectors(1)))
        )
        builder.start()
        building = "SELECT count(*) FROM pg_stat_progress_create_index"
        with psycopg.connect(url, autocommit=True) as watcher:
            wait_until(lambda: watcher.execute(building.encode()).fetchone() == (1,))
        assert other.put("t", "c", EMBEDDER, passages(1210), vectors(1210)) == 1210
        assert len(other.search(query(vectors(1)[0]))) == 10
        assert done == []
    builder.join()
    assert done == [1]
    assert len(store.search(query(vectors(1210)[1205]))) == 10


def test_more_dimensions_than_an_index_takes_are_searched_exactly(open_one):
    store, wide = open_one(exact_below=0), Embedder("w" * 64, 3000)
    store.put("t", "c", wide, passages(2), np.eye(2, 3000, dtype=np.float32))
    hits = store.search(StoreQuery(np.eye(1, 3000, dtype=np.float32)[0], wide, 1, "t", "c"))
    assert [hit.id for hit in hits] == ["00000"]
    with pytest.raises(InvalidInputError, match="dimensions"):
        store.put("t", "d", Embedder("w", 20_000), passages(1), np.ones((1, 20_000), np.float32))


def test_a_put_that_fails_in_the_database_stores_nothing_of_its_batch(open_one, url):
    store = open_one()
    store.put("t", "c", EMBEDDER, passages(2), vectors(2))
    with psycopg.connect(url) as connection:
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.id = '00007' THEN RAISE EXCEPTION 'poison'; END IF; RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON trireme.passages FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    with pytest.raises(TriremeError, match="poison"):
        store.put("t", "c", EMBEDDER, passages(10), vectors(10))
    assert store.collections(None)[0].passages == 2
    assert len(store.search(query(vectors(1)[0]))) == 2


def test_several_stores_may_start_on_an_empty_database_at_once(open_one):
    failures: list[BaseException] = []

    def start(number: int) -> None:
        try:
            open_one().put("t", f"c{number}", EMBEDDER, passages(1), vectors(1))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(open_one().collections("t")) == 6


def test_concurrent_puts_drops_and_index_builds_do_not_deadlock(open_one):
    store, failures = open_one(exact_below=100), []

    def work(name: str) -> None:
        try:
            for _ in range(3):
                store.put("t", name, EMBEDDER, passages(150), vectors(150))
                store.search(query(vectors(1)[0], collection=name))
                store.drop("t", name)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.collections(None) == []


def test_a_schema_of_a_newer_version_is_refused(open_one, url):
    open_one().collections(None)
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO trireme.migrations VALUES (999)")
    with pytest.raises(UnsupportedError, match="newer"):
        open_one().collections(None)


def test_connections_that_died_while_idle_are_replaced_unseen(open_one, url, database):
    store = open_one()
    store.put("t", "c", EMBEDDER, passages(2), vectors(2))
    for verb in (
        lambda: store.search(query(vectors(1)[0])),
        lambda: store.put("t", "c", EMBEDDER, passages(3), vectors(3)),
    ):
        rows(database.url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'fresh'")
        verb()
    assert store.collections(None)[0].passages == 3


def test_more_threads_than_connections_take_turns(open_one):
    store = open_one(pool_size=2)
    store.put("t", "c", EMBEDDER, passages(50), vectors(50))
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(store.search(query(vectors(1)[0])))))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [10] * 12


@pytest.mark.parametrize("ending", ["stop", "kill -9"])
def test_one_store_outlives_its_database_and_nothing_is_lost(data_dir: Path, ending, monkeypatch):
    # The socket must lie where the store looks for it again, as a server at a fixed address does.
    socket_dir = data_dir / "s"
    first = start_postgres(data_dir)
    address = socket_dir / ".s.PGSQL.5432"
    socket_dir.mkdir()
    address.symlink_to(real_socket(first))
    store = PostgresStore(f"postgresql://trireme@/postgres?host={socket_dir}", 2, 1000, 100)
    store.put("t", "c", EMBEDDER, passages(5), vectors(5))
    if ending == "kill -9":
        pid_file = data_dir / "postgres/cluster/postmaster.pid"
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
        wait_until(lambda: not first.is_running())
    first.stop()
    assert not store.is_ready()
    with pytest.raises(UnavailableError):
        store.search(query(vectors(1)[0]))
    with pytest.raises(UnavailableError):
        store.put("t", "c", EMBEDDER, passages(9), vectors(9))
    with start_postgres(data_dir) as second:
        address.unlink()
        address.symlink_to(real_socket(second))
        assert store.is_ready()
        assert len(store.search(query(vectors(1)[0]))) == 5
        assert store.put("t", "c", EMBEDDER, passages(6), vectors(6)) == 6
        assert store.collections(None)[0].passages == 6
        store.close()


def test_a_frozen_database_is_given_up(open_one, database, url):
    store = open_one()
    store.put("t", "c", EMBEDDER, passages(1), vectors(1))
    backends = [int(str(pid)) for (pid,) in rows(database.url, FRESH_BACKENDS)]
    assert backends
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(UnavailableError):
            store.search(query(vectors(1)[0]))
    finally:
        for pid in backends:
            os.kill(pid, signal.SIGCONT)
    assert len(store.search(query(vectors(1)[0]))) == 1


FRESH_BACKENDS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = 'fresh' AND backend_type = 'client backend'"
)


def real_socket(running: LocalPostgres) -> Path:
    (folder,) = rows(running.url, "SHOW unix_socket_directories")[0]
    return Path(str(folder)) / ".s.PGSQL.5432"
