"""What the benchmark measures, behind one port: Triton models and libraries in process; infinity.py has its own."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.common.processes import JsonProcess, read_session_time
from benchmarks.common.report import PROJECT, show_progress_note
from benchmarks.common.server_load import StepLoad, compare_counts, read_counts
from trireme.errors import UnavailableError
from trireme.triton.client import TritonClient
from trireme.triton.metrics import read_metrics
from trireme.tune.perf_analyzer import PerfFigures, PerfRun, PerfTool, compute_percentile
from trireme.tune.perf_analyzer import measure as run_perf_analyzer
from trireme.types import FloatArray

Steps = tuple[StepLoad, ...]

WORKER = "benchmarks.rivals.worker"
# A probe of so many requests beyond one wave tells how many make a run of the wanted length.
PROBE_REQUESTS = 4
# Of one job of a worker or of one load: the export of a file, or the ingestion of some hundred documents.
JOB_S = 600.0
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Task:
    """Inputs of one kind. `file` is read by workers and the HTTP load, `perf_files` by perf_analyzer, per model.

    `texts_per_item`: 1, or the passages of a query. `shapes`: NAME:DIMS that perf_analyzer needs, per model.
    `tokens`: of each text, where they are known.
    """

    name: str
    file: Path
    perf_files: Mapping[str, Path]
    shapes: Mapping[str, tuple[str, ...]]
    texts_per_item: int = 1
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """`in_flight` requests of `batch` items each, sent anew when answered; with a `rate`, at random times.

    In process one call holds `batch` items and there is one in flight. `rate` is in requests per second.
    """

    in_flight: int = 1
    batch: int = 1
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. `texts` are passages for a reranker; latencies are of requests, in milliseconds.

    `cpu_ms_per_text`: processor time of the server or process alone. `tokens_per_s` 0 where tokens are not known.
    """

    requests: int
    texts_per_s: float
    tokens_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_ms_per_text: float
    steps: Steps = ()


class Contender(Protocol):
    """Something that embeds or reranks. `start` and `measure` block and raise UnavailableError."""

    name: str
    what: str

    def start(self) -> dict[str, str]:
        """Makes it ready for `measure`; returns the versions of what does the work."""

    def measure(self, task: Task, load: Load, seconds: float) -> Sample:
        """One run of about `seconds`, after a short one where this load is new to it."""

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """[texts, dimensions], to be compared with others'. A reranker raises UnavailableError."""

    def pause(self, paused: bool) -> None:
        """Keeps it from using the processor while another one is measured, and lets it go on."""

    def stop(self) -> None:
        """Ends whatever it started. Safe to call twice."""


class Pace:
    """How many requests make a run of the wanted length, learned from the runs before."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, Load], float] = {}

    def is_known(self, task: Task, load: Load) -> bool:
        return (task.name, load) in self._rates

    def learn(self, task: Task, load: Load, requests_per_s: float) -> None:
        self._rates[task.name, load] = requests_per_s

    def choose(self, task: Task, load: Load, seconds: float) -> int:
        """The first wave fills the queue and does not count; two more are measured at least."""
        rate = load.rate or self._rates.get((task.name, load), 0.0)
        return max(round(rate * seconds), 2 * load.in_flight, PROBE_REQUESTS) + load.in_flight


def _mean_tokens(task: Task, items: int) -> float:
    """Of the first `items` texts, which every run sends."""
    if not task.tokens:
        return 0.0
    full, rest = divmod(items, len(task.tokens))
    return (full * sum(task.tokens) + sum(task.tokens[:rest])) / max(items, 1)


class ServedContender(ABC):
    """A server in a session of its own that is sent requests."""

    def __init__(self, name: str, what: str) -> None:
        self.name, self.what, self._pace = name, what, Pace()

    @abstractmethod
    def find_session(self) -> int:
        """Process id of the session's leader. Raises UnavailableError where it does not run."""

    @abstractmethod
    def send(self, task: Task, load: Load, requests: int, seconds: float) -> tuple[PerfFigures, Steps]:
        """Sends so many requests, in about so many seconds. Blocks; raises UnavailableError."""

    def measure(self, task: Task, load: Load, seconds: float) -> Sample:
        """One run of about `seconds`, after a short one where this load is new to it."""
        if not load.rate and not self._pace.is_known(task, load):
            self._run(task, load, 0.0)
        return self._run(task, load, seconds)

    def _run(self, task: Task, load: Load, seconds: float) -> Sample:
        session, requests = self.find_session(), self._pace.choose(task, load, seconds)
        busy = read_session_time(session)
        figures, steps = self.send(task, load, requests, seconds)
        cpu_s = read_session_time(session) - busy
        self._pace.learn(task, load, figures.requests_per_s)
        per_request = load.batch * task.texts_per_item
        rate = figures.requests_per_s * per_request
        return Sample(
            requests=figures.requests,
            texts_per_s=rate,
            tokens_per_s=rate * _mean_tokens(task, requests * load.batch),
            p50_ms=figures.p50_ms,
            p95_ms=figures.p95_ms,
            p99_ms=figures.p99_ms,
            cpu_ms_per_text=cpu_s * 1000 / max(requests * per_request, 1),
            steps=steps,
        )


class TritonContender(ServedContender):
    """A model of a running tritonserver, driven by perf_analyzer over gRPC."""

    def __init__(self, name: str, what: str, model: str, server: ServerAddress, tool: PerfTool) -> None:
        super().__init__(name, what)
        self.model, self._server, self._tool = model, server, tool

    def start(self) -> dict[str, str]:
        return dict(self._server.versions)

    def find_session(self) -> int:
        return self._server.pid

    def send(self, task: Task, load: Load, requests: int, seconds: float) -> tuple[PerfFigures, Steps]:
        run = PerfRun(
            model=self.model,
            url=self._server.grpc_url,
            concurrency=load.in_flight,
            input_data=task.perf_files[self.model],
            window_s=0.0,
            shapes=task.shapes.get(self.model, ()),
            requests=requests,
            batch=load.batch,
            request_rate=load.rate,
        )
        before = self._count()
        figures = self._run_patiently(run, PATIENCE_S + 10 * seconds)
        return figures, compare_counts(before, self._count())

    def _run_patiently(self, run: PerfRun, timeout_s: float) -> PerfFigures:
        # perf_analyzer 2.51 at times waits for ever with a --request-count, while the server is idle.
        try:
            return run_perf_analyzer(self._tool, run, timeout_s=timeout_s)
        except UnavailableError as error:
            show_progress_note(f"once more: {error}")
            return run_perf_analyzer(self._tool, run, timeout_s=timeout_s)

    def _count(self) -> dict[str, dict[str, float]]:
        return read_counts(read_metrics(self._server.host, self._server.metrics_port))

    def embed(self, texts: Sequence[str]) -> FloatArray:
        with TritonClient(self._server.grpc_url, timeout=JOB_S) as client:
            parts = [
                client.infer(self.model, {"text": [[text] for text in texts[start : start + 8]]})["embedding"]
                for start in range(0, len(texts), 8)
            ]
        return np.concatenate(parts)

    def pause(self, paused: bool) -> None:
        """Its server may serve other contenders too, and does nothing while nobody asks."""

    def stop(self) -> None:
        """The server is not ours to end."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A running tritonserver: its process, where it listens, and the versions of what it runs."""

    pid: int
    host: str
    grpc_url: str
    metrics_port: int
    versions: Mapping[str, str]


def quiet_environment(work: Path) -> dict[str, str]:
    """Of a rival: no hub, no telemetry, caches of its own."""
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HOME": str(work / "hub"),
        "DO_NOT_TRACK": "1",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OPENVINO_TELEMETRY_DISABLE": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }


class WorkerContender:
    """A library in a process of its own environment, spoken to over its standard streams."""

    def __init__(
        self, name: str, what: str, *, python: Path, engine: str, model: Path, work: Path, threads: int
    ) -> None:
        self.name, self.what = name, what
        self._python, self._work = python, work
        self._load = {"engine": engine, "model": str(model), "work": str(work), "threads": threads}
        self._process: JsonProcess | None = None
        self._warm: set[tuple[str, Load]] = set()

    def start(self) -> dict[str, str]:
        if not self._python.is_file():
            raise UnavailableError(f"its environment is not set up ({self._python.parents[1].name})")
        log = self._work / f"{self.name.replace(' ', '-').replace('/', '-')}.log"
        log.unlink(missing_ok=True)
        command = [str(self._python), "-m", WORKER]
        self._process = JsonProcess(self.name, command, log, quiet_environment(self._work), PROJECT)
        versions: dict[str, str] = self.ask(do="load", **self._load)["versions"]
        return versions

    def is_exported(self) -> bool:
        """Whether its library has written its file from the checkpoint, where it needs one."""
        library, _, variant = str(self._load["engine"]).partition("/")
        variant = variant.removesuffix("-pairs")
        if library != "sentence-transformers" or variant.startswith("torch"):
            return True
        folder = self._work / f"{Path(str(self._load['model'])).name}-{variant}"
        return (folder / ".done").is_file()

    def ask(self, **job: Any) -> dict[str, Any]:
        """The worker's answer to one job. Raises UnavailableError with the library's own error."""
        if self._process is None or not self._process.is_running():
            raise UnavailableError(f"{self.name} is not running")
        return self._process.ask(job, JOB_S)

    def measure(self, task: Task, load: Load, seconds: float) -> Sample:
        job = {
            "do": "rerank" if task.texts_per_item > 1 else "embed",
            "file": str(task.file),
            "call": load.batch,
        }
        if (task.name, load) not in self._warm:
            self.ask(**job, seconds=0.2, count=min(load.batch, 64))
            self._warm.add((task.name, load))
        done = self.ask(**job, seconds=seconds)
        calls, rate = done["calls_s"], done["texts"] / done["seconds"]
        p50, p95, p99 = (compute_percentile(calls, percent) * 1000 for percent in (50, 95, 99))
        return Sample(
            requests=len(calls),
            texts_per_s=rate,
            tokens_per_s=rate * _mean_tokens(task, done["texts"] // task.texts_per_item),
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            cpu_ms_per_text=done["cpu_s"] * 1000 / max(done["texts"], 1),
        )

    def embed(self, texts: Sequence[str]) -> FloatArray:
        with tempfile.TemporaryDirectory() as folder:
            file, out = Path(folder) / "texts.json", Path(folder) / "vectors.npy"
            file.write_text(json.dumps({"texts": list(texts)}), encoding="utf-8")
            self.ask(do="vectors", file=str(file), out=str(out))
            vectors: FloatArray = np.load(out)
        return vectors

    def pause(self, paused: bool) -> None:
        """It waits for a line and uses no processor."""

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None


def summarize(samples: Sequence[Sample]) -> Sample:
    """Medians of the numbers of some runs of one load; the steps are those of the run in the middle."""
    middle = sorted(samples, key=lambda sample: sample.texts_per_s)[len(samples) // 2]
    names = ("texts_per_s", "tokens_per_s", "p50_ms", "p95_ms", "p99_ms", "cpu_ms_per_text")
    medians = {name: statistics.median(getattr(sample, name) for sample in samples) for name in names}
    return replace(middle, requests=sum(sample.requests for sample in samples), **medians)
