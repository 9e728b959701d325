"""What several contract suites need."""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from fakes.memory_store import MemoryStore
from trireme.ingest.queue import JobQueue
from trireme.local.postgres import LocalPostgres, start_postgres
from trireme.storage import VectorStore, open_store

sys.path.insert(0, str(Path(__file__).parent))

from queues import MemoryWorld, PostgresWorld


@dataclass(frozen=True, slots=True)
class Database:
    """An empty database of one suite."""

    url: str


@pytest.fixture(scope="session")
def server() -> Iterator[LocalPostgres]:
    """One PostgreSQL for all suites; nothing in them ends it."""
    # Not pytest's folder: each new session closes that of all sessions to other accounts.
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def database(server: LocalPostgres, request: pytest.FixtureRequest) -> Database:
    """A database of the suite's own."""
    name = request.module.__name__.rpartition(".")[2]
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return Database(urlsplit(server.url)._replace(path=f"/{name}").geturl())


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
