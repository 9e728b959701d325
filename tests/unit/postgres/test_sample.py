import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from trireme.errors import UnavailableError
from trireme.local.postgres import start_postgres
from trireme.postgres.sample import sample_passages
from trireme.storage import open_store
from trireme.types import Embedder, Passage

PASSAGES = [Passage(f"p{n:03}", f"text {n}", f'{{"n": {n}}}') for n in range(200)]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory() as folder,
        start_postgres(Path(folder)) as running,
        closing(open_store(running.url)) as store,
    ):
        store.put("t", "c", Embedder("a" * 64, 2), PASSAGES, np.ones((200, 2), np.float32))
        store.put("t", "other", Embedder("a" * 64, 2), PASSAGES[:3], np.ones((3, 2), np.float32))
        yield running.url


def test_a_sample_is_random_and_the_same_each_time_and_another_with_another_seed(url):
    first = sample_passages(url, "t", "c", 20)
    assert first == sample_passages(url, "t", "c", 20)
    assert first != sample_passages(url, "t", "c", 20, seed=1)
    assert {(p.id, p.text, p.metadata) for p in first} <= {(p.id, p.text, p.metadata) for p in PASSAGES}
    assert len({passage.id for passage in first}) == 20
    assert [passage.id for passage in first] != sorted(passage.id for passage in first)


def test_a_sample_is_of_one_tenants_collection_and_has_no_more_than_there_is(url):
    assert {passage.id for passage in sample_passages(url, "t", "other", 20)} == {"p000", "p001", "p002"}
    assert sample_passages(url, "someone else", "c", 20) == []


def test_a_database_that_is_away_is_a_typed_error():
    with pytest.raises(UnavailableError):
        sample_passages("postgresql://127.0.0.1:1/none", "t", "c", 1)
