"""The way that users take: build/export_llm.py --target gpu, then tritonserver over that folder, then a client.

Nothing of the benchmarks' own is in between: recipe and config.pbtxt (instance kind KIND_GPU) are what the script
wrote, the backend is python_backends/generator, the memory share is the recipe's. Prints lines, RESULT {json}; the
last one has everything.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.common.processes import make_flags, wait_for_page
from benchmarks.common.report import PROJECT
from benchmarks.gpu.machine import SOURCE, read_end, ready_page, start_triton
from trireme.observe import metrics as table

MODEL = "exported"
PORTS = (17000, 17001, 17002)
# Lines of the server's log that say where the model runs and what it takes.
SHOWN = re.compile(
    r"GPU device|CPU device|GPU KV cache|Maximum concurrency|Model loading took|failed|error", re.I
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--triton", type=Path, required=True, help="see run.py")
    parser.add_argument("--site", type=Path, required=True, help="see run.py")
    parser.add_argument("--max-model-len", default="2048")
    parser.add_argument("--step", choices=("export", "serve"), help="only one of the two, in the same --work")
    parser.add_argument("--start-seconds", type=float, default=180)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    exported = arguments.work / "exported.json"
    if arguments.step != "serve":
        exported.write_text(json.dumps({"checkpoint": arguments.checkpoint.name, **export(arguments)}))
        print("RESULT", exported.read_text(), flush=True)
    if arguments.step == "export":
        return
    result: dict[str, Any] = json.loads(exported.read_text())
    log, backends = arguments.work / "server.log", arguments.work / "backends"
    log.unlink(missing_ok=True)
    shutil.copytree(arguments.triton / "triton" / "backends" / "python", backends / "python")
    shutil.copytree(PROJECT / "python_backends" / "generator", backends / "generator")
    began, path = time.monotonic(), f"{arguments.site}:{SOURCE}"
    folder = "--backend-directory", str(backends)
    server = start_triton(arguments.triton, arguments.work / "repository", PORTS, log, path, *folder)
    try:
        if not wait_for_page(ready_page(PORTS[0]), server, arguments.start_seconds):
            raise SystemExit(f"not ready: {read_end(log, 2500)}")
        result["ready_after_s"] = round(time.monotonic() - began, 1)
        result |= read_state()
        result |= ask(arguments)
    finally:
        result["stopped"] = stop(server)
        lines = log.read_text(errors="replace").splitlines()
        result["log"] = [line[-200:] for line in lines if SHOWN.search(line)][-20:]
        print("RESULT", json.dumps(result), flush=True)


def export(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory of the script, the size of the checkpoint, and the instance group that it wrote."""
    repository = arguments.work / "repository"
    command = [sys.executable, str(PROJECT / "build" / "export_llm.py"), str(arguments.checkpoint)]
    command += make_flags(
        name=MODEL, target="gpu", max_model_len=arguments.max_model_len, repository=repository
    )
    repository.mkdir()
    began = time.monotonic()
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    config = (repository / MODEL / "config.pbtxt").read_text()
    return {
        "export_s": round(seconds, 1),
        "export_memory_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6),
        "bytes": sum(path.stat().st_size for path in (repository / MODEL / "1").iterdir()),
        "said": done.stdout.strip().splitlines(),
        "instance_group": [" ".join(one.split()) for one in re.findall(r"instance_group \{[^}]*\}", config)],
    }


def read_state() -> dict[str, Any]:
    """The instance group as the server has it, and the model's readiness gauge."""

    def read(port: int, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as page:
            return str(page.read().decode())

    ready = rf"^{table.READY.name}\{{.*\}} (\S+)$"
    return {
        "server": json.loads(read(PORTS[0], "v2"))["version"],
        "served_instance_group": json.loads(read(PORTS[0], f"v2/models/{MODEL}/config"))["instance_group"],
        "model_ready": re.findall(ready, read(PORTS[2], "metrics"), re.MULTILINE),
    }


def ask(arguments: argparse.Namespace) -> dict[str, Any]:
    """A streamed and a whole answer through the project's own client."""
    sys.path.insert(0, str(arguments.triton / "triton" / "pyclient"))
    from trireme.triton.client import TritonClient

    sampling = {"max_tokens": 24, "temperature": 0.0, "ignore_eos": True}
    answers = []
    with TritonClient(f"127.0.0.1:{PORTS[1]}", timeout=60) as client:
        for stream in (True, False):
            asked = client.generate("The city lies on the", sampling=sampling, stream=stream, model=MODEL)
            parts = list(asked)
            said = {"stream": stream, "parts": len(parts), "text": "".join(part.text for part in parts)}
            last = parts[-1]
            tokens = [last.input_tokens, last.output_tokens]
            answers.append({**said, "finish_reason": last.finish_reason, "tokens": tokens})
    return {"answers": answers, "answers_agree": answers[0]["text"] == answers[1]["text"]}


def stop(server: subprocess.Popen[bytes]) -> str:
    """How the server ended after SIGTERM, and whether anything of it was left."""
    server.terminate()
    try:
        code = server.wait(timeout=30)
    except subprocess.TimeoutExpired:
        code = -1
    try:
        os.killpg(server.pid, signal.SIGKILL)
        left = "something was left"
    except ProcessLookupError:
        left = "nothing was left"
    return f"exit status {code}, {left}"


if __name__ == "__main__":
    main()
