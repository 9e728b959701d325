"""Agents beside real tritonservers: what dies or hangs leaves the balancer; what is drained first loses no call."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from stacks import ROOT, free_ports, wait_until

from fakes.agents import AgentRun
from fakes.balancers import Balancer
from fakes.triton_replica import serving_replica
from trireme.agent.options import AgentOptions
from trireme.errors import TriremeError
from trireme.local.postgres import start_postgres
from trireme.scale.endpoints import Endpoint
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
# Checks of the balancer below come twenty times as often: a machine that does other things is in time.
PATIENT = {"health_interval": 1.0, "health_failures": 2, "canary": 2.0, "misses": 2}


class Replica:
    """A tritonserver on ports of its own, and its agent."""

    def __init__(self, models: Path, folder: Path, environ=(), **options):
        http, self.port, metrics, port, agent_http = free_ports(5)
        self.config = ServerConfig(
            "127.0.0.1", http, self.port, metrics, models, folder / "backends", folder / "server.log"
        )
        (folder / "backends").mkdir(parents=True)
        for backend in (ROOT / "python_backends").iterdir():
            if backend.name != "python":
                (folder / "backends" / backend.name).symlink_to(backend)
        self.environ = {**os.environ, **dict(environ)}
        options = AgentOptions(
            server=f"127.0.0.1:{self.port}",
            metrics_url=f"http://127.0.0.1:{metrics}/metrics",
            port=port,
            http_port=agent_http,
            **options,
        )
        self.start()
        self.agent = AgentRun(options, folder / "agent.log")

    def start(self):
        self.server = TritonServer(self.config, self.environ)

    def close(self):
        self.agent.close()
        self.server.kill()

    def wait_until_ready(self):
        # With its own reasons where it cannot start.
        self.server.wait_until_ready(180)
        self.agent.wait_until_ready()

    def endpoint(self):
        return Endpoint("127.0.0.1", self.port, agent_port=self.agent.options.port)

    def kinds(self):
        """What keeps the replica from being ready, as the agent's metrics say it."""
        return {kind for kind, value in self.read_metric("trireme_replica_fault").items() if value}

    def read_metric(self, name):
        with urllib.request.urlopen(f"http://{self.agent.http}/metrics") as page:
            families = text_string_to_metric_families(page.read().decode())
        return {
            next(iter(sample.labels.values()), ""): sample.value
            for family in families
            for sample in family.samples
            if sample.name == name
        }

    def drain(self):
        """As a preStop hook does it."""
        return subprocess.run(
            [sys.executable, "-m", "trireme.cli", "drain", "--agent", self.agent.http, "--seconds", "60"],
            capture_output=True,
            text=True,
            timeout=120,
        )


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
            replica.close()


@pytest.fixture(scope="module")
def balancer(replicas, tmp_path_factory):
    """Envoy, which knows of the two by their agents alone."""
    models = {"sleeper": {"serves": ["sleeper"]}}
    running = Balancer(tmp_path_factory.mktemp("envoy"), models, outlierSeconds=0.5)
    running.place(*replicas)
    yield running
    running.close()


def asked(balancer):
    """Ports of the replicas that get calls."""
    faults = {"failed_active_health_check", "pending_active_hc", "failed_outlier_check"}
    return {port for port, health in balancer.hosts().items() if not faults & set(health)}


class Load:
    """Callers that never rest. `failed`: what they were told instead of an answer."""

    def __init__(self, balancer, callers=3):
        self.balancer, self.failed = balancer, []
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]
        for thread in self._threads:
            thread.start()

    def _call(self):
        with TritonClient(f"127.0.0.1:{self.balancer.values.envoy.listen.port}", timeout=60) as client:
            while not self._closed.is_set():
                try:
                    client.infer("sleeper", {"seconds": [[0.02]]})
                except TriremeError as error:
                    self.failed.append(str(error))

    def close(self):
        self._closed.set()
        for thread in self._threads:
            thread.join()

    def count(self, replica):
        """Calls that Envoy has sent to a replica so far."""
        clusters = json.loads(self.balancer.fetch("/clusters?format=json"))["cluster_statuses"]
        return next(
            int(stat.get("value", 0))
            for cluster in clusters
            for host in cluster.get("host_statuses", [])
            if host["address"]["socket_address"]["port_value"] == replica.port
            for stat in host["stats"]
            if stat["name"] == "rq_total"
        )

    def wait_for_more(self, replica, count=10):
        """Returns once that replica was sent so many more."""
        goal = self.count(replica) + count
        wait_until(lambda: self.count(replica) >= goal)


def test_a_rolling_restart_behind_a_drain_loses_no_call(replicas, balancer):
    answers = []

    def call_long(replica):
        with TritonClient(f"127.0.0.1:{replica.port}", timeout=60) as client:
            answers.append(client.infer("sleeper", {"seconds": [[2.5]]})["slept"].tolist())

    load = Load(balancer)
    try:
        for replica, other in (replicas, reversed(replicas)):
            load.wait_for_more(replica)
            # Longer than the pause after which a server counts as idle: Triton itself ends it.
            long_call = threading.Thread(target=call_long, args=(replica,))
            long_call.start()
            drained = replica.drain()
            assert drained.returncode == 0, drained.stdout + drained.stderr
            sent = load.count(replica)
            load.wait_for_more(other)
            assert load.count(replica) == sent, "it was still sent calls"
            replica.server.stop()
            long_call.join()
            replica.start()
            # A drain has no way back but a new agent.
            replica.agent.kill()
            replica.agent.start()
            replica.wait_until_ready()
            load.wait_for_more(replica)
    finally:
        load.close()
    assert load.failed == []
    assert answers == [[[2.5]]] * 2


def test_a_server_that_is_killed_is_out_and_comes_back_when_its_model_has_answered(replicas, balancer):
    replica, other = replicas
    os.kill(replica.server.pid, signal.SIGKILL)
    wait_until(lambda: replica.kinds() == {"server_away"})
    wait_until(lambda: asked(balancer) == {other.port})
    assert other.kinds() == set()
    assert replica.read_metric("trireme_replica_ready") == {"": 0.0}
    replica.server.kill()
    replica.start()
    wait_until(lambda: asked(balancer) == {replica.port, other.port})
    # It was not believed before it had answered.
    assert replica.read_metric("trireme_replica_fault_seconds")["model_cold"] > 0


def test_a_server_that_hangs_is_out_and_comes_back_when_it_goes_on(replicas, balancer):
    replica, other = replicas
    before = replica.read_metric("trireme_replica_polls_total").get("server_silent", 0)
    os.kill(replica.server.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: replica.kinds() == {"server_silent"})
        assert replica.read_metric("trireme_replica_polls_total")["server_silent"] >= before + 2
        wait_until(lambda: asked(balancer) == {other.port})
    finally:
        os.kill(replica.server.pid, signal.SIGCONT)
    wait_until(lambda: asked(balancer) == {replica.port, other.port})


def test_a_model_whose_process_is_killed_is_out(replicas, balancer):
    replica, other = replicas
    for stub in StubTable(replica.server.pid).stubs:
        os.kill(stub.pid, signal.SIGKILL)
    # Triton goes on saying that the model is ready.
    wait_until(lambda: replica.kinds() == {"model_gone"})
    wait_until(lambda: asked(balancer) == {other.port})
    replica.server.kill()
    replica.start()
    wait_until(lambda: asked(balancer) == {replica.port, other.port})


def test_an_agent_that_is_killed_takes_its_replica_out_until_it_is_started_again(replicas, balancer):
    replica, other = replicas
    replica.agent.kill()
    wait_until(lambda: asked(balancer) == {other.port})
    assert replica.server.is_ready()
    replica.agent.start()
    wait_until(lambda: asked(balancer) == {replica.port, other.port})


def test_an_agent_takes_little_memory(replicas):
    for replica in replicas:
        [memory] = replica.read_metric("process_resident_memory_bytes").values()
        assert memory < 120e6


def test_envoy_shares_calls_by_the_load_that_agents_report(tmp_path):
    """One of two has four times the work of the other waiting. Both say that they end 100 requests a second."""
    [agent_port] = free_ports(1)
    begun = time.monotonic()

    def page(backlog):
        answered = (time.monotonic() - begun) * 100
        lines = {"trireme_backlog_seconds": backlog, "nv_inference_request_success": answered}
        return "".join(f'{name}{{model="a"}} {value}\n' for name, value in lines.items())

    with ExitStack() as resources:
        endpoints, replicas = [], []
        # Envoy asks all agents at one port: as in Kubernetes, where each pod has an address of its own.
        for host, backlog in (("127.0.0.41", 0.4), ("127.0.0.42", 1.6)):
            replica = resources.enter_context(serving_replica("a", host=host))
            replica.page = partial(page, backlog)
            [http_port] = free_ports(1)
            options = AgentOptions(
                server=replica.address,
                metrics_url=replica.metrics_url,
                host=host,
                port=agent_port,
                http_port=http_port,
            )
            agent = AgentRun(options, tmp_path / f"{host}.log")
            resources.callback(agent.close)
            agent.wait_until_ready()
            endpoints.append(Endpoint(host, int(replica.address.rpartition(":")[2]), agent_port=agent_port))
            replicas.append(replica)
        balancer = Balancer(
            tmp_path, {"a": {"serves": ["a"]}}, balancing="orca", orcaSeconds=0.1, agentPort=agent_port
        )
        resources.callback(balancer.close)
        balancer.place(*endpoints)

        def idle_one_gets_most():
            before = [len(replica.requests) for replica in replicas]
            for _ in range(50):
                balancer.infer("a")
            idle, busy = (len(replica.requests) - n for replica, n in zip(replicas, before, strict=True))
            return idle >= 3 * busy

        balancer.wait_until(idle_one_gets_most)


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
        assert "model retriever" in replica.agent.read().reasons[0]
        postgres.restart()
        replica.wait_until_ready()
    finally:
        if replica is not None:
            replica.close()
        postgres.stop()
