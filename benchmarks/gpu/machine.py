"""What the scripts on the GPU machine share: notes, processes with logs, tritonserver."""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.processes import make_flags
from benchmarks.common.report import PROJECT

SOURCE = PROJECT / "src"
PROMPT_TOKENS, OUTPUT_TOKENS = 128, 128
# Of an engine: the longest sequence, and the tokens of one step.
MODEL_LENGTH, BATCHED_TOKENS = 2048, 8192
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
    # Neither is in the packed vLLM.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_USE_DEEP_GEMM": "0",
    "PYTHONUNBUFFERED": "1",
}


class Notes:
    """Lines of JSON in a file, each with the seconds since it was opened."""

    def __init__(self, path: Path) -> None:
        self._path, self._began = path, time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def write(self, **what: Any) -> None:
        line = json.dumps({"at": round(self.seconds(), 1), **what})
        print(line[:900], flush=True)
        with self._path.open("a") as results:
            results.write(line + "\n")


def start(command: Sequence[str], log: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process in a session of its own, quiet libraries around it, what it says behind what `log` holds."""
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, **QUIET, **environ},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def start_triton(
    triton: Path, repository: Path, ports: Sequence[int], log: Path, path: str, *options: str, **environ: str
) -> subprocess.Popen[bytes]:
    """tritonserver of the folder `triton`. `ports`: HTTP, gRPC, metrics. `path`: for `sys.path` in the stub."""
    http, grpc, metrics = ports
    flags = make_flags(model_repository=repository, http_port=http, grpc_port=grpc, metrics_port=metrics)
    flags += ["--disable-auto-complete-config", "--exit-timeout-secs", "10", *options]
    script = f'. {triton}/triton/env.sh && TS_EXEC=1 && tritonserver_ "$@"'
    return start(["/bin/bash", "-c", script, "tritonserver", *flags], log, {"T_PP": path, **environ})


def ready_page(port: int) -> str:
    """Where a server on `port` says that it is ready."""
    return f"http://127.0.0.1:{port}/v2/health/ready"


def read_end(log: Path, characters: int = 1500) -> str:
    return log.read_text(errors="replace")[-characters:]


def read_results(log: Path) -> list[dict[str, Any]]:
    """What follows RESULT at the beginning of a line."""
    lines = log.read_text(errors="replace").splitlines()
    return [json.loads(line[7:]) for line in lines if line.startswith("RESULT ")]
