"""Settings for servers of a test's own, and waiting for what they do."""

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import psutil

from fakes.ports import free_ports
from trireme.settings import Settings
from trireme.triton.server import ServerConfig, TritonServer

ROOT = Path(__file__).parents[2]
T = TypeVar("T")

# What `make serve` indexes.
SAMPLE_CORPUS = [
    ROOT / name for name in re.search(r"serve --corpus (.+)", (ROOT / "Makefile").read_text())[1].split()
]
QUESTIONS = tomllib.loads((ROOT / "defaults" / "questions.toml").read_text())["question"]


def write_sample(folder: Path) -> list[Path]:
    """What `make serve` indexes, less the pages that answer no question of defaults/questions.toml.

    Half of it, since a core without VNNI takes a minute for each 600 passages.
    """
    for page in {source for question in QUESTIONS for source in question["sources"]}:
        if (ROOT / "docs" / page).is_file():
            (folder / "docs" / page).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "docs" / page, folder / "docs" / page)
    return [folder / "docs" if path == ROOT / "docs" else path for path in SAMPLE_CORPUS]


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
        # Servers start dozens of times; those of start_server warm up, as for use.
        warm_up="off",
    )
    return dataclasses.replace(settings, **changes)


# A search and what indexes, without an LLM: half of what a start takes.
SEARCHING = ("embedding", "reranker", "retriever", "search", "search__retrieve", "search__sort", "ingest")


def link_models(folder: Path, models: Sequence[str] = SEARCHING) -> Path:
    """A new repository in `folder` that has these of the default models."""
    folder.mkdir(parents=True)
    for model in models:
        (folder / model).symlink_to(ROOT / "model_repository" / model)
    return folder


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give a child process these settings."""
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    return {**os.environ, **{f"TRIREME_{key.upper()}": str(v) for key, v in values.items() if v}}


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Returns once `condition` holds; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {seconds:.0f} s"
        time.sleep(0.1)


def try_until(scenario: Callable[[], T], told: str, times: int = 10) -> T:
    """What `scenario` returns, tried until that is true; fails the test with `told` after so many times.

    For a moment that nothing can wait for, such as a process that is killed amid its work.
    """
    for _ in range(times):
        if found := scenario():
            return found
    raise AssertionError(f"{told}, {times} times")


def has_ended(process: psutil.Process) -> bool:
    """Whether it runs no more, also where nobody has read its exit code yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


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


START_SECONDS = 480


class Serving:
    """One `trireme serve` in a process of its own; `output` is what it has printed."""

    def __init__(self, settings: Settings, *corpus: Path, options: Sequence[str] = ()):
        self.settings = settings
        self.environ = environment_of(settings) | {"COLUMNS": "200"}
        self.log = settings.data_dir.parent / f"serve-{time.monotonic_ns()}.out"
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "trireme.cli",
                "serve",
                *options,
                *(["--corpus", *map(str, corpus)] if corpus else []),
            ],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            # Into a file no admin's key is printed.
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.log.touch()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def _keep(self):
        with self.process.stdout as said, self.log.open("wb", buffering=0) as out:
            while part := said.read1():
                out.write(part)

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
        wait_until(lambda: "curl" in self.output)

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
        code = self.process.wait(120)
        # What outlives it may hold the pipe open.
        self._keeper.join(5)
        assert code == 0, self.output
        return family

    def stop(self):
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(120)
