import http.server
import threading
import time

import pytest

from trireme.artifacts.recipe import Recipe
from trireme.errors import UnavailableError
from trireme.triton import metrics
from trireme.triton.metrics import (
    count_answered,
    count_interactive,
    has_pending,
    read_backlogs,
    read_readiness,
)

# Each model: what its instances say, and how many seconds ago.
SAID = {
    "embedding": [(1, 0)],
    "retriever": [(0, 0)],
    "half": [(1, 0), (0, 0)],
    "dead": [(1, 60)],
    "half_dead": [(1, 0), (1, 60)],
    "other": [(1, 3)],
}


def page():
    lines = ["# TYPE trireme_model_ready gauge", 'nv_inference_count{model="embedding",version="1"} 7']
    for model, instances in SAID.items():
        for number, (value, age) in enumerate(instances):
            labels = f'{{instance="{model}_0_{number}",model="{model}"}}'
            lines.append(f"trireme_model_ready{labels} {value}")
            lines.append(f"trireme_model_checked_seconds{labels} {time.time() - age:.15g}")
    return "\n".join(lines).encode()


class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page())

    def log_message(self, *_):
        pass


@pytest.fixture
def port():
    with http.server.HTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_each_model_says_whether_it_is_ready(port):
    ready = read_readiness("127.0.0.1", port)
    assert (ready["embedding"], ready["retriever"], ready["other"]) == (True, False, True)


def test_a_model_is_ready_when_each_of_its_instances_is(port):
    assert not read_readiness("127.0.0.1", port)["half"]


def test_a_model_that_has_said_nothing_for_long_is_not_ready_whatever_it_said_last(port):
    ready = read_readiness("127.0.0.1", port)
    assert (ready["dead"], ready["half_dead"]) == (False, False)


def test_a_model_of_the_repository_that_says_nothing_at_all_is_not_ready(port):
    unheard = Recipe("unheard", kind="sort")
    assert read_readiness("127.0.0.1", port, [unheard])["unheard"] is False


def test_an_ensemble_is_ready_when_all_of_its_steps_are(port):
    whole = Recipe("a", kind="search", steps=("embedding", "embedding", "embedding"))
    broken = Recipe("b", kind="search", steps=("embedding", "retriever", "embedding"))
    silent = Recipe("c", kind="search", steps=("embedding", "embedding", "nowhere"))
    ready = read_readiness("127.0.0.1", port, [whole, broken, silent])
    assert (ready["a"], ready["b"], ready["c"]) == (True, False, False)


def test_a_chain_with_a_process_of_its_own_is_ready_when_that_is_too(port):
    steps = ("embedding",) * 4
    chains = [Recipe(name, kind="rag", steps=steps) for name in ("other", "dead", "unheard")]
    ready = read_readiness("127.0.0.1", port, chains)
    assert (ready["other"], ready["dead"], ready["unheard"]) == (True, False, False)


def test_without_a_server_the_error_says_how_to_start_one():
    with pytest.raises(UnavailableError, match="make serve"):
        read_readiness("127.0.0.1", 1)


BUSY_PAGE = """# TYPE trireme_interactive_requests_total counter
trireme_interactive_requests_total{model="embedding"} 7
nv_inference_request_success{model="embedding",version="1"} 900
nv_inference_request_success{model="reranker",version="1"} 3
nv_inference_request_success{model="rag",version="1"} 2
vllm:num_requests_running{model="llm"} %d
"""


def test_requests_that_people_wait_for_are_counted_and_bulk_is_not():
    assert count_interactive(BUSY_PAGE % 0, ("reranker", "rag")) == (12, False)
    assert count_interactive(BUSY_PAGE % 0, ()) == (7, False)
    assert count_interactive(BUSY_PAGE % 2, ()) == (7, True)
    assert count_interactive("", ("reranker",)) == (0, False)


def test_requests_that_ended_are_counted_by_model_whether_answered_or_refused():
    text = """nv_inference_request_success{model="embedding",version="1"} 900
nv_inference_request_failure{model="embedding",reason="OTHER",version="1"} 1
nv_inference_request_failure{model="embedding",reason="REJECTED",version="1"} 2
nv_inference_request_success{model="rag",version="1"} 2
nv_inference_request_duration_us{model="rag",version="1"} 7
"""
    assert count_answered(text) == {"embedding": 903.0, "rag": 2.0}


def test_a_request_is_pending_that_waits_or_is_decoded():
    waits = 'nv_inference_pending_request_count{model="embedding",version="1"} %d\n'
    decodes = 'vllm:num_requests_running{model="llm"} %d\n'
    assert not has_pending(waits % 0 + decodes % 0)
    assert has_pending(waits % 1)
    assert has_pending(waits % 0 + decodes % 2)


def test_the_backlog_of_a_model_is_that_of_all_its_instances(monkeypatch):
    page = """trireme_backlog_seconds{model="llm"} 2.5
trireme_backlog_seconds{model="embedding",instance="a"} 0.25
trireme_backlog_seconds{model="embedding",instance="b"} 0.5
trireme_backlog_seconds_more{model="llm"} 9
"""
    monkeypatch.setattr(metrics, "read_metrics", lambda host, port, seconds: page)
    assert read_backlogs("127.0.0.1", 1) == {"llm": 2.5, "embedding": 0.75}
    monkeypatch.setattr(metrics, "read_metrics", lambda host, port, seconds: "other 1\n")
    assert read_backlogs("127.0.0.1", 1) == {}


@pytest.fixture
def endless():
    """The port of a server whose page comes one comment at a time and has no end; what it sends is `line`."""
    left = threading.Event()

    class Page(http.server.BaseHTTPRequestHandler):
        line, pause = b"#\n", 0.01

        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            try:
                while not left.wait(self.pause):
                    self.wfile.write(self.line)
            except OSError:
                return

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_address[1], Page
    left.set()
    server.shutdown()
    server.server_close()


def test_a_page_that_comes_in_drops_is_not_waited_for_without_end(endless):
    port, _ = endless
    with pytest.raises(UnavailableError, match="no metrics"):
        metrics.read_metrics("127.0.0.1", port, 0.2)


def test_a_page_larger_than_any_is_left_unread(endless):
    port, page = endless
    page.line, page.pause = b"#" * (1 << 20), 0
    with pytest.raises(UnavailableError, match="no metrics"):
        metrics.read_metrics("127.0.0.1", port, 600.0)


def test_a_page_that_ends_before_its_own_length_is_none():
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"a 1\n")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(UnavailableError, match="no metrics"):
            metrics.read_metrics("127.0.0.1", server.server_address[1], 600.0)


def test_an_error_quotes_no_more_than_a_line_of_a_page():
    with pytest.raises(UnavailableError) as raised:
        metrics.count_answered("nv_inference_request_success" + "x" * 100_000 + "\n")
    assert len(str(raised.value)) < 400


def test_a_backlog_that_is_no_number_of_seconds_hides_no_other(monkeypatch):
    page = "\n".join(
        f'trireme_backlog_seconds{{model="{model}"}} {value}'
        for model, value in (("a", "NaN"), ("b", "+Inf"), ("c", "-1"), ("d", "1.5"))
    )
    monkeypatch.setattr("trireme.triton.metrics.read_metrics", lambda *_: page)
    assert read_backlogs("127.0.0.1", 1) == {"d": 1.5}
