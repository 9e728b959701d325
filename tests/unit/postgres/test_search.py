"""Filters, tenants and storages in the real index: what is found, and by which plan."""

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pytest

import trireme.postgres.store as module
from trireme.local.postgres import LocalPostgres, start_postgres
from trireme.postgres.rows import IndexRow
from trireme.postgres.store import PostgresStore
from trireme.types import Embedder, FloatArray, Passage, StoreQuery

pytestmark = pytest.mark.e2e

DIMENSIONS = 32
COUNT = 3000
EMBEDDER = Embedder("a" * 64, DIMENSIONS)
# A share of the passages holds each key; `far` is held by those farthest from the first query.
SHARES = {"half": 2, "tenth": 10, "hundredth": 100, "rare": 1000}


def clustered(count: int, seed: int = 0) -> FloatArray:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(40, DIMENSIONS))
    points = centres[random.integers(40, size=count)] + 0.4 * random.normal(size=(count, DIMENSIONS))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


VECTORS = clustered(COUNT)
QUERIES = VECTORS[::300] + 0.1 * clustered(len(VECTORS[::300]), seed=1)
FAR = set(np.argsort(VECTORS @ QUERIES[0])[:200].tolist())


def held(key: str) -> set[int]:
    return FAR if key == "far" else {n for n in range(COUNT) if n % SHARES[key] == 0}


def passages() -> list[Passage]:
    rows = []
    for n in range(COUNT):
        metadata = {key: n % share == 0 for key, share in SHARES.items()} | {"far": n in FAR}
        rows.append(Passage(f"{n}", f"passage number {n} of word{n % 50}", json.dumps(metadata)))
    return rows


@pytest.fixture(scope="module")
def database() -> Iterator[LocalPostgres]:
    # Not pytest's folder: each new session closes that of all sessions to other accounts.
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as running:
        yield running


@pytest.fixture(scope="module", params=["float32", "float16", "binary"])
def store(request: pytest.FixtureRequest, database: LocalPostgres) -> Iterator[PostgresStore]:
    opened = PostgresStore(database.url, 2, 1000, 100, request.param)
    for tenant in ("t", "other"):
        opened.put(tenant, "c", EMBEDDER, passages(), VECTORS)
    yield opened
    for tenant in ("t", "other"):
        opened.drop(tenant, "c")
    opened.close()


def query(vector: FloatArray, **options) -> StoreQuery:
    return StoreQuery(vector / np.linalg.norm(vector), EMBEDDER, 10, "t", "c", **options)


def recall(found: list[list[int]], wanted: list[list[int]]) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, wanted, strict=True)]))


@pytest.mark.parametrize("key", [*SHARES, "far"])
def test_a_filtered_search_finds_what_exact_search_finds(store, key):
    allowed = sorted(held(key))
    wanted = [
        [allowed[place] for place in np.argsort(-(VECTORS[allowed] @ vector))[:10]] for vector in QUERIES
    ]
    hits = [store.search(query(vector, filter=json.dumps({key: True}))) for vector in QUERIES]
    found = [[int(hit.id) for hit in row] for row in hits]
    assert all(len(row) == min(10, len(allowed)) for row in found)
    assert all(set(row) <= set(allowed) for row in found)
    assert recall(found, wanted) >= 0.95


def test_an_unfiltered_search_finds_what_exact_search_finds(store):
    wanted = [np.argsort(-(VECTORS @ vector))[:10].tolist() for vector in QUERIES]
    found = [[int(hit.id) for hit in store.search(query(vector))] for vector in QUERIES]
    assert recall(found, wanted) >= 0.95


def test_scores_are_cosines_in_every_storage(store):
    for vector in QUERIES:
        asked = query(vector)
        for hit in store.search(asked):
            assert hit.score == pytest.approx(float(VECTORS[int(hit.id)] @ asked.embedding), abs=2e-3)


def test_a_filter_and_words_hold_together_in_hybrid_search(store):
    found = store.search(query(QUERIES[0], text="word7", mode="hybrid", filter='{"tenth": true}'))
    assert len(found) == 10
    assert {int(hit.id) % 10 for hit in found} == {0}
    found = store.search(query(QUERIES[0], text="word20 word7", mode="text", filter='{"tenth": true}'))
    assert {int(hit.id) % 50 for hit in found} == {20}


@pytest.mark.parametrize(
    ("index", "options"),
    [
        ("passages_tsv", {"text": "word7", "mode": "text"}),
        ("passages_filterable", {"filter": '{"rare": true}'}),
    ],
)
def test_words_and_filters_use_their_indexes_in_spite_of_row_level_security(database, index, options):
    def scans() -> int:
        with psycopg.connect(database.url) as connection:
            row = connection.execute(
                "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = %s", (index,)
            ).fetchone()
        return int(row[0]) if row else 0

    own = PostgresStore(database.url, 1, 1000, 100)
    own.put("mine", "c", EMBEDDER, passages(), VECTORS)
    own.close()
    with psycopg.connect(database.url, autocommit=True) as connection:
        # Of a table of a hundred pages the planner rightly reads all.
        connection.execute("ALTER DATABASE postgres SET enable_seqscan = off")
        connection.execute("VACUUM ANALYZE trireme.passages")
    before = scans()
    assert own.search(replace(query(QUERIES[0], **options), tenant="mine"))
    # A connection reports what it did when it ends.
    own.close()
    deadline = time.monotonic() + 60
    while scans() == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert scans() > before
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("ALTER DATABASE postgres RESET enable_seqscan")
    own.drop("mine", "c")
    own.close()


def test_a_search_that_lost_its_tenant_filter_sees_no_foreign_row(database, monkeypatch):
    own = PostgresStore(database.url, 1, 10_000, 100)
    for tenant in ("mine", "theirs"):
        own.put(tenant, "c", EMBEDDER, [Passage(tenant, "words")], VECTORS[:1])

    def mine(vector: FloatArray, **more) -> StoreQuery:
        return replace(query(vector, **more), tenant="mine")

    def find_any(connection, *_):
        row = connection.execute(
            "SELECT c.id, i.id, c.tenant, i.model, i.storage FROM trireme.collections c "
            "JOIN trireme.indexes i ON i.collection_id = c.id WHERE c.tenant <> 'mine' LIMIT 1"
        ).fetchone()
        assert row is None
        # As if a mistake had got hold of the other tenant's ids.
        with psycopg.connect(database.url) as owner:
            ids = owner.execute(
                "SELECT c.id, i.id FROM trireme.collections c JOIN trireme.indexes i ON i.collection_id = c.id "
                "WHERE c.tenant = 'theirs'"
            ).fetchone()
        assert ids is not None
        return IndexRow(ids[0], ids[1], "theirs", EMBEDDER, "", "float32", 1)

    monkeypatch.setattr(module, "find_index", find_any)
    for mode in ("dense", "text", "hybrid"):
        assert own.search(mine(VECTORS[0], text="words", mode=mode)) == []
        assert own.search(mine(VECTORS[0], text="words", mode=mode, filter='{"x": 1}')) == []
    monkeypatch.undo()
    assert [hit.id for hit in own.search(mine(VECTORS[0]))] == ["mine"]
    for tenant in ("mine", "theirs"):
        own.drop(tenant, "c")
    own.close()


def test_the_commonest_words_are_left_out_where_too_many_rows_would_be_read(database):
    own = PostgresStore(database.url, 1, 10_000, 100)
    own.put("mine", "c", EMBEDDER, passages(), VECTORS)
    with psycopg.connect(database.url) as connection:
        row = connection.execute("SELECT id FROM trireme.collections WHERE tenant = 'mine'").fetchone()
        assert row is not None
        connection.execute("SELECT trireme.count_lexemes(%s)", row)
        connection.execute("SELECT set_config('trireme.tenant', 'mine', true)")
        found = {
            scanned: connection.execute(
                "SELECT count(*) FROM trireme.match_text(%s, 'number word7', '{}', '', '{}', NULL, 100000, %s)",
                (row[0], scanned),
            ).fetchone()
            for scanned in (100, 10_000)
        }
    # Every passage holds "number", one in fifty "word7".
    assert found == {100: (COUNT / 50,), 10_000: (COUNT,)}
    own.drop("mine", "c")
    own.close()


@pytest.mark.parametrize(
    "text",
    [
        " ".join(chr(0x20000 + n) for n in range(150_000 // 2)),
        "-".join(f"a{n:x}" for n in range(100_000)),
        " ".join(f"http://h{n:x}.org/p{n:x}" for n in range(30_000)),
        "é" * 3_000_000,
    ],
    ids=["rare characters", "one hyphenated word", "addresses", "one long word"],
)
def test_a_text_of_more_words_than_an_index_holds_is_stored_whole(database, text):
    own = PostgresStore(database.url, 1, 10_000, 100)
    own.put("mine", "c", EMBEDDER, [Passage("large", text), Passage("small", "words")], VECTORS[:2])
    assert len(own.search(replace(query(VECTORS[0]), tenant="mine"))[0].text) == len(text)
    own.drop("mine", "c")
    own.close()
