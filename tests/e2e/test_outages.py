"""The database goes away and comes back while the server serves."""

import shutil

import psutil
import pytest
from rich.console import Console
from stacks import ROOT, has_ended, settings_on_free_ports, wait_until

from trireme.errors import UnavailableError
from trireme.indexing import ingest_path
from trireme.stack import Stack
from trireme.triton.client import TritonClient
from trireme.triton.metrics import read_readiness


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory, corpus):
    """Over a copy of the models, whose files a test changes."""
    folder = tmp_path_factory.mktemp("outages")
    shutil.copytree(ROOT / "model_repository", folder / "models")
    settings = settings_on_free_ports(folder / "data", model_repository=folder / "models")
    with Stack(settings) as running:
        ingest_path(settings, corpus, running.database_url, Console(quiet=True))
        yield running


def kill_database(stack):
    pid_file = stack.settings.data_dir.resolve() / "postgres" / "cluster" / "postmaster.pid"
    postmaster = psutil.Process(int(pid_file.read_text().splitlines()[0]))
    # What it has started ends by itself, but may answer until then.
    family = [postmaster, *postmaster.children(recursive=True)]
    postmaster.kill()
    wait_until(lambda: not stack.postgres.is_running() and all(map(has_ended, family)))


def ready(stack):
    return read_readiness(stack.settings.host, stack.settings.metrics_port)


def test_without_its_database_search_is_unavailable_and_works_again_when_it_is_back(own_stack):
    with TritonClient(own_stack.settings.grpc_url, timeout=30) as client:
        before = client.search("banks of oars")
        wait_until(lambda: all(ready(own_stack).values()))
        kill_database(own_stack)
        for _ in range(2):
            with pytest.raises(UnavailableError, match="database does not answer") as caught:
                client.search("banks of oars")
            assert "postgresql://" not in str(caught.value)
        assert client.embed(["still serving"], "query").shape == (1, 384)
        wait_until(lambda: not ready(own_stack)["retriever"] and not ready(own_stack)["search__retrieve"])
        assert ready(own_stack)["embedding"]

        own_stack.postgres.restart()
        wait_until(lambda: _answers(client, before))
        wait_until(lambda: all(ready(own_stack).values()))


def _answers(client, expected):
    try:
        return [hit.id for hit in client.search("banks of oars")] == [hit.id for hit in expected]
    except UnavailableError:
        return False


def test_a_model_whose_files_change_while_it_serves_is_not_ready(own_stack):
    wait_until(lambda: ready(own_stack).get("embedding", False))
    version = own_stack.settings.model_repository / "embedding" / "1"
    weights = max(version.iterdir(), key=lambda path: path.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:-1])
    wait_until(lambda: not ready(own_stack)["embedding"])
