"""A database and a server of a benchmark's own, on free ports, with a data folder that goes away."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common.report import show_progress_note
from trireme.machine import pick_ports
from trireme.settings import Settings, read_settings
from trireme.stack import Stack
from trireme.triton.server import ServerConfig, TritonServer


def make_settings(data_dir: Path, model_repository: Path | None = None) -> Settings:
    """The environment's settings with free ports, `data_dir`, the embedded database and no response cache."""
    settings = read_settings()
    http, grpc, metrics = pick_ports(settings.host, 3)
    return dataclasses.replace(
        settings,
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        data_dir=data_dir,
        database_url="",
        response_cache_bytes=0,
        model_repository=model_repository or settings.model_repository,
    )


@contextmanager
def start_own_stack() -> Iterator[tuple[Settings, str]]:
    """Settings and database URL of a stack of our own, ended on leaving. Raises TriremeError."""
    with tempfile.TemporaryDirectory(prefix="trireme-") as folder:
        settings = make_settings(Path(folder))
        show_progress_note("Starting PostgreSQL and tritonserver on free ports")
        with Stack(settings) as stack:
            yield settings, stack.database_url


@contextmanager
def start_server(repository: Path) -> Iterator[TritonServer]:
    """tritonserver alone over a model repository, on free ports, its log beside it. Raises TriremeError."""
    settings = read_settings()
    http, grpc, metrics = pick_ports(settings.host, 3)
    config = ServerConfig(
        host=settings.host,
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        model_repository=repository,
        backend_directory=settings.backend_directory,
        log_file=repository.with_name("tritonserver.log"),
    )
    with TritonServer(config, {**os.environ, "HF_HUB_OFFLINE": "1"}) as server:
        server.wait_until_ready()
        yield server
