"""What runs once for many modules: a stack of the default models, and `trireme serve` over the documents."""

import contextlib
import secrets
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from rich.console import Console

from trireme.artifacts.repository import is_built, list_recipes
from trireme.indexing import ingest_path
from trireme.local.postgres import replication_settings, start_postgres
from trireme.stack import Stack
from trireme.triton.client import TritonClient

sys.path.insert(0, str(Path(__file__).parent))

from gateways import CALLER, FILE, gateway_over
from stacks import ROOT, Serving, settings_on_free_ports, write_sample

from fakes.calling_server import serving_caller
from fakes.replicas import Replica
from fakes.upstreams import serving as serving_upstream

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
    """The default models and a worker; the corpus is in the default collection. Nothing in it is killed."""
    settings = settings_on_free_ports(tmp_path_factory.mktemp("data"))
    with Stack(settings) as running:
        ingest_path(settings, corpus, running.database_url, Console(quiet=True))
        running.start_worker()
        yield running


@pytest.fixture(scope="session")
def serving(tmp_path_factory):
    """`trireme serve` over documents of the project; it starts again what is killed of it."""
    folder = tmp_path_factory.mktemp("serve")
    settings = settings_on_free_ports(folder / "data")
    running = Serving(settings, *write_sample(folder))
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def gateway(stack, tmp_path_factory):
    """A gateway over `stack`, over fakes of OpenAI's and Anthropic's API, and over a model of ours that calls tools
    when told to: gateways.py has its chains."""
    folder = tmp_path_factory.mktemp("gw")
    with (
        serving_upstream() as upstream,
        serving_caller(folder) as caller,
        gateway_over(stack, upstream, folder, FILE + CALLER.replace("CALLER", caller)) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def settings(stack):
    return stack.settings


@pytest.fixture(scope="session")
def client(settings):
    with TritonClient(settings.grpc_url) as opened:
        yield opened


@pytest.fixture
def quiet_console():
    return Console(quiet=True)


@pytest.fixture
def replicas():
    """Makes replicas: `replicas(2)`."""
    made = []

    def make(count):
        made.extend(Replica() for _ in range(count))
        return made[-count:]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def two_servers():
    """Two PostgreSQL clusters that may follow each other, with their folders; who ends one starts it again."""
    with contextlib.ExitStack() as stack:
        # Not pytest's folder: each new session closes that of all sessions to other accounts.
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        # Sooner than by default: who waits here would wait for 5 and 10 s.
        sooner = {"wal_retrieve_retry_interval": "200ms", "wal_receiver_status_interval": "1s"}
        more = replication_settings(64 << 20) | sooner
        yield [(stack.enter_context(start_postgres(folder, more)), folder) for folder in folders]


@pytest.fixture(scope="session")
def new_database():
    """new_database(server) -> the URL of a database of one's own there."""

    def make(server):
        name = f"regions_{secrets.token_hex(4)}"
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return urlsplit(server.url)._replace(path=f"/{name}").geturl()

    return make
