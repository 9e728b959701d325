"""Two hundred clients that ask for more than the server can do; OVERLOAD_SECONDS says for how long."""

import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from rich.console import Console
from stacks import settings_on_free_ports, wait_until

from trireme.errors import UnavailableError
from trireme.indexing import ingest_path
from trireme.stack import Stack
from trireme.triton.client import TritonClient

SECONDS = float(os.environ.get("OVERLOAD_SECONDS", "15"))
CLIENTS = 200
DEADLINE_SECONDS = 30.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory, corpus):
    settings = settings_on_free_ports(tmp_path_factory.mktemp("data"))
    with Stack(settings) as running:
        ingest_path(settings, corpus, running.database_url, Console(quiet=True))
        yield running


@pytest.mark.alone
def test_every_request_of_too_many_clients_ends_and_the_server_is_as_before(stack):
    url = stack.settings.grpc_url
    ended, longest, wrong = Counter(), [0.0], []
    until = time.monotonic() + SECONDS
    lock = threading.Lock()

    def act(client, number):
        kind = number % 4
        if kind == 0:
            return client.embed([f"text {number} of many"] * 8, "passage")
        if kind == 1:
            return client.search("banks of oars", 5)
        if kind == 2:
            return list(client.generate(f"say {number}", sampling={"max_tokens": 16}))
        return list(client.ask("how many banks of oars?", mode="auto"))

    def run(number):
        with TritonClient(url, timeout=DEADLINE_SECONDS) as client:
            while time.monotonic() < until:
                began, error = time.monotonic(), None
                try:
                    act(client, number)
                except UnavailableError as refused:
                    error = refused
                except Exception as failure:
                    error = failure
                    wrong.append(repr(failure))
                seconds = time.monotonic() - began
                with lock:
                    ended[type(error).__name__ if error else "answered"] += 1
                    longest[0] = max(longest[0], seconds)

    family = psutil.Process(stack.server.pid).children()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(run, range(CLIENTS)))
    print(f"{SECONDS:.0f} s: {dict(ended)}, the longest {longest[0]:.1f} s")
    assert wrong == []
    assert ended["answered"] > CLIENTS / 2
    # A stream's parts have the deadline each; these answers have few.
    assert longest[0] < 2 * DEADLINE_SECONDS + 5
    assert all(stub.is_running() and stub.status() != psutil.STATUS_ZOMBIE for stub in family)
    with TritonClient(url, timeout=DEADLINE_SECONDS) as client:
        wait_until(lambda: serves_quickly(client))


def serves_quickly(client):
    began = time.monotonic()
    return bool(client.search("banks of oars", 1)) and time.monotonic() - began < 5
