"""Settings for servers of a test's own, and waiting for what they do."""

import dataclasses
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from trireme.settings import Settings
from trireme.triton.server import ServerConfig, TritonServer

ROOT = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held at once, so they differ."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def settings_on_free_ports(data_dir: Path, **changes) -> Settings:
    http, grpc, metrics = free_ports(3)
    settings = Settings(
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        data_dir=data_dir,
        model_repository=ROOT / "model_repository",
        backend_directory=ROOT / "python_backends",
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
