"""Settings for servers of a test's own, and waiting for what they do."""

import dataclasses
import itertools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from trireme.settings import Settings
from trireme.triton.server import ServerConfig, TritonServer

ROOT = Path(__file__).parents[2]


# What `make serve` indexes.
SAMPLE_CORPUS = [
    ROOT / name for name in re.search(r"serve --corpus (.+)", (ROOT / "Makefile").read_text())[1].split()
]

# Below the ports that the kernel gives to clients, which could take one before its server does.
PORTS_OF_A_WORKER = 2000
FIRST_PORT = 10_000 + PORTS_OF_A_WORKER * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Each port once in a run; another run on this machine begins elsewhere.
_PORTS = itertools.cycle(random.sample(range(FIRST_PORT, FIRST_PORT + PORTS_OF_A_WORKER), PORTS_OF_A_WORKER))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that no other worker of this run picks."""
    return list(itertools.islice(filter(_is_free, _PORTS), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def settings_on_free_ports(data_dir: Path, **changes) -> Settings:
    http, grpc, metrics, gateway = free_ports(4)
    settings = Settings(
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        gateway_port=gateway,
        data_dir=data_dir,
        model_repository=ROOT / "model_repository",
        backend_directory=ROOT / "python_backends",
        gateway_file=ROOT / "gateway.toml",
    )
    return dataclasses.replace(settings, **changes)


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give a child process these settings."""
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    return {**os.environ, **{f"TRIREME_{key.upper()}": str(v) for key, v in values.items() if v}}


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Returns once `condition` holds; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {seconds:.0f} s"
        time.sleep(0.1)


def start_server(repository: Path, folder: Path, **environ: str) -> TritonServer:
    """A tritonserver over `repository` on free ports; its log is in `folder`."""
    settings = settings_on_free_ports(folder)
    config = ServerConfig(
        host=settings.host,
        http_port=settings.http_port,
        grpc_port=settings.grpc_port,
        metrics_port=settings.metrics_port,
        model_repository=repository,
        backend_directory=settings.backend_directory,
        log_file=folder / "log",
    )
    return TritonServer(config, {**os.environ, **environ})


START_SECONDS = 180


class Serving:
    """One `trireme serve` in a process of its own; `output` is what it has printed."""

    def __init__(self, settings: Settings, *corpus: Path):
        self.settings = settings
        self.environ = environment_of(settings) | {"COLUMNS": "200"}
        self.log = settings.data_dir.parent / f"serve-{time.monotonic_ns()}.out"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "trireme.cli",
                    "serve",
                    *(["--corpus", *map(str, corpus)] if corpus else []),
                ],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self):
        return self.log.read_text()

    def wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while "Try in another terminal" not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.1)
        # The line is printed a moment before the commands below it.
        while "curl" not in self.output:
            time.sleep(0.05)

    def run(self, *arguments):
        return subprocess.run(
            [sys.executable, "-m", "trireme.cli", *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def interrupt(self):
        """Ctrl-C, and the processes that were alive before it."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, self.output
        return family

    def stop(self):
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
