"""The worker's page: what it says of a queue whose truth is known."""

import urllib.error
import urllib.request

import pytest

from fakes.ports import free_ports
from fakes.spans import KeptSpans
from fakes.worker import Bench, document
from trireme.errors import SettingError, UnavailableError
from trireme.observe import metrics as names
from trireme.triton.metrics import read_samples
from trireme.worker_metrics import WorkerMetrics, metrics_of


@pytest.fixture
def bench():
    return Bench()


def page_of(metrics):
    from prometheus_client import generate_latest

    return generate_latest(metrics.registry).decode()


def told(metrics, row):
    return [value for _, value in read_samples(page_of(metrics), row.name)]


def test_the_page_has_the_names_of_the_table_and_the_model_ingest(bench):
    metrics = WorkerMetrics(bench.worker)
    bench.publish(*(document(f"d{n}", f"text {n}") for n in range(7)))
    metrics.look()
    assert told(metrics, names.QUEUE_DEPTH) == [7]
    assert told(metrics, names.OFFERED) == [0]
    for row in (names.QUEUE_DEPTH, names.OFFERED, names.MODEL_TOKENS):
        ((labels, _),) = read_samples(page_of(metrics), row.name)
        assert (labels["model"], set(labels)) == ("ingest", set(row.labels))


def test_a_rate_that_nobody_knows_is_not_there(bench):
    metrics = WorkerMetrics(bench.worker)
    metrics.look()
    assert told(metrics, names.BACKLOG) == told(metrics, names.CAPACITY) == []


def test_while_the_queue_does_not_answer_nothing_is_told_of_it(bench):
    metrics = WorkerMetrics(bench.worker)
    bench.publish(document("d", "text"))
    metrics.look()
    find = bench.taker.find

    def away(query):
        metrics.close()
        raise UnavailableError("the database does not answer")

    bench.taker.find = away
    metrics.run()
    assert told(metrics, names.QUEUE_DEPTH) == []
    bench.taker.find = find
    metrics.look()
    assert told(metrics, names.QUEUE_DEPTH) == [1]


def test_the_page_is_served_while_the_worker_is_there_and_only_with_a_port(bench):
    (port,) = free_ports(1)
    with metrics_of(bench.worker, "127.0.0.1", port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            assert names.OFFERED.name in page.read().decode()
        with pytest.raises(SettingError, match=f"TRIREME_WORKER_METRICS_PORT {port}"):
            with metrics_of(bench.worker, "127.0.0.1", port):
                pass
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics")
    with metrics_of(bench.worker, "127.0.0.1", 0):
        pass


def test_what_became_of_spans_is_on_the_page_where_some_are_sent(bench):
    spans = KeptSpans()
    metrics = WorkerMetrics(bench.worker, spans=spans)
    for count in (2, 5, 5):
        spans.kept[:] = range(count)
        metrics.tell_spans()
    assert sorted(told(metrics, names.SPANS)) == [0, 0, 5]
    without = WorkerMetrics(bench.worker)
    without.tell_spans()
    assert told(without, names.SPANS) == []
