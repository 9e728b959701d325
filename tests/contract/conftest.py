"""What several contract suites need."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trireme.local.postgres import LocalPostgres, start_postgres


@pytest.fixture(scope="module")
def database() -> Iterator[LocalPostgres]:
    """A PostgreSQL of the suite's own."""
    # Not pytest's folder: each new session closes that of all sessions to other accounts.
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as running:
        yield running
