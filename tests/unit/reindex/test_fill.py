import threading

import numpy as np
import pytest

from fakes.memory_store import MemoryStore
from trireme.errors import InvalidInputError, NotFoundError, UnavailableError
from trireme.ingest.encoder import Encoder, Vectors
from trireme.ingest.throttle import Throttle
from trireme.reindex.fill import (
    IN_FLIGHT,
    PAUSES,
    STEP,
    STEP_SECONDS,
    SWITCH_ATTEMPTS,
    Filler,
    active_of,
    choose_drop,
    kept_of,
)
from trireme.types import CollectionInfo, Embedder, IndexVersion, Passage, StoreQuery

OLD, NEW = Embedder("a" * 64, 2), Embedder("b" * 64, 3)


class Clock:
    """Time that passes only where somebody waits, or a request takes some."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


class FakeServer:
    """Turns a text into [length, a's, 1]; is away for the requests numbered in `away`."""

    def __init__(self, clock: Clock, embedder: Embedder = NEW, away: range = range(0)) -> None:
        self.requests: list[int] = []
        self.tried = 0
        self._clock = clock
        self._away = away
        self._lock = threading.Lock()
        self.seconds = 0.01
        self.encoder = Encoder(
            model="new",
            embedder=embedder,
            cut=lambda document: iter(()),
            count=lambda texts: [len(text.split()) for text in texts],
            embed=self.embed,
            is_ready=lambda: True,
            max_rows=8,
        )

    def embed(self, texts):
        with self._lock:
            self.tried += 1
            if self.tried - 1 in self._away:
                raise UnavailableError("no server answers")
            self._clock.wait(self.seconds)
            self.requests.append(len(texts))
        return Vectors(np.array([[len(text), text.count("a"), 1.0] for text in texts], np.float32))


def passages(start: int, end: int) -> list[Passage]:
    return [Passage(f"p{n}", f"passage number {n}") for n in range(start, end)]


def put(store: MemoryStore, start: int, end: int) -> None:
    store.put("t", "c", OLD, passages(start, end), np.ones((end - start, 2), np.float32))


@pytest.fixture
def store():
    made = MemoryStore()
    put(made, 0, 600)
    return made


@pytest.fixture
def clock():
    return Clock()


def info(store: MemoryStore) -> CollectionInfo:
    return store.collections("t")[0]


def filler(store: MemoryStore, clock: Clock, **changes: object) -> Filler:
    throttle = Throttle(lambda: None, clock, clock.wait)
    return Filler(store.versions, throttle, clock=clock, wait=clock.wait, **changes)


def begin(store: MemoryStore) -> IndexVersion:
    return store.versions.begin("t", "c", NEW, "new")


def search(store: MemoryStore, embedder: Embedder, **changes: object) -> int:
    query = StoreQuery(np.ones(embedder.dimensions, np.float32), embedder, 2000, "t", "c", **changes)
    return len(store.search(query))


def test_every_passage_gets_the_vector_of_its_own_text_and_progress_is_told(store, clock):
    version, server, told = begin(store), FakeServer(clock), []
    assert filler(store, clock, progress=told.append).fill(version, server.encoder) == 600
    assert sum(told) == sum(server.requests) == 600
    assert max(told) <= STEP
    assert max(server.requests) <= 8
    hits = store.search(
        StoreQuery(np.array([1, 0, 0], np.float32), NEW, 600, "t", "c", version=version.number)
    )
    for hit in hits:
        length = len(hit.text)
        assert hit.score == pytest.approx(length / np.sqrt(length**2 + hit.text.count("a") ** 2 + 1))


def test_searches_see_the_old_version_alone_until_the_switch_and_the_new_one_after_it(store, clock):
    version, server = begin(store), FakeServer(clock)
    run = filler(store, clock)
    run.fill(version, server.encoder)
    assert search(store, OLD) == 600
    run.switch(version, server.encoder)
    assert active_of(info(store).versions).embedder == NEW
    assert search(store, NEW) == 600
    with pytest.raises(InvalidInputError):
        search(store, OLD)


def test_a_run_that_was_killed_goes_on_and_embeds_nothing_twice(store, clock):
    version, server = begin(store), FakeServer(clock)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filler(store, clock, progress=stop).fill(version, server.encoder)
    again = begin(store)
    assert again.number == version.number
    assert 0 < again.vectors < 600
    filler(store, clock).fill(again, server.encoder)
    assert sum(server.requests) == 600


def test_what_is_added_during_the_run_is_in_the_new_version_too(store, clock):
    version, server = begin(store), FakeServer(clock)
    added = iter([(600, 700), (700, 710)])

    def add(_: int) -> None:
        place = next(added, None)
        if place:
            put(store, *place)

    run = filler(store, clock, progress=add)
    run.fill(version, server.encoder)
    put(store, 710, 720)
    run.switch(version, server.encoder)
    assert search(store, NEW) == 720


def test_passages_added_between_the_last_look_and_the_switch_are_embedded_before_it(store, clock):
    version, server = begin(store), FakeServer(clock)
    real, late = store.versions.switch, iter([(600, 601), (601, 602)])

    class Racing:
        def __getattr__(self, name):
            return getattr(store.versions, name)

        def switch(self, number):
            place = next(late, None)
            if place:
                put(store, *place)
            real(number)

    run = filler(store, clock)
    run.versions = Racing()
    run.switch(version, server.encoder)
    assert search(store, NEW) == 602


def test_a_flood_of_new_passages_ends_in_a_typed_error_and_the_old_version_stays(store, clock):
    version, server = begin(store), FakeServer(clock)
    real, count = store.versions.switch, iter(range(600, 10_000))

    class Flooded:
        def __getattr__(self, name):
            return getattr(store.versions, name)

        def switch(self, number):
            start = next(count)
            put(store, start, start + 1)
            real(number)

    run = filler(store, clock)
    run.versions = Flooded()
    with pytest.raises(UnavailableError):
        run.switch(version, server.encoder)
    assert next(count) == 600 + SWITCH_ATTEMPTS
    assert active_of(info(store).versions).embedder == OLD


def test_a_server_that_is_away_for_a_while_is_waited_for(store, clock):
    version, server, said = begin(store), FakeServer(clock, away=range(5, 9)), []
    filler(store, clock, notice=said.append).fill(version, server.encoder)
    assert sum(server.requests) == 600
    assert said


def test_a_server_that_stays_away_ends_the_run_with_its_error(store, clock):
    version, server = begin(store), FakeServer(clock, away=range(3, 10_000))
    with pytest.raises(UnavailableError, match="no server answers"):
        filler(store, clock).fill(version, server.encoder)
    assert PAUSES.patience * 0.5 < clock.now < PAUSES.patience * 2 * IN_FLIGHT


def test_a_slow_server_does_not_keep_finished_vectors_from_being_stored_for_long(store, clock):
    version, server, told = begin(store), FakeServer(clock), []
    server.seconds = STEP_SECONDS
    filler(store, clock, progress=told.append).fill(version, server.encoder)
    assert max(told) <= 8 * IN_FLIGHT


def test_texts_are_sent_in_requests_of_as_many_tokens_as_the_pace_allows(store, clock):
    version, server = begin(store), FakeServer(clock)
    run = filler(store, clock)
    run.throttle.budget = lambda: 7
    run.fill(version, server.encoder)
    assert max(server.requests) == 2


def test_an_encoder_that_was_built_anew_is_refused(store, clock):
    version = begin(store)
    server = FakeServer(clock, Embedder("c" * 64, 3))
    with pytest.raises(InvalidInputError, match="built anew"):
        filler(store, clock).fill(version, server.encoder)
    assert server.requests == []


def version(number: int, state: str) -> IndexVersion:
    return IndexVersion(number, "t", "c", OLD, "m", "float32", state, 0)


def test_the_kept_version_is_what_a_rollback_goes_to():
    assert kept_of([version(1, "kept"), version(2, "active")]).number == 1
    with pytest.raises(NotFoundError, match="nothing to go back to"):
        kept_of([version(2, "active"), version(3, "building")])


def test_the_only_idle_version_is_dropped_and_of_several_the_named_one():
    kept, active, building = version(1, "kept"), version(2, "active"), version(3, "building")
    assert choose_drop([kept, active], None) == kept
    assert choose_drop([kept, active, building], 3) == building
    with pytest.raises(NotFoundError, match=r"--version.*1 \(kept\), 3 \(building\)"):
        choose_drop([kept, active, building], None)
    with pytest.raises(NotFoundError, match="no version 2 that could be removed"):
        choose_drop([kept, active], 2)
    with pytest.raises(NotFoundError, match="no version but"):
        choose_drop([active], None)
