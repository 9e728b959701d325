"""Agents beside real tritonservers: what dies or hangs leaves the balancer; what is drained first loses no call."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from stacks import ROOT, free_ports, wait_until

from trireme.agent.options import AgentOptions
from trireme.agent_process import AgentProcess
from trireme.errors import TriremeError
from trireme.local.postgres import start_postgres
from trireme.triton.client import TritonClient
from trireme.triton.server import ServerConfig, TritonServer
from trireme.triton.stubs import StubTable

CONFIG = """
name: "sleeper" backend: "python" max_batch_size: 8
input [{ name: "seconds" data_type: TYPE_FP32 dims: [1] }]
output [{ name: "slept" data_type: TYPE_FP32 dims: [1] }]
instance_group [{ count: 2 kind: KIND_CPU }]
"""
MODEL = """
import time
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            seconds = pb.get_input_tensor_by_name(request, "seconds").as_numpy()
            time.sleep(float(seconds[0]))
            answers.append(pb.InferenceResponse([pb.Tensor("slept", seconds)]))
        return answers
"""
CHECK_SECONDS = 0.2
# What the agents are told of the balancer below leaves it time on a machine that does other things.
PATIENT = {"health_interval": 1.0, "health_failures": 2}
START_SECONDS = 180


class Replica:
    """A tritonserver on ports of its own, and its agent."""

    def __init__(self, models: Path, folder: Path, environ=(), **options):
        self.folder = folder
        http, self.grpc, self.metrics, port, agent_http = free_ports(5)
        self.config = ServerConfig(
            "127.0.0.1", http, self.grpc, self.metrics, models, folder / "backends", folder / "server.log"
        )
        (folder / "backends").mkdir(parents=True)
        for backend in (ROOT / "python_backends").iterdir():
            if backend.name != "python":
                (folder / "backends" / backend.name).symlink_to(backend)
        self.environ = {**os.environ, **dict(environ)}
        self.address = f"127.0.0.1:{self.grpc}"
        options = AgentOptions(
            server=self.address,
            metrics_url=f"http://127.0.0.1:{self.metrics}/metrics",
            port=port,
            http_port=agent_http,
            **options,
        )
        self.start()
        self.agent = AgentProcess(options, os.environ, folder / "agent.log")

    def start(self):
        self.server = TritonServer(self.config, self.environ)

    def stop(self):
        self.agent.kill()
        self.agent.stop()
        self.server.kill()

    def wait_until_ready(self):
        # With its own reasons where it cannot start.
        self.server.wait_until_ready(START_SECONDS)
        self.agent.wait_until_ready(START_SECONDS)

    def kinds(self):
        """What keeps the replica from being ready, as the agent's metrics say it."""
        return {kind for kind, value in self.read_metric("trireme_replica_fault").items() if value}

    def read_metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.agent.options.own_http_port}/metrics") as page:
            families = text_string_to_metric_families(page.read().decode())
        return {
            next(iter(sample.labels.values()), ""): sample.value
            for family in families
            for sample in family.samples
            if sample.name == name
        }

    def drain(self):
        """As a preStop hook does it."""
        address = f"127.0.0.1:{self.agent.options.own_http_port}"
        return subprocess.run(
            [sys.executable, "-m", "trireme.cli", "drain", "--agent", address, "--seconds", "60"],
            capture_output=True,
            text=True,
            timeout=120,
        )


class Balancer:
    """The least that Envoy does: asks each agent again and again, and sends calls to those that serve, in turn."""

    def __init__(self, replicas):
        self.replicas, self.healthy = replicas, set()
        self._closed, self._turns = threading.Event(), itertools.count()
        self._threads = [
            threading.Thread(target=self._check, args=(number,)) for number in range(len(replicas))
        ]
        for thread in self._threads:
            thread.start()

    def close(self):
        self._closed.set()
        for thread in self._threads:
            thread.join()

    def pick(self):
        """Number of a replica that serves."""
        while not (healthy := sorted(self.healthy)):
            time.sleep(0.01)
        return healthy[next(self._turns) % len(healthy)]

    def _check(self, number):
        failures = 0
        with grpc.insecure_channel(f"127.0.0.1:{self.replicas[number].agent.options.port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not self._closed.wait(CHECK_SECONDS):
                try:
                    status = stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status
                except grpc.RpcError:
                    status = None
                failures = 0 if status == health_pb2.HealthCheckResponse.SERVING else failures + 1
                if not failures:
                    self.healthy.add(number)
                elif failures >= 2:
                    self.healthy.discard(number)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (folder / "sleeper" / "1").mkdir(parents=True)
    (folder / "sleeper" / "config.pbtxt").write_text(CONFIG)
    (folder / "sleeper" / "1" / "model.py").write_text(MODEL)
    return folder


@pytest.fixture(scope="module")
def replicas(models, tmp_path_factory):
    """Two, both ready. What a test ends of them it starts again."""
    started = []
    try:
        for number in range(2):
            started.append(Replica(models, tmp_path_factory.mktemp(f"r{number}"), **PATIENT))
        for replica in started:
            replica.wait_until_ready()
        yield started
    finally:
        for replica in started:
            replica.stop()


@contextmanager
def balanced(replicas):
    balancer = Balancer(replicas)
    try:
        wait_until(lambda: len(balancer.healthy) == len(replicas))
        yield balancer
    finally:
        balancer.close()


class Load:
    """Callers that never rest, each with a connection to every replica. `served`: answers by replica."""

    def __init__(self, balancer, callers=3):
        self.balancer, self.failed, self.served = balancer, [], [0] * len(balancer.replicas)
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]
        for thread in self._threads:
            thread.start()

    def _call(self):
        clients = [TritonClient(replica.address, timeout=60) for replica in self.balancer.replicas]
        while not self._closed.is_set():
            number = self.balancer.pick()
            try:
                clients[number].infer("sleeper", {"seconds": [[0.02]]})
                self.served[number] += 1
            except TriremeError as error:
                self.failed.append((number, str(error)))
        for client in clients:
            client.close()

    def close(self):
        self._closed.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, number, count=10):
        """Returns once that replica has served so many more."""
        goal = self.served[number] + count
        wait_until(lambda: self.served[number] >= goal)


def test_a_rolling_restart_behind_a_drain_loses_no_call(replicas):
    long_calls = []

    def call_long(replica):
        with TritonClient(replica.address, timeout=60) as client:
            long_calls.append(client.infer("sleeper", {"seconds": [[2.5]]}))

    with balanced(replicas) as balancer:
        load = Load(balancer)
        try:
            for number, replica in enumerate(replicas):
                load.wait_for_more(number)
                # Longer than the pause after which a server counts as idle: Triton ends it by itself.
                long_call = threading.Thread(target=call_long, args=(replica,))
                long_call.start()
                drained = replica.drain()
                assert drained.returncode == 0, drained.stdout + drained.stderr
                served = list(load.served)
                load.wait_for_more(1 - number)
                assert load.served[number] == served[number], "it was still sent calls"
                replica.server.stop()
                long_call.join()
                replica.start()
                replica.agent.kill()
                wait_until(lambda agent=replica.agent: not agent.is_running())
                wait_until(lambda agent=replica.agent: agent.look_after(print) or agent.is_running())
                replica.wait_until_ready()
                load.wait_for_more(number)
        finally:
            load.close()
    assert load.failed == []
    assert len(long_calls) == len(replicas)


def test_a_server_that_is_killed_is_out_and_comes_back_when_its_model_has_answered(replicas):
    replica, other = replicas
    with balanced(replicas) as balancer:
        os.kill(replica.server.pid, signal.SIGKILL)
        wait_until(lambda: replica.kinds() == {"server_away"})
        wait_until(lambda: balancer.healthy == {1})
        assert other.kinds() == set()
        assert replica.read_metric("trireme_replica_ready") == {"": 0.0}
        replica.server.kill()
        replica.start()
        wait_until(lambda: balancer.healthy == {0, 1})
        with TritonClient(replica.address) as client:
            assert client.is_ready("sleeper")
        # It was not believed before it had answered.
        assert replica.read_metric("trireme_replica_fault_seconds")["model_cold"] > 0


def test_a_server_that_hangs_is_out_and_comes_back_when_it_goes_on(replicas):
    replica = replicas[0]
    before = replica.read_metric("trireme_replica_polls_total").get("server_silent", 0)
    os.kill(replica.server.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: replica.kinds() == {"server_silent"})
        assert replica.read_metric("trireme_replica_polls_total")["server_silent"] >= before + 2
    finally:
        os.kill(replica.server.pid, signal.SIGCONT)
    replica.wait_until_ready()


def test_a_model_whose_process_is_killed_is_out(replicas):
    replica = replicas[0]
    for stub in StubTable(replica.server.pid).stubs:
        os.kill(stub.pid, signal.SIGKILL)
    # Triton goes on saying that the model is ready.
    wait_until(lambda: replica.kinds() == {"model_gone"})
    replica.server.kill()
    replica.start()
    replica.wait_until_ready()


def test_an_agent_that_is_killed_takes_its_replica_out_until_it_is_started_again(replicas):
    replica = replicas[0]
    with balanced(replicas) as balancer:
        replica.agent.kill()
        wait_until(lambda: balancer.healthy == {1})
        with TritonClient(replica.address) as client:
            assert client.is_ready("sleeper")
        wait_until(lambda: replica.agent.look_after(print) or balancer.healthy == {0, 1})


def test_an_agent_takes_little_memory(replicas):
    for replica in replicas:
        [memory] = replica.read_metric("process_resident_memory_bytes").values()
        assert memory < 120e6


def test_a_retriever_whose_database_is_away_is_out_until_it_is_back(tmp_path):
    (tmp_path / "models").mkdir()
    for model in ("retriever", "embedding"):
        (tmp_path / "models" / model).symlink_to(ROOT / "model_repository" / model)
    postgres = start_postgres(tmp_path / "data")
    replica = None
    try:
        replica = Replica(
            tmp_path / "models", tmp_path / "replica", {"TRIREME_DATABASE_URL": postgres.url}.items()
        )
        replica.wait_until_ready()
        postgres.stop()
        wait_until(lambda: replica.kinds() == {"model_not_ready"})
        assert "model retriever" in replica.agent.read_readiness().reasons[0]
        postgres.restart()
        replica.wait_until_ready()
    finally:
        if replica is not None:
            replica.stop()
        postgres.stop()
