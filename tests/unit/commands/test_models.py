"""`trireme ready --alive`: processes that are gone, told apart from models that are not ready."""

import http.server
import threading
import time

import pytest

from trireme.cli import main
from trireme.triton.metrics import find_silent

# Each model: what its instances say, and how many seconds ago.
SAID = {
    "embedding": [(1, 0)],
    "retriever": [(0, 0)],
    "dead": [(1, 60)],
    "half_dead": [(1, 0), (1, 60)],
    # Seconds below the limit: a busy machine takes some of them.
    "slow": [(1, 1)],
}


def page(said):
    return "".join(
        f'trireme_model_ready{{instance="{number}",model="{model}"}} {value}\n'
        f'trireme_model_checked_seconds{{instance="{number}",model="{model}"}} {time.time() - age:.15g}\n'
        for model, instances in said.items()
        for number, (value, age) in enumerate(instances)
    )


@pytest.fixture
def server(monkeypatch):
    """A server's page of metrics, which the settings name."""

    class Metrics(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page(self.server.said).encode())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Metrics) as served:
        served.said = dict(SAID)
        threading.Thread(target=served.serve_forever, daemon=True).start()
        monkeypatch.setenv("TRIREME_METRICS_PORT", str(served.server_address[1]))
        yield served
        served.shutdown()


def test_a_model_that_says_it_is_not_ready_lives_and_one_that_says_nothing_does_not():
    assert find_silent(page(SAID)) == ["dead", "half_dead"]


def test_ready_alive_names_each_model_with_a_dead_process_and_exits_with_1(server, capsys):
    assert main(["ready", "--alive"]) == 1
    said = capsys.readouterr().out
    assert [line.split(":")[0] for line in said.splitlines()] == ["dead", "half_dead"]


def test_a_models_name_is_written_as_it_stands(server, capsys):
    server.said = {"[/x]": [(1, 60)]}
    assert main(["ready", "--alive"]) == 1
    assert capsys.readouterr().out.startswith("[/x]: ")


def test_ready_alive_is_content_while_a_database_is_away(server, capsys):
    del server.said["dead"], server.said["half_dead"]
    assert main(["ready", "--alive"]) == 0
    assert capsys.readouterr().out == ""


def test_ready_alive_of_a_server_that_is_gone_is_an_error(server, capsys, monkeypatch):
    server.shutdown()
    server.server_close()
    assert main(["ready", "--alive"]) == 1
    assert "no metrics at 127.0.0.1" in capsys.readouterr().err
