"""`trireme agent` and `trireme drain` on the command line."""

import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import fields

import pytest

from fakes.ports import free_ports
from trireme.agent.options import AgentOptions, flag_of
from trireme.cli import main
from trireme.commands import agent as module
from trireme.settings import read_settings


@pytest.fixture
def given(monkeypatch):
    """The options that `trireme agent` with the words it is called with would run with."""
    found = []

    async def run_agent(options, notice, parent):
        found.append((options, parent))

    monkeypatch.setattr("trireme.agent.server.run_agent", run_agent)

    def run(*words):
        assert main(["agent", *words]) == 0
        return found[-1]

    return run


def test_the_server_is_that_of_the_settings_unless_it_is_told(given, monkeypatch):
    monkeypatch.setenv("TRIREME_HOST", "0.0.0.0")  # noqa: S104
    monkeypatch.setenv("TRIREME_GRPC_PORT", "7001")
    monkeypatch.setenv("TRIREME_METRICS_PORT", "7002")
    options, parent = given("--port", "7010")
    assert (options.server, options.metrics_url) == ("127.0.0.1:7001", "http://127.0.0.1:7002/metrics")
    assert parent == 0
    options, _ = given("--server", "10.0.0.1:1", "--metrics-url", "http://10.0.0.1:2/metrics")
    assert (options.server, options.metrics_url) == ("10.0.0.1:1", "http://10.0.0.1:2/metrics")


def test_its_hours_are_of_the_release_that_its_metrics_tell(given, monkeypatch):
    noted = []

    def noted_up(settings):
        noted.append(settings.release)
        return nullcontext()

    monkeypatch.setattr(module, "noted_up", noted_up)
    monkeypatch.setenv("TRIREME_RELEASE", "v1")
    assert given()[0].release == "v1"
    assert given("--release", "v2")[0].release == "v2"
    assert noted == ["v1", "v2"]


def test_options_survive_their_command_line(given):
    options = AgentOptions(
        server="10.0.0.1:1",
        metrics_url="http://10.0.0.1:2/metrics",
        port=3,
        http_port=5,
        host="0.0.0.0",  # noqa: S104
        models=("a", "b"),
        **{f.name: f.default + 1 for f in fields(AgentOptions) if type(f.default) is float or f.default == 2},
    )
    assert given(*options.flags())[0] == options


def test_every_option_has_a_flag_and_a_help():
    assert set(module._HELP) == {option.name for option in fields(AgentOptions)}
    assert flag_of("http_port") == "--http-port"
    assert flag_of("poll") == "--poll-seconds"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("agent", "--poll-seconds", "0"), "--poll-seconds"),
        (("agent", "--models", "a,,b"), "--models"),
        (("drain", "--agent", "nowhere"), "--agent"),
        (("drain", "--agent", "127.0.0.1:1", "--seconds", "nan"), "--seconds"),
        (("drain", "--agent", "127.0.0.1:1", "--seconds", "1e300"), "--seconds"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_1(words, named, capsys):
    assert main(list(words)) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert named in said
    assert said.count("\n") == 1


def test_where_no_agent_answers_a_drain_fails(capsys):
    assert main(["drain", "--agent", f"127.0.0.1:{free_ports(1)[0]}"]) == 1
    assert "trireme agent" in capsys.readouterr().err


def test_an_unknown_flag_stops_the_start():
    found = subprocess.run(
        [sys.executable, "-m", "trireme.cli", "agent", "--poll-second-s", "1"],
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert "--poll-second-s" in found.stderr


def test_the_port_is_not_one_of_the_settings():
    settings = read_settings({})
    own = {AgentOptions().port, AgentOptions().own_http_port}
    assert not own & {settings.http_port, settings.grpc_port, settings.metrics_port, settings.gateway_port}
