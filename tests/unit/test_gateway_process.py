"""A gateway as a child: started again when it is killed, and when it hangs; its port claimed before."""

import os
import signal
import socket
import time

import psutil
import pytest

from fakes.ports import free_ports
from trireme.asked_process import MOST_MISSES, HealthTiming
from trireme.errors import SettingError, UnavailableError
from trireme.gateway_process import GatewayProcess, claim_gateway_port, gateway_secrets
from trireme.settings import Settings, environment

# Only the tests ask.
BY_HAND = HealthTiming(every=3600.0, answer=0.3)
NO_WAIT = HealthTiming(leftover=0.0)


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "gateway.toml").write_bytes(b"")
    return Settings(
        data_dir=tmp_path,
        gateway_file=tmp_path / "gateway.toml",
        gateway_port=free_ports(1)[0],
        # Nothing listens there: the gateway lives without.
        database_url="postgresql://127.0.0.1:1/none",
    )


@pytest.fixture
def start(settings, tmp_path):
    started = []

    def make(health=BY_HAND):
        environ = {**os.environ, **environment(settings)}
        started.append(GatewayProcess(settings, environ, tmp_path / "logs" / "gateway.log", health=health))
        return started[-1]

    yield make
    for process in started:
        if process.is_running():
            psutil.Process(process.pid).resume()
        process.stop()


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_is_ready_when_it_answers_and_gone_when_it_is_stopped(start):
    gateway = start()
    gateway.wait_until_ready()
    assert gateway.answers(30.0)
    gateway.stop()
    assert not gateway.is_running()
    assert not gateway.answers(1.0)
    gateway.stop()


def test_one_that_is_killed_is_started_again(start):
    notices = []
    gateway = start()
    gateway.wait_until_ready()
    first = gateway.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: gateway.look_after(notices.append) or gateway.pid != first)
    gateway.wait_until_ready()
    assert len(notices) == 1
    assert "gateway.log" in notices[0]


def test_one_that_hangs_is_ended_and_started_again(start):
    notices = []
    gateway = start()
    gateway.wait_until_ready()
    first = gateway.pid
    os.kill(first, signal.SIGSTOP)
    for _ in range(MOST_MISSES - 1):
        gateway.ask()
    gateway.look_after(notices.append)
    assert gateway.is_running()
    assert notices == []
    gateway.ask()
    wait_until(lambda: gateway.look_after(notices.append) or gateway.pid != first)
    gateway.wait_until_ready()
    assert notices[0] == f"The gateway has not answered {MOST_MISSES} times in a row."


def test_one_that_answers_in_between_does_not_hang(start):
    gateway = start(HealthTiming(every=3600.0, answer=30.0))
    gateway.wait_until_ready()
    gateway.ask()
    gateway.stop()
    # What is not there does not answer.
    for _ in range(MOST_MISSES - 1):
        gateway.ask()
    first = gateway.pid
    wait_until(lambda: gateway.look_after(lambda _: None) or gateway.pid != first)
    gateway.wait_until_ready()
    gateway.ask()
    gateway.look_after(pytest.fail)
    assert gateway.is_running()


def test_one_that_has_not_answered_yet_is_given_its_time(start):
    gateway = start(HealthTiming(every=3600.0, answer=0.01))
    os.kill(gateway.pid, signal.SIGSTOP)
    for _ in range(MOST_MISSES):
        gateway.ask()
    gateway.look_after(pytest.fail)
    assert gateway.is_running()


def test_one_that_cannot_start_says_why(start, tmp_path):
    (tmp_path / "gateway.toml").write_text("[providers")
    with pytest.raises(UnavailableError, match=r"stopped while starting: .*gateway\.toml: .*gateway\.log"):
        start().wait_until_ready()


def test_the_port_is_claimed_for_one_supervisor_and_free_again_after_it(settings):
    with claim_gateway_port(settings, NO_WAIT):
        with pytest.raises(SettingError, match="TRIREME_GATEWAY_PORT"), claim_gateway_port(settings, NO_WAIT):
            pass
    with claim_gateway_port(settings, NO_WAIT):
        pass


def test_a_port_that_somebody_listens_on_is_named(settings):
    with socket.create_server(("127.0.0.1", settings.gateway_port)):
        with pytest.raises(SettingError, match="TRIREME_GATEWAY_PORT"), claim_gateway_port(settings, NO_WAIT):
            pass


def test_what_the_gateway_alone_needs_is_its_secret_and_the_keys_that_its_file_names(settings):
    own = {"TRIREME_GATEWAY_SECRET", "TRIREME_REDIS_URL", "TRIREME_CACHE_URL"}
    own |= {"TRIREME_REGION_REDIS_URLS", "TRIREME_REGION_DATABASE_URLS"}
    assert gateway_secrets(settings) == own
    settings.gateway_file.write_text('[providers.a]\nkind = "openai"\nkeys = ["A_KEY", "B_KEY"]')
    assert gateway_secrets(settings) == own | {"A_KEY", "B_KEY"}


def test_a_calibration_that_is_missing_is_named_before_anything_starts(settings):
    steps = '[{target = "llm", calibration = "none.json"}, {target = "rag"}]'
    settings.gateway_file.write_text(f"[models.a]\nsteps = {steps}")
    with pytest.raises(SettingError, match=r"models.a.steps\[0\].calibration: .*none.json"):
        gateway_secrets(settings)
