"""What runs once for many modules: a stack of the default models, and `trireme serve` over the documents."""

import sys
from pathlib import Path

import pytest
from rich.console import Console

from trireme.artifacts.repository import is_built, list_recipes
from trireme.indexing import ingest_path
from trireme.stack import Stack
from trireme.triton.client import TritonClient

sys.path.insert(0, str(Path(__file__).parent))

from gateways import gateway_over
from stacks import ROOT, SAMPLE_CORPUS, Serving, settings_on_free_ports

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
    """`trireme serve` over the project's documents; it starts again what is killed of it."""
    settings = settings_on_free_ports(tmp_path_factory.mktemp("serve") / "data")
    running = Serving(settings, *SAMPLE_CORPUS)
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def gateway(stack, tmp_path_factory):
    """A gateway over `stack` and over fakes of OpenAI's and Anthropic's API: gateways.py has its chains."""
    with (
        serving_upstream() as upstream,
        gateway_over(stack, upstream, tmp_path_factory.mktemp("gw")) as running,
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
