"""Metrics of a real server, written by several threads of one backend: without a lock it ends within a second."""

import os
import re
import shutil
import urllib.request

import pytest
from stacks import free_ports, wait_until

from trireme.triton.server import ServerConfig, TritonServer

THREADS = 4
CALLS = 3000
CONFIG = """
name: "m" backend: "python" max_batch_size: 0
input [{ name: "x" data_type: TYPE_FP32 dims: [-1] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [-1] }]
instance_group [{ count: 1 kind: KIND_CPU }]
"""
MODEL = f"""
import threading
import triton_python_backend_utils as pb
from trireme.triton.backends.instruments import Instrument

class TritonPythonModel:
    def initialize(self, args):
        self.family = pb.MetricFamily(name="added_total", description="d", kind=pb.MetricFamily.COUNTER)
        self.instrument = Instrument(self.family.Metric(labels={{"model": "m"}}))
        def add():
            for _ in range({CALLS}):
                self.instrument.increment(1)
        self.threads = [threading.Thread(target=add, daemon=True) for _ in range({THREADS})]
        for thread in self.threads:
            thread.start()

    def execute(self, requests):
        return []

    def finalize(self):
        for thread in self.threads:
            thread.join()
        self.instrument.release()
        self.family = None
"""


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "models" / "m" / "1"
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text(CONFIG)
    (folder / "model.py").write_text(MODEL)
    (tmp_path / "backends").mkdir()
    http, grpc, metrics = free_ports(3)
    config = ServerConfig(
        "127.0.0.1", http, grpc, metrics, tmp_path / "models", tmp_path / "backends", tmp_path / "log"
    )
    with TritonServer(config, os.environ) as running:
        running.wait_until_ready(180)
        yield running
    shutil.rmtree(tmp_path / "backends")


def test_a_counter_that_several_threads_add_to_ends_no_server_and_loses_nothing(server):
    def added():
        assert server.is_running(), "tritonserver ended"
        with urllib.request.urlopen(f"http://127.0.0.1:{server.config.metrics_port}/metrics") as page:
            found = re.search(r"^added_total\{.*\} (\S+)$", page.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    wait_until(lambda: added() == THREADS * CALLS)
