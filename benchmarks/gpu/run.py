"""On the GPU machine: per checkpoint vLLM alone, then the same prompts through tritonserver.

All engines are started at the same time, each with a KV cache of a fixed size, and stay; they are measured one
after the other, while the others are idle. Every result is a line of results.jsonl in --work, every process has a
log there; one that fails does not end the run. A name that begins with default- says that the checkpoint is the
default LLM or made of it, one with moe- that it has Qwen3-30B-A3B's shape. README.md beside this file has the steps
around it.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.common.processes import end_session, has_page, make_flags, read_named_times
from benchmarks.common.report import PROJECT
from benchmarks.gpu.machine import (
    OUTPUT_TOKENS,
    SOURCE,
    Notes,
    read_end,
    read_results,
    ready_page,
    start,
    start_triton,
)

KV_CACHE_GIB = {"default": "1", "moe": "4", "8b": "4"}
# vLLM only asks for so much to be free when the size of the cache is given.
MEMORY_SHARE = "0.03"
SHAPES = {
    "default": "SmolLM2-135M-Instruct",
    "moe": "qwen3-30b-a3b-shape",
    "8b": "llama-3-8b-shape",
}
# The tests of the engine's contract; each that is left out of SHARED starts an engine of its own.
CONTRACT = "vllm"
SHARED = (
    "vllm and not eos_ends and not full_queue and not waiting_request and not close_cancels and not prefix"
)
Process = subprocess.Popen[bytes]


class Run:
    """Where things are, and what was found."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.work: Path = arguments.work
        self.site, self.triton = arguments.site, arguments.triton
        self.whole: list[str] = arguments.whole
        self.signals: list[str] = arguments.signals
        self.cards = {name: int(count) for name, _, count in (one.partition("=") for one in arguments.cards)}
        self.server_path = f"{self.site}:{SOURCE}"
        self.client = f"{self.triton}/triton/pyclient"
        self.load = make_flags(streams=arguments.streams, rounds=arguments.rounds)
        # Warm-up and three repetitions.
        self.tokens = int(arguments.streams) * (1 + 3 * int(arguments.rounds)) * OUTPUT_TOKENS
        self.deadline = time.monotonic() + arguments.seconds
        self.measure_seconds: float = arguments.measure_seconds
        self.work.mkdir(parents=True, exist_ok=True)
        self.note = Notes(self.work / "results.jsonl").write
        self.processes: list[Process] = []

    def has_time(self, seconds: float) -> bool:
        return time.monotonic() + seconds < self.deadline

    def log(self, name: str) -> Path:
        return self.work / f"{name}.log"

    def start(self, name: str, command: list[str], path: str = "", **environ: str) -> Process:
        environ["PYTHONPATH"] = f"{self.server_path}:{path}"
        self.processes.append(start(command, self.log(name), environ))
        return self.processes[-1]

    def python(self, name: str, module: str, *options: str, path: str = "") -> Process:
        return self.start(name, [sys.executable, "-m", f"benchmarks.gpu.{module}", *options], path)

    def end(self, process: Process) -> None:
        """Ends the process and all that it started; waits until they are gone, and their memory with them."""
        end_session(process, 0.0)
        time.sleep(1.0)

    def collect(self, name: str, process: Process, tokens: int = 0) -> bool:
        """Wait for a process; note its RESULT lines. False, with the log's end, where it failed or was too slow.

        `tokens`: what it has to make. One that is ended before says with them what its speed is below.
        """
        late: dict[str, float] = {}
        try:
            code = process.wait(timeout=self.measure_seconds)
        except subprocess.TimeoutExpired:
            # What still computes would disturb the next one.
            self.end(process)
            code = -1
            late = {"seconds": self.measure_seconds, **({"tokens": tokens} if tokens else {})}
        results = read_results(self.log(name))
        for result in results:
            self.note(name=name, **result)
        # One that had its result and was only slow to leave has not failed.
        was_measured = bool(results) and (code == 0 or bool(late))
        if not was_measured:
            self.note(name=name, **late, failed=code, log=read_end(self.log(name)))
        return was_measured

    def cards_of(self, name: str) -> dict[str, str]:
        """Variables: which cards a checkpoint's engine sees. The first one, or all where --cards names it."""
        return {} if name in self.cards else {"CUDA_VISIBLE_DEVICES": "0"}

    def sharing(self, name: str) -> list[str]:
        """Options: over how many cards one engine's weights lie."""
        return make_flags(tensor_parallel_size=max(1, self.cards.get(name, 1)))

    def kv_cache_gib(self, name: str) -> str:
        return KV_CACHE_GIB[shape_of(name)]

    def weights_gib(self, name: str) -> float | None:
        found = self.log(name).read_text(errors="replace").partition("Model loading took")[2].split()
        return float(found[0]) if found else None


class Server:
    """One tritonserver with one generator."""

    def __init__(self, run: Run, name: str, checkpoint: Path, number: int) -> None:
        """Starts it and returns at once."""
        self.run, self.name, self.checkpoint, self.model = run, f"triton-{name}", checkpoint, name
        self.ports = [18000 + 10 * number + n for n in range(3)]
        repository = run.work / f"repository-{name}"
        options = make_flags(repository=repository, gpu_memory_utilization=MEMORY_SHARE) + run.sharing(name)
        command = [f"{name}={checkpoint}", *options, *run.load[:2]]
        written = run.python(repository.name, "repository", *command, path=run.client)
        if written.wait(timeout=120) != 0:
            raise RuntimeError(f"no repository for {name}")
        self.process = start_triton(
            run.triton,
            repository,
            self.ports,
            run.log(self.name),
            run.server_path,
            GENERATOR_KV_GIB=run.kv_cache_gib(name),
            **run.cards_of(name),
        )
        run.processes.append(self.process)

    def is_ready(self) -> bool:
        return has_page(ready_page(self.ports[0]))

    def measure(self, name: str, *modes: str) -> bool:
        """Modes of streams.py; without one the module of the name. False where it failed or took too long."""
        before, log, here = read_named_times(), f"client-{self.model}-{name}", "127.0.0.1"
        options = make_flags(
            model=self.model,
            tokenizer=self.checkpoint,
            url=f"{here}:{self.ports[1]}",
            metrics=f"http://{here}:{self.ports[2]}/metrics",
        )
        load = self.run.load if modes else self.run.load[:2]
        module = "streams" if modes else name
        client = self.run.python(log, module, *modes, *options, *load, path=self.run.client)
        was_measured = self.run.collect(log, client, self.run.tokens if name == "throughput" else 0)
        used = {key: value - before.get(key, 0.0) for key, value in read_named_times().items()}
        busy = {key: round(value, 2) for key, value in used.items() if value > 0.3}
        self.run.note(name=self.name, measured=name, cpu_s=busy)
        return was_measured


def shape_of(name: str) -> str:
    """Key of SHAPES, by how the name begins."""
    return next((shape for shape in ("default", "moe") if name.startswith(f"{shape}-")), "8b")


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
        options = make_flags(
            model=checkpoint,
            go=self.go,
            ready=self.ready,
            load_format="safetensors" if any(checkpoint.glob("*.safetensors")) else "dummy",
            kv_cache_gib=run.kv_cache_gib(name),
            gpu_memory_utilization=MEMORY_SHARE,
        )
        command = [sys.executable, "-m", "benchmarks.gpu.offline", *options, *run.sharing(name), *run.load]
        self.process = run.start(self.name, command, **run.cards_of(name))

    def is_ready(self) -> bool:
        return self.ready.exists()

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
            elif engine.process.poll() is not None:
                run.note(name=engine.name, failed="load", log=read_end(run.log(engine.name)))
                waiting.remove(engine)
        time.sleep(0.2)
    run.note(not_ready=[engine.name for engine in waiting])


def run_contract(run: Run, checkpoint: Path, tests: str, seconds: float) -> None:
    """The engines' contract: those of its tests that `tests` selects."""
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-c", os.devnull]
    command += ["--import-mode=importlib", "--rootdir", str(PROJECT), "-k", tests]
    command += [str(PROJECT / "tests" / "contract" / "test_engine.py")]
    suite = run.start("contract", command, ENGINE_TEST_MODEL=str(checkpoint))
    with contextlib.suppress(subprocess.TimeoutExpired):
        suite.wait(timeout=seconds)
    text = run.log("contract").read_text(errors="replace")
    lines = [line for line in text.splitlines() if "PASSED" in line or "FAILED" in line or " passed" in line]
    run.note(name="contract", code=suite.poll(), checkpoint=checkpoint.name, tests=tests, lines=lines[-60:])
    run.end(suite)


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
    subprocess.run(["/bin/bash", "-c", f". {run.triton}/triton/env.sh"], env=environ, check=False)
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
    if server.model in run.signals:
        server.measure("signals")
    if server.model in run.whole:
        for mode in ("answers", "tenants", "cancel"):
            server.measure(mode, mode)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("checkpoints", nargs="*", metavar="NAME=FOLDER")
    add("--served", nargs="*", default=[], metavar="NAME=FOLDER", help="measured through tritonserver only")
    add("--work", type=Path, required=True)
    add("--site", type=Path, required=True)
    add("--triton", type=Path, required=True)
    several = (
        "checkpoints on several cards: one engine over N of them, or with 1 an engine on each that there is"
    )
    add("--cards", nargs="*", default=[], metavar="NAME=N", help=several)
    add(
        "--signals",
        nargs="*",
        default=[],
        metavar="NAME",
        help="whose signals are compared with a known load",
    )
    whole = "names whose answers in one response, cancels and tenants are tried, too"
    add("--whole", nargs="*", default=[], help=whole)
    add("--contract", type=Path, help="the checkpoint for the engine's contract suite")
    add("--contract-shared", action="store_true", help="only those of its tests that share one engine")
    add("--contract-seconds", type=float, default=400)
    add("--start-seconds", type=float, default=240, help="how long engines may take to load")
    slow = "what takes longer is ended and said to be slower"
    add("--measure-seconds", type=float, default=60, help=slow)
    add("--streams", default="64")
    add("--rounds", default="5", help="requests on each stream and repetition")
    add("--seconds", type=float, default=600)
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


if __name__ == "__main__":
    main()
