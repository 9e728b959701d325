"""An agent as a child: what signals do to it, and that it is started again when it is killed."""

import os
import signal
import time

import pytest

from fakes.ports import free_ports
from fakes.triton_replica import serving_replica
from trireme.agent.options import AgentOptions
from trireme.agent_process import AgentProcess
from trireme.errors import UnavailableError

SECONDS = 60.0
BUSY = 'vllm:num_requests_running{model="a"} 1\n'


@pytest.fixture
def replica():
    with serving_replica("a") as running:
        yield running


@pytest.fixture
def start(replica, tmp_path):
    started = []

    def make(**changes):
        port, http_port = free_ports(2)
        given = {"poll": 0.05, "answer": 20.0, "health_interval": 0.05, "settle": 0.1} | changes
        options = AgentOptions(
            server=replica.address, metrics_url=replica.metrics_url, port=port, http_port=http_port, **given
        )
        started.append(AgentProcess(options, os.environ, tmp_path / "agent.log"))
        return started[-1]

    yield make
    for process in started:
        process.kill()
        process.stop()


def wait_until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_draining(agent):
    return agent.read_readiness().is_draining


def test_a_signal_drains_and_then_it_ends(replica, start):
    agent = start()
    agent.wait_until_ready(SECONDS)
    replica.page = BUSY
    os.kill(agent.pid, signal.SIGTERM)
    wait_until(lambda: is_draining(agent))
    assert not agent.read_readiness().is_ready
    assert agent.is_running()
    replica.page = ""
    wait_until(lambda: not agent.is_running())
    assert agent._process.returncode == 0


def test_a_second_signal_ends_it_whatever_runs(replica, start):
    agent = start()
    agent.wait_until_ready(SECONDS)
    replica.page = BUSY
    os.kill(agent.pid, signal.SIGTERM)
    wait_until(lambda: is_draining(agent))
    os.kill(agent.pid, signal.SIGINT)
    wait_until(lambda: not agent.is_running())
    assert agent._process.returncode == 0


def test_one_that_was_killed_is_started_again_and_has_forgotten_its_drain(start):
    agent, notices = start(), []
    agent.wait_until_ready(SECONDS)
    assert agent.drain(SECONDS).is_empty
    agent.kill()
    wait_until(lambda: not agent.is_running())
    with pytest.raises(UnavailableError):
        agent.read_readiness()

    def is_back():
        agent.look_after(notices.append)
        return agent.is_running()

    wait_until(is_back)
    agent.wait_until_ready(SECONDS)
    assert "agent ended; starting it again" in notices[0]


def test_why_the_replica_is_not_ready_is_told(replica, start):
    replica.index["a"] = ("UNAVAILABLE", "no weights")
    agent = start()

    def has_said_so():
        try:
            agent.wait_until_ready(0.2)
        except UnavailableError as error:
            return "model a: no weights" in str(error)
        return False

    wait_until(has_said_so)
