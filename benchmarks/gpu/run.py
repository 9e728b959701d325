"""On the GPU machine: per checkpoint vLLM alone, then the same prompts through tritonserver.

All engines are started at the same time, each with a KV cache of a fixed size, and stay; they are measured one
after the other, while the others are idle. Every result is a line of results.jsonl in --work, every process has a
log there; one that fails does not end the run. A name that begins with default- says that the checkpoint is the
default LLM or made of it. README.md beside this file has the steps around it.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from processor_seconds import read_processor_seconds
from prompts import OUTPUT_TOKENS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VLLM = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
    # Neither is in the packed vLLM.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_USE_DEEP_GEMM": "0",
    "PYTHONUNBUFFERED": "1",
}
KV_CACHE_GIB = {"default": "1", "8b": "4"}
# vLLM only asks for so much to be free when the size of the cache is given.
MEMORY_SHARE = "0.03"
SHAPES = {"default": "defaults/llm", "8b": "llama-3-8b-shape"}
# The tests of the engine's contract; each that is left out of SHARED starts an engine of its own.
CONTRACT = "vllm"
SHARED = (
    "vllm and not eos_ends and not full_queue and not waiting_request and not close_cancels and not prefix"
)


class Run:
    """Where things are, and what was found."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.work: Path = arguments.work
        self.site, self.triton = arguments.site, arguments.triton
        self.whole: list[str] = arguments.whole
        self.server_path = f"{self.site}:{ROOT / 'src'}"
        self.load = ("--streams", arguments.streams, "--rounds", arguments.rounds)
        # Warm-up and three repetitions.
        self.tokens = int(arguments.streams) * (1 + 3 * int(arguments.rounds)) * OUTPUT_TOKENS
        self.deadline = time.monotonic() + arguments.seconds
        self.measure_seconds: float = arguments.measure_seconds
        self.work.mkdir(parents=True, exist_ok=True)
        self.began = time.monotonic()
        self.processes: list[subprocess.Popen[bytes]] = []

    def note(self, **what: Any) -> None:
        line = json.dumps({"at": round(time.monotonic() - self.began, 1), **what})
        print(line, flush=True)
        with (self.work / "results.jsonl").open("a") as results:
            results.write(line + "\n")

    def has_time(self, seconds: float) -> bool:
        return time.monotonic() + seconds < self.deadline

    def start(self, name: str, command: list[str], **environ: str) -> subprocess.Popen[bytes]:
        paths = f"{self.site}:{ROOT / 'src'}:{environ.pop('EXTRA_PATH', '')}"
        with (self.work / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, **VLLM, "PYTHONPATH": paths, **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def python(self, name: str, script: str, *options: str, **environ: str) -> subprocess.Popen[bytes]:
        return self.start(name, [sys.executable, str(HERE / script), *options], **environ)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the process and all that it started; wait until they are gone, and their memory with them."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(1.0)

    def collect(self, name: str, process: subprocess.Popen[bytes], tokens: int = 0) -> bool:
        """Wait for a process; note its RESULT lines. False, with the log's end, where it failed or was too slow.

        `tokens`: what it has to make. One that is ended before says with them what its speed is below.
        """
        try:
            code = process.wait(timeout=self.measure_seconds)
            late = {}
        except subprocess.TimeoutExpired:
            # What still computes would disturb the next one.
            self.end(process)
            code = -1
            late = {"seconds": self.measure_seconds, **({"tokens": tokens} if tokens else {})}
        text = (self.work / f"{name}.log").read_text(errors="replace")
        results = [json.loads(line[7:]) for line in text.splitlines() if line.startswith("RESULT ")]
        for result in results:
            self.note(name=name, **result)
        # One that had its result and was only slow to leave has not failed.
        was_measured = bool(results) and (code == 0 or bool(late))
        if not was_measured:
            self.note(name=name, **late, failed=code, log=text[-1500:])
        return was_measured

    def kv_cache_gib(self, name: str) -> str:
        return KV_CACHE_GIB[shape_of(name)]

    def weights_gib(self, name: str) -> float | None:
        for line in (self.work / f"{name}.log").read_text(errors="replace").splitlines():
            if "Model loading took" in line:
                return float(line.split("Model loading took")[1].split()[0])
        return None


class Server:
    """One tritonserver with one generator."""

    def __init__(self, run: Run, name: str, checkpoint: Path, number: int) -> None:
        """Starts it and returns at once."""
        self.run, self.name, self.checkpoint, self.model = run, f"triton-{name}", checkpoint, name
        self.ports = [18000 + 10 * number + n for n in range(3)]
        repository = run.work / f"repository-{name}"
        options = ["--repository", str(repository), *run.load[:2], "--gpu-memory-utilization", MEMORY_SHARE]
        written = run.python(f"repository-{name}", "repository.py", f"{name}={checkpoint}", *options)
        if written.wait(timeout=120) != 0:
            raise RuntimeError(f"no repository for {name}")
        http, grpc, metrics = map(str, self.ports)
        script = f'. {run.triton}/triton/env.sh && TS_EXEC=1 && tritonserver_ "$@"'
        options = ["--model-repository", str(repository), "--disable-auto-complete-config"]
        options += [
            "--http-port",
            http,
            "--grpc-port",
            grpc,
            "--metrics-port",
            metrics,
            "--exit-timeout-secs",
            "5",
        ]
        self.process = run.start(
            self.name,
            ["bash", "-c", script, "tritonserver", *options],
            T_PP=run.server_path,
            GENERATOR_KV_GIB=run.kv_cache_gib(name),
        )

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[0]}/v2/health/ready", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def measure(self, name: str, *modes: str) -> bool:
        """False where it failed or took too long."""
        before = read_processor_seconds()
        log = f"client-{self.model}-{name}"
        client = self.run.python(
            log,
            "streams.py",
            *modes,
            *("--model", self.model, "--tokenizer", str(self.checkpoint), *self.run.load),
            *(
                "--url",
                f"127.0.0.1:{self.ports[1]}",
                "--metrics",
                f"http://127.0.0.1:{self.ports[2]}/metrics",
            ),
            EXTRA_PATH=f"{self.run.triton}/triton/pyclient",
        )
        was_measured = self.run.collect(log, client, self.run.tokens if name == "throughput" else 0)
        used = {key: value - before.get(key, 0.0) for key, value in read_processor_seconds().items()}
        busy = {key: round(value, 2) for key, value in used.items() if value > 0.3}
        self.run.note(name=self.name, measured=name, cpu_s=busy)
        return was_measured


def shape_of(name: str) -> str:
    return "default" if name.startswith("default-") else "8b"


def describe(name: str, checkpoint: Path) -> dict[str, Any]:
    """What the checkpoint is, for whoever reads the results."""
    stated = json.loads((checkpoint / "config.json").read_text()).get("quantization_config") or {}
    method, bits = stated.get("quant_method", "none"), stated.get("bits", 16)
    if method == "bitsandbytes":
        method, bits = ("bnb-int8", 8) if stated.get("load_in_8bit") else ("bnb-nf4", 4)
    shape = SHAPES[shape_of(name)]
    return {"model": shape, "method": method, "bits": bits, "group_size": stated.get("group_size", 0)}


class Offline:
    """vLLM alone, loaded and waiting for its turn."""

    def __init__(self, run: Run, name: str, checkpoint: Path) -> None:
        """Starts it and returns at once."""
        self.run, self.name = run, f"offline-{name}"
        self.go, self.ready = run.work / f"go-{name}", run.work / f"ready-{name}"
        dummy = not any(checkpoint.glob("*.safetensors"))
        self.process = run.python(
            self.name,
            "offline.py",
            *("--model", str(checkpoint), "--go", str(self.go), "--ready", str(self.ready)),
            *(
                "--load-format",
                "dummy" if dummy else "safetensors",
                "--kv-cache-gib",
                run.kv_cache_gib(name),
                "--gpu-memory-utilization",
                MEMORY_SHARE,
                *run.load,
            ),
        )

    def is_ready(self) -> bool:
        return self.ready.exists()

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def measure(self) -> None:
        self.go.touch()
        self.run.collect(self.name, self.process, self.run.tokens)


def wait_for_all(run: Run, engines: list[Offline | Server], seconds: float) -> None:
    """Until each is ready or has ended."""
    until = time.monotonic() + seconds
    waiting = list(engines)
    while waiting and time.monotonic() < until:
        for engine in waiting[:]:
            if engine.is_ready():
                run.note(name=engine.name, ready=True, weights_gib=run.weights_gib(engine.name))
                waiting.remove(engine)
            elif not engine.is_alive():
                text = (run.work / f"{engine.name}.log").read_text(errors="replace")
                run.note(name=engine.name, failed="load", log=text[-1500:])
                waiting.remove(engine)
        time.sleep(0.2)
    run.note(not_ready=[engine.name for engine in waiting])


def run_contract(run: Run, checkpoint: Path, tests: str, seconds: float) -> None:
    """The engines' contract: those of its tests that `tests` selects."""
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-c", os.devnull]
    command += ["--import-mode=importlib", "--rootdir", str(ROOT), "-k", tests]
    command += [str(ROOT / "tests" / "contract" / "test_engine.py")]
    suite = run.start("contract", command, ENGINE_TEST_MODEL=str(checkpoint))
    with contextlib.suppress(subprocess.TimeoutExpired):
        suite.wait(timeout=seconds)
    text = (run.work / "contract.log").read_text(errors="replace")
    lines = [line for line in text.splitlines() if "PASSED" in line or "FAILED" in line or " passed" in line]
    run.note(name="contract", code=suite.poll(), checkpoint=checkpoint.name, tests=tests, lines=lines[-60:])
    run.end(suite)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument(
        "--served", nargs="*", default=[], metavar="NAME=FOLDER", help="measured through tritonserver only"
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--site", type=Path, required=True)
    parser.add_argument("--triton", type=Path, required=True)
    parser.add_argument(
        "--whole",
        nargs="*",
        default=[],
        help="names whose answers in one response, cancels and tenants are tried, too",
    )
    parser.add_argument("--contract", type=Path, help="the checkpoint for the engine's contract suite")
    parser.add_argument(
        "--contract-shared", action="store_true", help="only those of its tests that share one engine"
    )
    parser.add_argument("--contract-seconds", type=float, default=400)
    parser.add_argument("--start-seconds", type=float, default=240, help="how long engines may take to load")
    parser.add_argument(
        "--measure-seconds", type=float, default=60, help="what takes longer is ended and said to be slower"
    )
    parser.add_argument("--streams", default="64")
    parser.add_argument("--rounds", default="5", help="requests on each stream and repetition")
    parser.add_argument("--seconds", type=float, default=600)
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    run = Run(arguments)
    pairs = [pair.partition("=")[::2] for pair in arguments.checkpoints]
    offline = {name: Offline(run, name, Path(folder)) for name, folder in pairs}
    pairs += [pair.partition("=")[::2] for pair in arguments.served]
    while not (run.triton / "ready").exists() and run.has_time(60):
        time.sleep(0.2)
    servers = start_servers(run, pairs)
    wait_for_all(run, [*offline.values(), *servers], arguments.start_seconds)
    for server in servers:
        try:
            measure(run, server, offline.get(server.model))
        except Exception as error:
            run.note(name=server.name, failed=f"{type(error).__name__}: {error}")
    for process in run.processes:
        if process.poll() is None:
            run.end(process)
    if arguments.contract and run.has_time(60):
        tests = SHARED if arguments.contract_shared else CONTRACT
        run_contract(run, arguments.contract, tests, arguments.contract_seconds)
    run.note(name="end")
    (run.work / "done").touch()


def start_servers(run: Run, pairs: list[tuple[str, str]]) -> list[Server]:
    """One server each; they hash their checkpoints at the same time."""

    def start(number: int, name: str, folder: str) -> Server | None:
        try:
            server = Server(run, name, Path(folder), number)
        except Exception as error:
            run.note(name=f"triton-{name}", failed=f"{type(error).__name__}: {error}")
            return None
        run.note(name=server.name, checkpoint=describe(name, Path(folder)))
        return server

    # It makes a folder of links once, and two that make it at the same time spoil it.
    environ = {**os.environ, "T_PP": run.server_path}
    command = ["bash", "-c", f". {run.triton}/triton/env.sh"]
    subprocess.run(command, env=environ, check=False)
    with ThreadPoolExecutor(max(1, len(pairs))) as pool:
        jobs = [pool.submit(start, number, *pair) for number, pair in enumerate(pairs)]
    return [server for job in jobs if (server := job.result()) is not None]


def measure(run: Run, server: Server, offline: Offline | None) -> None:
    if offline is not None and offline.is_ready() and run.has_time(20):
        offline.measure()
    if not server.is_ready() or not run.has_time(20):
        run.note(name=server.name, failed="not ready" if not server.is_ready() else "no time")
        return
    server.measure("other", "single", "text")
    if not server.measure("throughput", "throughput"):
        # Its requests were cancelled with the client, but it is too slow to wait for.
        run.end(server.process)
        return
    if server.model in run.whole:
        server.measure("answers", "answers")
        server.measure("tenants", "tenants")
        server.measure("cancel", "cancel")


if __name__ == "__main__":
    main()
