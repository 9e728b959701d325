"""`trireme agent` as a process: what signals do to it."""

import os
import signal
import time

import pytest

from fakes.agents import AgentRun
from fakes.ports import free_ports
from fakes.triton_replica import serving_replica
from trireme.agent.options import AgentOptions

BUSY = 'vllm:num_requests_running{model="a"} 1\n'


@pytest.fixture
def replica():
    with serving_replica("a") as running:
        yield running


@pytest.fixture
def agent(replica, tmp_path):
    """One that is ready."""
    port, http_port = free_ports(2)
    options = AgentOptions(
        server=replica.address,
        metrics_url=replica.metrics_url,
        port=port,
        http_port=http_port,
        poll=0.05,
        answer=20.0,
        health_interval=0.05,
        settle=0.1,
    )
    running = AgentRun(options, tmp_path / "agent.log")
    running.wait_until_ready()
    yield running
    running.close()


def wait_until(condition):
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_signal_drains_it_and_then_it_ends(replica, agent):
    replica.page = BUSY
    os.kill(agent.process.pid, signal.SIGTERM)
    wait_until(lambda: agent.read().is_draining)
    assert not agent.read().is_ready
    assert agent.is_running()
    replica.page = ""
    assert agent.process.wait(60) == 0
    assert agent.log.read_text().splitlines()[-1] == "Drained."


def test_a_second_signal_ends_it_whatever_runs(replica, agent):
    replica.page = BUSY
    os.kill(agent.process.pid, signal.SIGTERM)
    wait_until(lambda: agent.read().is_draining)
    os.kill(agent.process.pid, signal.SIGINT)
    assert agent.process.wait(60) == 0
    assert "Traceback" not in agent.log.read_text()


def test_a_new_one_has_forgotten_the_drain(agent):
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(60) == 0
    agent.start()
    agent.wait_until_ready()
    assert not agent.read().is_draining


def test_one_whose_parent_is_another_process_ends(replica, tmp_path):
    options = AgentOptions(server=replica.address, metrics_url=replica.metrics_url, port=free_ports(1)[0])
    running = AgentRun(options, tmp_path / "agent.log", "--parent", "1")
    assert running.process.wait(60) == 0
