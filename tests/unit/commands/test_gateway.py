"""`trireme gateway`: its secret, what it refuses to start with, and how it ends."""

import http.client
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from fakes.ports import free_ports
from trireme.cli import main
from trireme.commands.gateway import base_url, read_salt_key
from trireme.errors import SettingError
from trireme.settings import Settings, environment

SECRET = "0123456789abcdef0123456789abcdef"


def settings_in(folder, **changes):
    (folder / "gateway.toml").touch()
    # Nothing listens at the database, which is asked for in the background.
    return Settings(
        data_dir=folder,
        gateway_file=folder / "gateway.toml",
        database_url="postgresql://someone:canary@127.0.0.1:1/none",
        **changes,
    )


@pytest.fixture
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free_port():
    return free_ports(1)[0]


def test_the_secret_is_made_once_for_this_user_alone(tmp_path):
    settings = Settings(data_dir=tmp_path / "data")
    made = read_salt_key(settings)
    assert len(made) == 64
    assert read_salt_key(settings) == made
    (kept,) = (tmp_path / "data").iterdir()
    assert kept.name == "gateway.secret"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert read_salt_key(Settings(data_dir=tmp_path / "other")) != made


def test_processes_that_start_at_once_have_the_same_secret(tmp_path):
    settings = Settings(data_dir=tmp_path)
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: read_salt_key(settings), range(16)))
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.secret"]


def test_the_settings_secret_goes_before_the_files(tmp_path):
    read_salt_key(Settings(data_dir=tmp_path))
    assert read_salt_key(Settings(data_dir=tmp_path, gateway_secret=SECRET)) == SECRET.encode()


def test_a_file_that_holds_no_secret_is_refused_without_being_shown(tmp_path):
    (tmp_path / "gateway.secret").write_text("canary\n")
    with pytest.raises(SettingError, match="holds no secret of 32 characters; remove it") as caught:
        read_salt_key(Settings(data_dir=tmp_path))
    assert "canary" not in str(caught.value)


def test_a_folder_that_holds_no_file_says_which_setting_helps(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="set TRIREME_GATEWAY_SECRET"):
        read_salt_key(Settings(data_dir=tmp_path / "file" / "data"))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9080/v1"),
        ("0.0.0.0", "http://127.0.0.1:9080/v1"),  # noqa: S104
        ("::1", "http://[::1]:9080/v1"),
    ],
)
def test_the_base_url_is_one_that_clients_of_this_machine_reach(host, url):
    assert base_url(Settings(gateway_host=host, gateway_port=9080)) == url


def run(settings, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "trireme.cli", "gateway", *arguments],
        env={**os.environ, **environment(settings)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_what_holds_passwords_is_not_in_the_environment_that_readers_of_files_inherit(
    tmp_path, monkeypatch, free_port
):
    settings = settings_in(
        tmp_path,
        gateway_secret=SECRET,
        gateway_port=free_port,
        redis_url="redis://:canary@127.0.0.1:1",
        region_redis_urls="us-east=redis://:canary@127.0.0.1:1",
        region_database_urls="us-east=postgresql://u:canary@127.0.0.1:1/x",
    )
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    served = []
    monkeypatch.setattr("trireme.gateway.server.run_gateway", lambda *_: served.append(dict(os.environ)))
    assert main(["gateway"]) == 0
    (inherited,) = served
    told = "\n".join(inherited.values())
    assert (SECRET in told, "canary" in told) == (False, False)


def test_a_port_that_is_taken_is_named(tmp_path, taken_port):
    done = run(settings_in(tmp_path), "--port", str(taken_port))
    assert done.returncode == 1
    assert str(taken_port) in done.stderr
    assert "TRIREME_GATEWAY_PORT" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("port", ["0", "65536", "-1"])
def test_a_number_that_is_no_port_is_named(tmp_path, port):
    done = run(settings_in(tmp_path), "--port", port)
    assert done.returncode == 1
    assert "--port must be a TCP port" in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[providers", "gateway.toml"),
        (
            '[providers.a]\nkind = "other"\nurl = "http://127.0.0.1:1/v1"',
            "providers.a.kind 'other' is unknown",
        ),
        ('[models.a]\nchain = ["nobody:x"]', "no provider 'nobody'"),
        (
            '[models.a]\nsteps = [{target = "llm", calibration = "c/none.json"}, {target = "rag"}]',
            "models.a.steps[0].calibration",
        ),
        (
            '[providers.a]\nkind = "openai"\nurl = "http://127.0.0.1:1/v1"\nkeys = ["NO_SUCH_KEY"]',
            "NO_SUCH_KEY",
        ),
        ('[models.m]\nchain = ["llm"]\n[models.m.semantic]', "TRIREME_CACHE_URL"),
        (
            '[local]\nregion = "us"\nother_regions = ["eu"]\n[tenants.a]\nhome = "eu"',
            "TRIREME_REGION_REDIS_URLS must have eu=URL",
        ),
        # Found when the provider is opened, inside of the server.
        (
            '[providers.a]\nkind = "openai"\nurl = "ftp://127.0.0.1/v1"',
            "providers.a.url must begin with http",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(tmp_path, free_port, text, words):
    (tmp_path / "gateway.toml").write_text(text)
    done = run(settings_in(tmp_path), "--port", str(free_port))
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "canary" not in done.stderr


def test_a_semantic_cache_without_its_models_is_named(tmp_path, free_port):
    text = '[models.m]\nchain = ["llm"]\n[models.m.semantic]'
    (tmp_path / "gateway.toml").write_text(text)
    here = settings_in(tmp_path, cache_url="redis://127.0.0.1:1/0", model_repository=tmp_path / "models")
    done = run(here, "--port", str(free_port))
    assert done.returncode == 1
    assert "turns the semantic cache on: model 'embedding' has no version folder" in done.stderr


class Running:
    """A gateway process that answers, or has ended."""

    def __init__(self, folder, port, *arguments):
        self.port = port
        self.log = Path(folder) / "out"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trireme.cli", "gateway", "--port", str(port), *arguments],
                env={**os.environ, **environment(settings_in(folder))},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        wait_until(lambda: self.status() is not None or self.process.poll() is not None)

    def status(self):
        """The status of /healthz, None where nobody answers."""
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
                connection.request("GET", "/healthz")
                return connection.getresponse().status
        except OSError:
            return None


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(tmp_path, free_port, number):
    running = Running(tmp_path, free_port)
    try:
        assert running.status() == 200, running.log.read_text()
        running.process.send_signal(number)
        assert running.process.wait(60) == 0
        said = running.log.read_text()
        assert said.startswith(f"Gateway: http://127.0.0.1:{free_port}/v1; Ctrl-C ends it.\n")
        assert "Traceback" not in said
        assert "canary" not in said
    finally:
        running.process.kill()
        running.process.wait()


def test_it_ends_when_it_is_not_the_child_of_its_parent(tmp_path, free_port):
    # No process has this one's parent as its parent and number 1 as its id.
    running = Running(tmp_path, free_port, "--parent", str(os.getpid() + 1))
    try:
        assert running.process.wait(60) == 0
    finally:
        running.process.kill()
        running.process.wait()
