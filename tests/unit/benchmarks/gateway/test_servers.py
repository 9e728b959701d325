import json
import os
import sys

import psutil
import pytest

from benchmarks.gateway import ours, rivals
from benchmarks.gateway.servers import HOST, Server, run_process
from benchmarks.rivals.setup import MADE
from trireme.errors import UnavailableError
from trireme.gateway.file import parse_gateway_file
from trireme.machine import pick_ports


def test_a_process_is_there_once_its_page_answers_and_gone_afterwards(tmp_path):
    [port] = pick_ports(HOST, 1)
    command = [sys.executable, "-m", "http.server", str(port), "--bind", HOST]
    with run_process(tmp_path, command, os.environ, page=f"http://{HOST}:{port}/", seconds=30) as process:
        assert Server("x", port, pid=process.pid).read_cpu_s() > 0
    assert not psutil.pid_exists(process.pid)


def test_a_process_that_ends_is_an_error_with_its_last_words(tmp_path):
    command = [sys.executable, "-c", "print('port is taken'); raise SystemExit(3)"]
    with (
        pytest.raises(UnavailableError, match="did not start: port is taken"),
        run_process(tmp_path, command, os.environ, page=f"http://{HOST}:1/", seconds=30),
    ):
        pass


def test_a_server_shows_no_key():
    assert "sk-secret" not in repr(Server("x", 1, {"authorization": "Bearer sk-secret"}))


def test_our_file_is_one_that_the_gateway_reads():
    file = parse_gateway_file(ours.make_gateway_file(1234).encode(), "gateway.toml")
    assert file.models["fake"].chain == ["fake:fake"]
    assert file.providers["fake"].url == f"http://{HOST}:1234/v1"


def test_our_gateway_gets_none_of_the_users_own_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIREME_TENANT", "acme")
    environ = ours.make_environ(tmp_path, 1, "postgresql://x", {"TRIREME_GRPC_PORT": "9"})
    assert "TRIREME_TENANT" not in environ
    assert (environ["TRIREME_GATEWAY_PORT"], environ["TRIREME_GRPC_PORT"]) == ("1", "9")


def write_python(folder, script):
    """A stand-in for the interpreter: `venv` makes a folder whose python runs `script`."""
    python = folder / "python"
    inner = f"printf '#!/bin/sh\\n%s\\n' '{script}' > \"$3/bin/python\""
    python.write_text(f'#!/bin/sh\nmkdir -p "$3/bin"\n{inner}\nchmod +x "$3/bin/python"\n', encoding="utf-8")
    python.chmod(0o755)
    return str(python)


def test_the_rivals_environment_is_made_once_from_its_lock(tmp_path):
    log, folder = tmp_path / "log", tmp_path / "litellm"
    python = write_python(tmp_path, f'echo "$@" >> {log}')
    assert rivals.prepare(folder, python) == ""
    assert (folder / MADE).is_file()
    assert rivals.prepare(folder, python) == ""
    [line] = log.read_text(encoding="utf-8").splitlines()
    assert line.endswith(f"--no-deps -r {rivals.LOCK}")
    assert (
        rivals.prepare(folder, write_python(tmp_path, "echo ERROR: none >&2; exit 1"), force=True)
        == "ERROR: none"
    )


def test_the_lock_pins_every_version():
    lines = rivals.LOCK.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("#")
    assert all("==" in line and "@" not in line for line in lines[1:])
    assert any(line.startswith("litellm==") for line in lines)


def test_the_rival_knows_the_fake_provider_alone_and_calls_nobody_else(tmp_path):
    config = json.loads(rivals.make_config(1234))
    [model] = config["model_list"]
    assert model["litellm_params"]["api_base"] == f"http://{HOST}:1234/v1"
    assert "database_url" not in config["general_settings"]
    environ = rivals.make_environ(tmp_path)
    assert (environ["LITELLM_LOCAL_MODEL_COST_MAP"], environ["LITELLM_TELEMETRY"]) == ("True", "False")
    assert not any("proxy" in name.lower() for name in environ)


def test_a_rival_that_is_not_installed_says_how_to_install_it(tmp_path):
    with (
        pytest.raises(UnavailableError, match=r"python -m benchmarks\.gateway\.rivals"),
        rivals.start_litellm(tmp_path / "absent", 1, tmp_path),
    ):
        pass
