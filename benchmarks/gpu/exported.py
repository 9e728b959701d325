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
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from run import VLLM

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
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
    log = arguments.work / "server.log"
    began = time.monotonic()
    server = start(arguments, log)
    try:
        wait_until_ready(server, log, arguments.start_seconds)
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
    command = [
        sys.executable,
        str(ROOT / "build" / "export_llm.py"),
        str(arguments.checkpoint),
        "--name",
        MODEL,
    ]
    command += ["--target", "gpu", "--max-model-len", arguments.max_model_len]
    command += ["--repository", str(arguments.work / "repository")]
    (arguments.work / "repository").mkdir()
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    config = (arguments.work / "repository" / MODEL / "config.pbtxt").read_text()
    files = (arguments.work / "repository" / MODEL / "1").iterdir()
    return {
        "export_s": round(seconds, 1),
        "export_memory_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6),
        "bytes": sum(path.stat().st_size for path in files),
        "said": done.stdout.strip().splitlines(),
        "instance_group": [" ".join(one.split()) for one in re.findall(r"instance_group \{[^}]*\}", config)],
    }


def start(arguments: argparse.Namespace, log: Path) -> subprocess.Popen[bytes]:
    backends = arguments.work / "backends"
    shutil.copytree(arguments.triton / "triton" / "backends" / "python", backends / "python")
    shutil.copytree(ROOT / "python_backends" / "generator", backends / "generator")
    script = f'. {arguments.triton}/triton/env.sh && TS_EXEC=1 && tritonserver_ "$@"'
    http, grpc, metrics = map(str, PORTS)
    command = ["bash", "-c", script, "tritonserver", "--backend-directory", str(backends)]
    command += ["--model-repository", str(arguments.work / "repository"), "--disable-auto-complete-config"]
    command += ["--http-port", http, "--grpc-port", grpc, "--metrics-port", metrics]
    command += ["--exit-timeout-secs", "10"]
    with log.open("wb") as stream:
        return subprocess.Popen(
            command,
            env={**os.environ, **VLLM, "T_PP": f"{arguments.site}:{ROOT / 'src'}"},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_until_ready(server: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORTS[0]}/v2/health/ready", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit(f"not ready: {log.read_text(errors='replace')[-2500:]}")


def read_state() -> dict[str, Any]:
    """The instance group as the server has it, and the model's readiness gauge."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORTS[0]}/v2/models/{MODEL}/config", timeout=5) as page:
        group = json.loads(page.read())["instance_group"]
    with urllib.request.urlopen(f"http://127.0.0.1:{PORTS[2]}/metrics", timeout=5) as page:
        metrics = page.read().decode()
    with urllib.request.urlopen(f"http://127.0.0.1:{PORTS[0]}/v2", timeout=5) as page:
        version = json.loads(page.read())["version"]
    ready = re.findall(r"^trireme_model_ready\{.*\} (\S+)$", metrics, re.MULTILINE)
    return {"server": version, "served_instance_group": group, "model_ready": ready}


def ask(arguments: argparse.Namespace) -> dict[str, Any]:
    """A streamed and a whole answer through the project's own client."""
    sys.path[:0] = [str(ROOT / "src"), str(arguments.triton / "triton" / "pyclient")]
    from trireme.triton.client import TritonClient

    with TritonClient(f"127.0.0.1:{PORTS[1]}", timeout=60) as client:
        answers = []
        for stream in (True, False):
            sampling = {"max_tokens": 24, "temperature": 0.0, "ignore_eos": True}
            parts = list(
                client.generate("The city lies on the", sampling=sampling, stream=stream, model=MODEL)
            )
            last = parts[-1]
            answers.append(
                {
                    "stream": stream,
                    "parts": len(parts),
                    "text": "".join(part.text for part in parts),
                    "finish_reason": last.finish_reason,
                    "tokens": [last.input_tokens, last.output_tokens],
                }
            )
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
