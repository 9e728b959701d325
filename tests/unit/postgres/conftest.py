"""A server for each module that asks for one, and empty databases of it."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from trireme.local.postgres import LocalPostgres, start_postgres


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as running:
        yield running


@pytest.fixture
def url(server: LocalPostgres, request: pytest.FixtureRequest) -> str:
    """An empty database."""
    name = f"d{random.Random(request.node.name).randrange(10**9)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return server.url.replace("/postgres?", f"/{name}?")
