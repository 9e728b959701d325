"""What the export writes, and when it asks the server for its own queue."""

import http.server
import threading

import pytest

from trireme.observe import metrics as names
from trireme.observe.work import FrontQueue, Waiting, WorkMeter, WorkRate
from trireme.triton.backends.metrics import ModelMetrics
from trireme.triton.backends.signals import FrontWatch, SignalExport, WorkSource


class NoFront:
    """A server that does not say."""

    def look(self):
        return None

    def ask(self, *, is_busy):
        return FrontQueue(waiting=4) if is_busy else None


class Source:
    """Work that a test sets."""

    def __init__(self, **more):
        self.meter, self.rate, self.waiting, self.is_busy = WorkMeter(), WorkRate(), Waiting(), False
        self.source = WorkSource(
            self.meter.totals, self.rate, lambda: self.waiting, lambda: self.is_busy, **more
        )


def export(pb, source, warmup=2.5, **more):
    values = {"instance": "m_0_0", "instances": 1, "warmup_seconds": lambda: warmup} | more
    made = SignalExport(ModelMetrics(pb, "m"), source.source, NoFront(), **values)
    # Its own thread writes when it ends.
    return made


def value(pb, metric, *labels):
    found = pb.MetricFamily.metrics.get("/".join((metric.name, "m", *labels)))
    return None if found is None else found.value


def test_the_signals_are_written_with_the_models_name_and_gauges_with_their_instance(pb):
    source = Source()
    written = export(pb, source)
    source.rate.add(100, 1.0)
    source.meter.offer(300)
    source.meter.offer(50, is_refused=True)
    source.meter.offer(50, is_bulk=True)
    source.meter.wait(1.5, 2)
    source.waiting = Waiting(3, 250)
    written.close()
    assert (value(pb, names.OFFERED), value(pb, names.REJECTED), value(pb, names.BULK)) == (4.0, 0.5, 0.5)
    assert (value(pb, names.QUEUE_WAIT), value(pb, names.QUEUE_WAITS)) == (1.5, 2)
    gauges = {
        names.BACKLOG: 2.5,
        names.CAPACITY: 100.0,
        names.QUEUE_DEPTH: 3.0,
        names.WARMUP: 2.5,
        names.INPUT_TOKEN_WORK: None,
    }
    assert {metric: value(pb, metric, "m_0_0") for metric in gauges} == gauges


def test_a_gauge_that_nobody_knows_is_not_there(pb):
    export(pb, Source(), warmup=None).close()
    assert value(pb, names.BACKLOG, "m_0_0") is None
    assert value(pb, names.CAPACITY, "m_0_0") is None
    assert value(pb, names.WARMUP, "m_0_0") is None
    assert value(pb, names.QUEUE_DEPTH, "m_0_0") == 0.0
    assert value(pb, names.OFFERED) == 0.0


def test_an_llm_counts_its_tokens_and_says_what_one_that_it_reads_costs(pb):
    source = Source(input_token_work=lambda: 0.25)
    export(pb, source).close()
    assert value(pb, names.INPUT_TOKEN_WORK, "m_0_0") == 0.25
    assert (value(pb, names.MODEL_TOKENS, "input"), value(pb, names.MODEL_TOKENS, "output")) == (0, 0)


def test_a_busy_model_adds_its_share_of_the_servers_queue(pb):
    source = Source()
    written = export(pb, source, instances=2)
    source.rate.add(10, 1.0)
    source.meter.offer(10)
    source.is_busy = True
    written.close()
    assert value(pb, names.QUEUE_DEPTH, "m_0_0") == 2.0
    assert value(pb, names.BACKLOG, "m_0_0") == 4 * 10 / 2 / (2 * 10)


def test_what_fails_once_does_not_end_the_export(pb, monkeypatch):
    source = Source()
    written = export(pb, source)
    failures = iter([RuntimeError("once")])

    def read():
        for failure in failures:
            raise failure
        return Waiting(7, 0.0)

    monkeypatch.setattr(written, "_source", WorkSource(source.meter.totals, source.rate, read))
    written._closed.set()
    written._thread.join()
    written._closed.clear()
    written._write()
    assert value(pb, names.QUEUE_DEPTH, "m_0_0") == 7.0


PAGE = b"""# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="m",version="1"} 5
nv_inference_pending_request_count{model="other",version="1"} 50
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{model="m",reason="REJECTED",version="1"} 3
nv_inference_request_failure{model="m",reason="CANCELED",version="1"} 2
nv_inference_request_failure{model="m",reason="OTHER",version="1"} 9
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{model="m",version="1"} 2500000
"""


@pytest.fixture
def page():
    """A server's page of metrics: its port, and how often it was asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        asked = 0

        def do_GET(self):
            type(self).asked += 1
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], Handler
        server.shutdown()


def test_the_servers_queue_is_that_of_the_model_alone(page):
    watch = FrontWatch("127.0.0.1", page[0], "m")
    assert watch.look() == FrontQueue(waiting=5, refused=3, gone=2, wait_seconds=2.5)


def test_an_idle_model_asks_nobody_and_a_busy_one_once_more_after_its_last(page):
    port, handler = page
    watch = FrontWatch("127.0.0.1", port, "m")
    assert (watch.ask(is_busy=False), handler.asked) == (None, 0)
    assert watch.ask(is_busy=True) is not None
    assert watch.ask(is_busy=False) is not None
    assert (watch.ask(is_busy=False), handler.asked) == (None, 2)


def test_a_model_inside_of_execute_is_busy(page):
    watch = FrontWatch("127.0.0.1", page[0], "m")
    with watch.executing():
        assert watch.ask(is_busy=False).waiting == 5


def test_a_server_that_is_not_there_is_an_empty_queue():
    assert FrontWatch("127.0.0.1", 1, "m").ask(is_busy=True) is None
