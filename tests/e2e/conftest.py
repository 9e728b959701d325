"""One real stack for the session: PostgreSQL, tritonserver and the default models on free ports."""

import dataclasses
import os
import socket
from pathlib import Path

import pytest
from rich.console import Console

from trireme.artifacts.repository import is_built, list_recipes
from trireme.index import ingest_path
from trireme.serve import Stack
from trireme.settings import Settings
from trireme.triton.client import TritonClient

ROOT = Path(__file__).parents[2]
CORPUS = {
    "batching.md": "# Batching\n\nThe dynamic batcher waits for more requests, at most half a millisecond.",
    "storage.txt": "Passages live in PostgreSQL with the pgvector extension.",
    "rowing.html": "<html><body><h1>Triremes</h1><p>A trireme had three banks of oars.</p></body></html>",
    "cooking.txt": "Simmer the lentils with garlic for forty minutes.",
}


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("e2e")


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held at once, so they differ."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def settings_on_free_ports(data_dir: Path, **changes) -> Settings:
    http, grpc, metrics = free_ports(3)
    settings = Settings(
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        data_dir=data_dir,
        model_repository=ROOT / "model_repository",
        backend_directory=ROOT / "python_backends",
    )
    return dataclasses.replace(settings, **changes)


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give a child process these settings."""
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    return {**os.environ, **{f"TRIREME_{key.upper()}": str(v) for key, v in values.items() if v}}


@pytest.fixture(scope="session", autouse=True)
def built_models():
    recipes = list_recipes(ROOT / "model_repository")
    missing = [recipe.model for recipe in recipes if not is_built(ROOT / "model_repository", recipe)]
    assert not missing, f"build the default models first (make models): {missing}"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for name, text in CORPUS.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="session")
def stack(tmp_path_factory, corpus):
    settings = settings_on_free_ports(tmp_path_factory.mktemp("data"))
    with Stack(settings) as running:
        ingest_path(settings, corpus, running.database_url, Console(quiet=True))
        yield running


@pytest.fixture(scope="session")
def settings(stack):
    return stack.settings


@pytest.fixture(scope="session")
def client(settings):
    with TritonClient(settings.grpc_url) as opened:
        yield opened
