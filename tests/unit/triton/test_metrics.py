import http.server
import threading

import pytest

from trireme.artifacts.recipe import Recipe
from trireme.errors import UnavailableError
from trireme.triton.metrics import count_interactive, read_readiness

PAGE = b"""# TYPE trireme_model_ready gauge
trireme_model_ready{model="embedding"} 1
trireme_model_ready{model="retriever"} 0
nv_inference_count{model="embedding",version="1"} 7
"""


class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_):
        pass


@pytest.fixture
def port():
    with http.server.HTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_each_model_says_whether_it_is_ready(port):
    assert read_readiness("127.0.0.1", port) == {"embedding": True, "retriever": False}


def test_an_ensemble_is_ready_when_all_of_its_steps_are(port):
    whole = Recipe("a", kind="search", steps=("embedding", "embedding", "embedding"))
    broken = Recipe("b", kind="search", steps=("embedding", "retriever", "embedding"))
    silent = Recipe("c", kind="search", steps=("embedding", "embedding", "nowhere"))
    ready = read_readiness("127.0.0.1", port, [whole, broken, silent])
    assert (ready["a"], ready["b"], ready["c"]) == (True, False, False)


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
