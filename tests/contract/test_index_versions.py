"""One suite for every IndexVersions: the fake in memory and the real PostgreSQL must both pass it."""

import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from fakes.memory_store import MemoryStore
from trireme.errors import (
    EmbedderMismatchError,
    InvalidInputError,
    NotFoundError,
    TriremeError,
    UnavailableError,
)
from trireme.storage import VectorStore, open_store
from trireme.types import Embedder, FloatArray, Hit, IndexVersion, Passage, StoreQuery

OLD = Embedder("a" * 64, 8)
NEW = Embedder("b" * 64, 6)
THIRD = Embedder("c" * 64, 8)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def store(request: pytest.FixtureRequest) -> Iterator[VectorStore]:
    if request.param == "memory":
        opened: VectorStore = MemoryStore()
    else:
        opened = open_store(request.getfixturevalue("database").url, pool_size=8, exact_below=20)
    yield opened
    for info in opened.collections(None):
        opened.drop(info.tenant, info.collection)
    opened.close()


def embed(texts: list[str], embedder: Embedder) -> FloatArray:
    """Vectors that depend on the text and the embedder alone."""
    rows = [
        np.random.default_rng(zlib.crc32((text + embedder.digest).encode())).normal(size=embedder.dimensions)
        for text in texts
    ]
    return np.array(rows, np.float32).reshape(len(texts), embedder.dimensions)


def put(store: VectorStore, texts: dict[str, str], embedder: Embedder = OLD, collection: str = "c") -> None:
    rows = [Passage(id_, text) for id_, text in texts.items()]
    store.put("t", collection, embedder, rows, embed(list(texts.values()), embedder))


def numbered(count: int) -> dict[str, str]:
    return {f"{n:03d}": f"text {n}" for n in range(count)}


def find(store: VectorStore, text: str, embedder: Embedder, top_k: int = 1, version: int = 0) -> list[Hit]:
    vector = embed([text], embedder)[0]
    return store.search(StoreQuery(vector, embedder, top_k, "t", "c", version=version))


def fill_all(store: VectorStore, version: IndexVersion, limit: int = 7) -> int:
    filled = 0
    while left := store.versions.missing(version.number, limit):
        assert len(left) <= limit
        texts = [one.text for one in left]
        filled += store.versions.fill(
            version.number, [one.key for one in left], embed(texts, version.embedder)
        )
    return filled


def reindex(store: VectorStore, embedder: Embedder) -> IndexVersion:
    version = store.versions.begin("t", "c", embedder, "model")
    fill_all(store, version)
    store.versions.switch(version.number)
    return version


def known(store: VectorStore) -> list[tuple[Embedder, str, int]]:
    return [
        (version.embedder, version.state, version.vectors) for version in store.collections("t")[0].versions
    ]


def test_a_new_collection_has_one_active_version(store):
    put(store, numbered(3))
    assert known(store) == [(OLD, "active", 3)]


def test_a_version_is_filled_beside_the_active_one_and_switched_to(store):
    put(store, numbered(30))
    version = store.versions.begin("t", "c", NEW, "new-model")
    assert (version.state, version.model, version.vectors, version.storage) == (
        "building",
        "new-model",
        0,
        "float32",
    )
    assert fill_all(store, version) == 30
    assert find(store, "text 7", OLD)[0].text == "text 7"
    with pytest.raises(EmbedderMismatchError):
        find(store, "text 7", NEW)
    store.versions.switch(version.number)
    assert find(store, "text 7", NEW)[0].text == "text 7"
    with pytest.raises(EmbedderMismatchError):
        find(store, "text 7", OLD)
    assert known(store) == [(OLD, "kept", 30), (NEW, "active", 30)]
    assert store.collections("t")[0].embedder == NEW
    put(store, {"030": "text 30"}, NEW)
    assert find(store, "text 30", NEW)[0].id == "030"


def test_a_version_that_is_being_built_can_be_searched_by_its_number(store):
    put(store, numbered(30))
    version = store.versions.begin("t", "c", NEW, "m")
    fill_all(store, version)
    assert find(store, "text 9", NEW, version=version.number)[0].text == "text 9"
    with pytest.raises(EmbedderMismatchError):
        find(store, "text 9", OLD, version=version.number)
    put(store, numbered(2), collection="other")
    other = store.collections("t")[1].versions[0].number
    with pytest.raises(NotFoundError):
        find(store, "text 1", OLD, version=other)


def test_a_build_goes_on_where_it_stopped(store):
    put(store, numbered(20))
    version = store.versions.begin("t", "c", NEW, "m")
    first = store.versions.missing(version.number, 8)
    store.versions.fill(version.number, [one.key for one in first], embed([one.text for one in first], NEW))
    again = store.versions.begin("t", "c", NEW, "m")
    assert again == replace(version, vectors=8)
    assert fill_all(store, again) == 12


def test_an_incomplete_version_is_not_switched_to(store):
    put(store, numbered(5))
    version = store.versions.begin("t", "c", NEW, "m")
    with pytest.raises(UnavailableError, match="5 passages"):
        store.versions.switch(version.number)
    fill_all(store, version)
    put(store, {"new": "came later"})
    with pytest.raises(UnavailableError, match="1 passages"):
        store.versions.switch(version.number)
    assert [one.text for one in store.versions.missing(version.number, 10)] == ["came later"]
    assert find(store, "came later", OLD)[0].id == "new"


def test_a_changed_text_is_missing_again_and_its_old_vector_is_not_stored(store):
    put(store, numbered(5))
    version = store.versions.begin("t", "c", NEW, "m")
    before = store.versions.missing(version.number, 10)
    put(store, {"002": "another text"})
    stored = store.versions.fill(
        version.number, [one.key for one in before], embed([one.text for one in before], NEW)
    )
    assert stored == 4
    assert [one.text for one in store.versions.missing(version.number, 10)] == ["another text"]
    fill_all(store, version)
    store.versions.switch(version.number)
    assert find(store, "another text", NEW, 10)[0].text == "another text"
    assert len(find(store, "x", NEW, 10)) == 5


def test_a_text_put_again_unchanged_keeps_its_vectors(store):
    put(store, numbered(5))
    version = store.versions.begin("t", "c", NEW, "m")
    fill_all(store, version)
    put(store, numbered(5))
    assert store.versions.missing(version.number, 10) == []


def test_rollback_switches_to_the_kept_version_once_it_is_complete(store):
    put(store, numbered(25))
    old = store.collections("t")[0].versions[0]
    reindex(store, NEW)
    put(store, {"new": "after the switch"}, NEW)
    with pytest.raises(UnavailableError, match="1 passages"):
        store.versions.switch(old.number)
    fill_all(store, old)
    store.versions.switch(old.number)
    assert find(store, "after the switch", OLD)[0].id == "new"
    assert known(store) == [(OLD, "active", 26), (NEW, "kept", 26)]


def test_only_the_last_active_version_is_kept(store):
    put(store, numbered(3))
    reindex(store, NEW)
    reindex(store, THIRD)
    assert known(store) == [(NEW, "kept", 3), (THIRD, "active", 3)]


def test_beginning_with_a_kept_embedder_takes_up_its_vectors(store):
    put(store, numbered(3))
    old = store.collections("t")[0].versions[0].number
    reindex(store, NEW)
    version = store.versions.begin("t", "c", OLD, "old")
    assert (version.number, version.state, version.vectors) == (old, "building", 3)


def test_what_cannot_begin_says_why(store):
    put(store, numbered(3))
    with pytest.raises(InvalidInputError, match="already"):
        store.versions.begin("t", "c", OLD, "m")
    store.versions.begin("t", "c", NEW, "half-built")
    with pytest.raises(InvalidInputError, match="half-built"):
        store.versions.begin("t", "c", THIRD, "m")
    with pytest.raises(NotFoundError, match="'nothing'"):
        store.versions.begin("t", "nothing", NEW, "m")
    with pytest.raises(NotFoundError):
        store.versions.begin("another", "c", NEW, "m")
    with pytest.raises(InvalidInputError, match="float16"):
        store.versions.begin("t", "c", NEW, "m", "int4")


@pytest.mark.parametrize("storage", ["float32", "float16", "binary"])
def test_a_version_may_store_its_vectors_otherwise(store, storage):
    put(store, numbered(30))
    wide = Embedder("w" * 64, 64)
    version = store.versions.begin("t", "c", wide, "m", storage)
    assert version.storage == storage
    fill_all(store, version)
    store.versions.switch(version.number)
    for n in range(0, 30, 5):
        hit = find(store, f"text {n}", wide)[0]
        assert (hit.text, hit.score) == (f"text {n}", pytest.approx(1.0, abs=1e-3))


def test_dropping_a_version_leaves_the_active_one(store):
    put(store, numbered(3))
    version = store.versions.begin("t", "c", NEW, "m")
    fill_all(store, version)
    store.versions.drop(version.number)
    assert known(store) == [(OLD, "active", 3)]
    for verb in (
        lambda: store.versions.drop(version.number),
        lambda: store.versions.switch(version.number),
        lambda: store.versions.missing(version.number, 1),
        lambda: store.versions.fill(version.number, [], np.zeros((0, 6), np.float32)),
    ):
        with pytest.raises(NotFoundError, match=str(version.number)):
            verb()
    with pytest.raises(InvalidInputError, match="active"):
        store.versions.drop(store.collections("t")[0].versions[0].number)


def test_switching_to_the_active_version_does_nothing(store):
    put(store, numbered(3))
    store.versions.switch(store.collections("t")[0].versions[0].number)
    assert known(store) == [(OLD, "active", 3)]


@pytest.mark.parametrize(
    "vectors", [np.ones((2, 6)), np.ones((1, 5)), np.zeros((1, 6)), np.full((1, 6), np.nan)]
)
def test_vectors_that_cannot_be_compared_are_refused(store, vectors):
    put(store, numbered(3))
    version = store.versions.begin("t", "c", NEW, "m")
    key = store.versions.missing(version.number, 1)[0].key
    with pytest.raises(InvalidInputError):
        store.versions.fill(version.number, [key], vectors.astype(np.float32))
    assert len(store.versions.missing(version.number, 10)) == 3


def test_versions_go_with_their_collection(store):
    put(store, numbered(3))
    version = store.versions.begin("t", "c", NEW, "m")
    fill_all(store, version)
    assert store.drop("t", "c") == 3
    with pytest.raises(NotFoundError):
        store.versions.switch(version.number)


def test_no_passage_is_lost_or_mixed_while_others_put_and_search_during_a_build(store):  # noqa: C901 - one run
    put(store, numbered(40))
    failures: list[BaseException] = []
    switched, ended = threading.Event(), threading.Event()

    def guarded(work) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    def put_more(name: str) -> None:
        for n in range(15):
            for embedder in (OLD, NEW):
                try:
                    put(
                        store,
                        {f"{name}{n}": f"{name} {n}", f"00{n % 10}": f"changed by {name} {n}"},
                        embedder,
                    )
                    break
                except EmbedderMismatchError:
                    # The switch came between: with the other embedder then.
                    continue
            else:
                raise AssertionError("neither embedder is the active one")

    def search() -> None:
        while not ended.is_set():
            was_switched = switched.is_set()
            for embedder in (OLD, NEW):
                try:
                    hits = find(store, "text 20", embedder)
                except EmbedderMismatchError:
                    continue
                # A vector of the other embedder would not be nearest to its own text.
                assert (hits[0].text, hits[0].score) == ("text 20", pytest.approx(1.0, abs=1e-5))
                assert embedder == NEW or not was_switched

    def build() -> None:
        version = store.versions.begin("t", "c", NEW, "m")
        while True:
            fill_all(store, version, 5)
            try:
                store.versions.switch(version.number)
                switched.set()
                return
            except UnavailableError:
                continue

    threads = [threading.Thread(target=guarded, args=(lambda n=name: put_more(n),)) for name in "xy"]
    threads += [threading.Thread(target=guarded, args=(build,))]
    searcher = threading.Thread(target=guarded, args=(search,))
    searcher.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    searcher.join()
    assert failures == []
    info = store.collections("t")[0]
    assert info.embedder == NEW
    assert info.passages == 40 + 2 * 15
    hits = find(store, "text 20", NEW, 1000)
    assert len(hits) == len({hit.id for hit in hits}) == 70
    for hit in hits:
        assert find(store, hit.text, NEW)[0].text == hit.text


def test_two_builders_at_once_fill_every_passage_once(store):
    put(store, numbered(40))
    version = store.versions.begin("t", "c", NEW, "m")
    failures: list[TriremeError] = []

    def build() -> None:
        try:
            fill_all(store, store.versions.begin("t", "c", NEW, "m"), 4)
        except TriremeError as error:
            failures.append(error)

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store.versions.switch(version.number)
    assert known(store)[1] == (NEW, "active", 40)
