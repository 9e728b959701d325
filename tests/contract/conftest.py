"""What several contract suites need."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.memory_store import MemoryStore
from trireme.ingest.queue import JobQueue
from trireme.local.postgres import LocalPostgres, start_postgres
from trireme.storage import VectorStore, open_store

sys.path.insert(0, str(Path(__file__).parent))

from queues import MemoryWorld, PostgresWorld


@pytest.fixture(scope="module")
def database() -> Iterator[LocalPostgres]:
    """A PostgreSQL of the suite's own."""
    # Not pytest's folder: each new session closes that of all sessions to other accounts.
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as running:
        yield running


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def store(request: pytest.FixtureRequest) -> Iterator[VectorStore]:
    opened = (
        MemoryStore() if request.param == "memory" else open_store(request.getfixturevalue("database").url)
    )
    yield opened
    for info in opened.collections(None):
        opened.drop(info.tenant, info.collection)
    opened.close()


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def world(request: pytest.FixtureRequest) -> Iterator[MemoryWorld | PostgresWorld]:
    """What several processes with a job queue share."""
    is_fake = request.param == "memory"
    made = MemoryWorld() if is_fake else PostgresWorld(request.getfixturevalue("database").url)
    yield made
    made.close()


@pytest.fixture
def queue(world: MemoryWorld | PostgresWorld) -> JobQueue:
    return world.open()
