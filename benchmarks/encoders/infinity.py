"""Infinity's server as a contender of the benchmark."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.common.processes import end_session, signal_group, wait_for_page
from benchmarks.encoders.contenders import (
    JOB_S,
    Load,
    ServedContender,
    Steps,
    Task,
    quiet_environment,
)
from benchmarks.encoders.http_load import HttpLoad, drive
from trireme.errors import UnavailableError
from trireme.machine import pick_ports
from trireme.tune.perf_analyzer import PerfFigures, read_export
from trireme.types import FloatArray

HOST = "127.0.0.1"
START_S = 120.0


class InfinityContender(ServedContender):
    """Infinity's own server with an embedder and a reranker, over its HTTP API."""

    def __init__(
        self,
        name: str,
        what: str,
        *,
        environment: Path,
        engine: str,
        models: Mapping[str, Path],
        work: Path,
        versions: Mapping[str, str],
    ) -> None:
        """models: what the API calls them -> folders; "ranker" takes the tasks with passages, "embedder" others."""
        super().__init__(name, what)
        self._binary, self._engine, self._models = environment / "bin" / "infinity_emb", engine, models
        self._work, self._versions = work, versions
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> dict[str, str]:
        if not self._binary.is_file():
            raise UnavailableError(f"its environment is not set up ({self._binary.parents[1].name})")
        [port] = pick_ports(HOST, 1)
        self._url = f"http://{HOST}:{port}"
        command = [str(self._binary), "v2", "--host", HOST, "--port", str(port), "--log-level", "warning"]
        for called, folder in self._models.items():
            command += ["--model-id", str(folder), "--served-model-name", called, "--engine", self._engine]
            # Left to itself its optimum engine takes the first token's vector, whatever the checkpoint says.
            command += ["--device", "cpu", "--no-model-warmup", "--pooling-method", "mean"]
        log = self._work / f"infinity-{self._engine}.log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**quiet_environment(self._work), "INFINITY_HOME": str(self._work / "infinity")},
                start_new_session=True,
            )
        if wait_for_page(f"{self._url}/health", self._process, START_S):
            return dict(self._versions)
        self.stop()
        lines = [line for line in log.read_text(errors="replace").splitlines() if "Error" in line]
        raise UnavailableError(f"infinity_emb did not start: {(lines or ['no word'])[-1].strip()[:300]}")

    def find_session(self) -> int:
        if self._process is None:
            raise UnavailableError(f"{self.name} is not running")
        return self._process.pid

    def send(self, task: Task, load: Load, requests: int, seconds: float) -> tuple[PerfFigures, Steps]:
        document = json.loads(task.file.read_text(encoding="utf-8"))
        http = HttpLoad(
            url=self._url,
            model="ranker" if task.texts_per_item > 1 else "embedder",
            items=document.get("texts") or document["queries"],
            concurrency=load.in_flight,
            requests=requests,
            batch=load.batch,
        )
        began = time.process_time()
        export = drive(http, JOB_S)
        return read_export(export, self.name, time.process_time() - began), ()

    def embed(self, texts: Sequence[str]) -> FloatArray:
        body = json.dumps({"model": "embedder", "input": list(texts)}).encode()
        request = urllib.request.Request(
            f"{self._url}/embeddings", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=JOB_S) as response:
                rows = json.load(response)["data"]
        except (urllib.error.URLError, OSError, KeyError) as error:
            raise UnavailableError(f"{self.name} embeds nothing: {error}") from error
        return np.array([row["embedding"] for row in rows], np.float32)

    def pause(self, paused: bool) -> None:
        """Its threads look for work all the time: they are stopped and continued."""
        if self._process is not None:
            signal_group(self._process, signal.SIGSTOP if paused else signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            end_session(self._process)
            self._process = None
