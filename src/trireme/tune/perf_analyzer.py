"""Run NVIDIA's perf_analyzer, which the tritonclient wheel carries, and read what it measured."""

from __future__ import annotations

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from trireme.errors import NotFoundError, UnavailableError, UnsupportedError

WHEEL = "tritonclient==2.51.0"
# The names the binary asks for -> how the same libraries begin in nvidia_pytriton.libs.
LIBRARIES = {"libb64.so.0d": "libb64-", "libcudart.so.12": "libcudart-"}
ASYNC_THREADS = 2
WINDOWS = 3
# perf_analyzer stops after three windows when any spread between them counts as stable.
ANY_SPREAD_PERCENT = "1000000"
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PerfTool:
    """The perf_analyzer binary and the folder of libraries it needs beside the system's."""

    binary: Path
    libraries: Path


@dataclass(frozen=True, slots=True)
class PerfRun:
    """One run: `concurrency` requests in flight over gRPC, `input_data` as perf_analyzer's JSON.

    `shapes` are NAME:DIMS for inputs whose shape the model leaves open. It lasts three windows of `window_s`
    seconds, or, where `requests` is above 0, until so many are answered: perf_analyzer gives up on a window
    in which no request ends. `batch` rows a request. With a `request_rate`, requests arrive so often per second,
    as a Poisson process, whatever is in flight; `concurrency` is then the number of threads that send them.
    """

    model: str
    url: str
    concurrency: int
    input_data: Path
    window_s: float
    shapes: tuple[str, ...] = ()
    requests: int = 0
    batch: int = 1
    request_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class PerfFigures:
    """What the client saw: medians over `windows` windows of equal length; latencies in milliseconds.

    `client_cores` is the processor time of perf_analyzer per second of the run.
    """

    model: str
    concurrency: int
    requests: int
    windows: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    client_cores: float


def prepare_tool(data_dir: Path) -> PerfTool:
    """The binary from the installed tritonclient, or from its wheel, kept below `data_dir`.

    Blocks for a download where the installed wheel lacks the binary. Raises UnsupportedError when the
    binary does not start here.
    """
    home = data_dir.resolve() / "perf_analyzer"
    libraries = home / "lib"
    libraries.mkdir(parents=True, exist_ok=True)
    for soname, library in find_libraries(list_installed("nvidia-pytriton")).items():
        link = libraries / soname
        if link.is_symlink():
            link.unlink()
        link.symlink_to(library)
    tool = PerfTool(find_binary(list_installed("tritonclient")) or fetch_binary(home), libraries)
    probe = run_process([str(tool.binary), "--version"], tool.libraries, timeout_s=30)
    if probe.returncode != 0:
        raise UnsupportedError(f"perf_analyzer does not start here: {probe.stderr.strip()[-300:]}")
    return tool


def list_installed(distribution: str) -> list[Path]:
    """Absolute paths of an installed distribution's files; empty when it is not installed."""
    try:
        files = metadata.files(distribution)
    except metadata.PackageNotFoundError:
        return []
    return [Path(str(file.locate())).resolve() for file in files or []]


def find_binary(installed: Iterable[Path]) -> Path | None:
    """perf_analyzer among the files of tritonclient."""
    return next((path for path in installed if path.name == "perf_analyzer" and path.is_file()), None)


def find_libraries(installed: Iterable[Path]) -> dict[str, Path]:
    """Soname -> library, of those that nvidia-pytriton carries under longer names."""
    bundled = [path for path in installed if path.parent.name == "nvidia_pytriton.libs"]
    return {
        soname: path
        for soname, prefix in LIBRARIES.items()
        for path in bundled
        if path.name.startswith(prefix) and path.is_file()
    }


def fetch_binary(home: Path) -> Path:
    """perf_analyzer out of the manylinux wheel of tritonclient, downloaded once. Raises UnavailableError."""
    binary = home / "perf_analyzer"
    if binary.is_file():
        return binary
    with tempfile.TemporaryDirectory(dir=home) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command = [*pip, "--platform", "manylinux1_x86_64", "--dest", folder, WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            raise UnavailableError(f"cannot download {WHEEL} for perf_analyzer: {done.stderr.strip()[-300:]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            names = [name for name in wheel.namelist() if name.endswith("/perf_analyzer")]
            if not names:
                raise NotFoundError(f"{wheels[0].name} carries no perf_analyzer; this needs x86_64 Linux")
            unpacked = Path(wheel.extract(names[0], folder))
        unpacked.chmod(0o755)
        unpacked.replace(binary)
    return binary


def run_process(
    command: Sequence[str], libraries: Path, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run the binary with its library folder in front of the loader's path. Raises UnavailableError."""
    search_path = ":".join(filter(None, [str(libraries), os.environ.get("LD_LIBRARY_PATH", "")]))
    environ = {**os.environ, "LD_LIBRARY_PATH": search_path}
    try:
        return subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except OSError as error:
        raise UnavailableError(f"{command[0]} cannot be run: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(
            f"perf_analyzer took over {timeout_s:.0f} s; take shorter windows or less concurrency"
        ) from error


def build_command(tool: PerfTool, run: PerfRun, export: Path) -> list[str]:
    """The argument list of one run. No shell reads it."""
    command = [str(tool.binary), "-m", run.model, "-u", run.url, "-i", "grpc"]
    if run.request_rate:
        command += ["--max-threads", str(run.concurrency)]
        command += ["--request-rate-range", f"{run.request_rate:.3f}", "--request-distribution", "poisson"]
    else:
        command += ["--concurrency-range", str(run.concurrency)]
    if run.concurrency > 1 and not run.request_rate:
        # A thread for each request in flight takes processor time from a server on the same cores.
        command += ["--async", "--max-threads", str(ASYNC_THREADS)]
    if run.batch > 1:
        command += ["-b", str(run.batch)]
    command += ["--input-data", str(run.input_data), "--profile-export-file", str(export)]
    if run.requests:
        command += ["--request-count", str(run.requests)]
    else:
        command += ["--measurement-interval", str(round(run.window_s * 1000))]
        command += ["--max-trials", str(WINDOWS), "--stability-percentage", ANY_SPREAD_PERCENT]
    for shape in run.shapes:
        command += ["--shape", shape]
    return command


def measure(tool: PerfTool, run: PerfRun, timeout_s: float = 180) -> PerfFigures:
    """Run perf_analyzer once. Blocks; raises UnavailableError with its last words when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        export = Path(folder) / "export.json"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run_process(build_command(tool, run, export), tool.libraries, timeout_s)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if not export.is_file():
            words = (done.stderr.strip() or done.stdout.strip())[-500:]
            raise UnavailableError(f"perf_analyzer on {run.model} failed: {words}")
        processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return read_export(load_export(export), run.model, processor_s)


def load_export(path: Path) -> dict[str, Any]:
    """The JSON of an export. It holds the bytes of integer outputs as if they were text."""
    document: dict[str, Any] = json.loads(path.read_bytes().decode("utf-8", errors="replace"))
    return document


def read_export(export: dict[str, Any], model: str, processor_s: float = 0.0) -> PerfFigures:
    """Figures of a --profile-export-file of one experiment.

    The first wave of requests fills the server's queue and is left out. The time from its last answer until
    no request follows is cut into three windows of equal length: what is sent last runs in less and less
    company. Where there are fewer than three waves to measure, the window is one, to the last answer. Where
    requests arrive at a rate, only the first answer is left out, and the window is one: the tail of the
    latencies is what is asked for.
    Raises UnavailableError when no request is left.
    """
    experiment = export["experiments"][0]
    has_rate = experiment["experiment"].get("mode") == "request_rate"
    concurrency = 1 if has_rate else int(experiment["experiment"]["value"])
    spans = sorted((r["response_timestamps"][-1], r["timestamp"]) for r in experiment["requests"])
    started, measured = spans[:concurrency][-1][0] if spans else 0, spans[concurrency:]
    if not measured or measured[-1][0] == started:
        raise UnavailableError(
            f"{model}: {len(spans)} answers at concurrency {concurrency}; widen the window"
        )
    has_windows = not has_rate and len(measured) >= WINDOWS * concurrency
    if has_windows:
        last_sent = max(sent for _, sent in spans)
        measured = [span for span in measured if span[0] <= last_sent] or measured
    windows = _cut(measured, started, WINDOWS if has_windows else 1)
    window_s = (measured[-1][0] - started) / NANOSECONDS / len(windows)
    bounds = experiment["window_boundaries"]
    return PerfFigures(
        model=model,
        concurrency=concurrency,
        requests=len(measured),
        windows=len(windows),
        requests_per_s=statistics.median(len(window) for window in windows) / window_s,
        p50_ms=statistics.median(compute_percentile(window, 50) for window in windows if window),
        p95_ms=statistics.median(compute_percentile(window, 95) for window in windows if window),
        p99_ms=statistics.median(compute_percentile(window, 99) for window in windows if window),
        client_cores=processor_s * NANOSECONDS / (bounds[-1] - bounds[0]),
    )


def _cut(spans: Sequence[tuple[int, int]], started: int, count: int) -> list[list[float]]:
    """Latencies in milliseconds of the requests answered in each of `count` windows."""
    windows: list[list[float]] = [[] for _ in range(count)]
    length = (spans[-1][0] - started) / count
    for answered, sent in spans:
        position = min(int((answered - started) / length), count - 1)
        windows[position].append((answered - sent) / 1e6)
    return windows


def compute_percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed (nearest rank)."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]
