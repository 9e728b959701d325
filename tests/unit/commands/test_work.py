from contextlib import contextmanager

import pytest

import trireme.served_encoders
import trireme.worker_metrics
from trireme.commands.work import run_worker
from trireme.ingest.jobs_in_hand import WorkerStats
from trireme.settings import read_settings


class Idle:
    stats = WorkerStats()

    def run(self, *, drain):
        pass

    def stop(self):
        pass


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TRIREME_HOST": "127.0.0.2"}, ("127.0.0.2", 0)),
        ({"TRIREME_HOST": "127.0.0.2", "TRIREME_WORKER_METRICS_PORT": "9000"}, ("127.0.0.2", 9000)),
        (
            {
                "TRIREME_HOST": "balancer",
                "TRIREME_WORKER_METRICS_HOST": "127.0.0.3",
                "TRIREME_WORKER_METRICS_PORT": "9000",
            },
            ("127.0.0.3", 9000),
        ),
    ],
)
def test_a_workers_page_has_an_address_of_its_own_where_its_server_is_elsewhere(
    monkeypatch, environ, expected
):
    opened = []

    @contextmanager
    def open_worker(*_, **__):
        yield Idle()

    @contextmanager
    def metrics_of(_, host, port, *__):
        opened.append((host, port))
        yield

    monkeypatch.setattr(trireme.served_encoders, "open_worker", open_worker)
    monkeypatch.setattr(trireme.worker_metrics, "metrics_of", metrics_of)
    run_worker(read_settings(environ), "postgresql://", lambda _: None)
    assert opened == [expected]
