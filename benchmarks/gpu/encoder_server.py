"""On the GPU machine: the packed encoder behind tritonserver, with KIND_GPU, driven by perf_analyzer.

Builds a model with the project's own build (engine torch, the parity gate included), serves copies of it with one
and more instances, and measures each with many texts. Lines go to server.jsonl in --work.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from processor_seconds import read_processor_seconds

from trireme.artifacts.build import BuildOptions
from trireme.artifacts.config_writer import place_config
from trireme.artifacts.manifest import read_manifest, write_manifest
from trireme.artifacts.recipe import Recipe, write_recipe
from trireme.export.pipeline import build_model

ROOT = Path(__file__).parents[2]
HTTP, GRPC, METRICS = 18100, 18101, 18102
WINDOW_MS = 2000
# Requests at once, and texts in each.
CLIENTS = ((1, 1), (32, 1), (128, 1), (8, 32), (32, 32))
CHECKED = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", type=Path, required=True, help="with texts.json, references.npz and minilm/"
    )
    parser.add_argument("--triton", type=Path, required=True, help="a folder with triton/env.sh")
    parser.add_argument("--models", nargs="+", default=["minilm"])
    parser.add_argument("--instances", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--target", choices=("cpu", "gpu"), default="gpu")
    parser.add_argument("--loads", nargs="+", default=["short", "passages"])
    parser.add_argument("--seconds", type=float, default=200, help="measure no more after so long")
    arguments = parser.parse_args()
    work, began = arguments.work, time.monotonic()

    def note(**what: Any) -> None:
        line = json.dumps({"at": round(time.monotonic() - began, 1), **what})
        print(line[:900], flush=True)
        with (work / "server.jsonl").open("a") as results:
            results.write(line + "\n")

    texts = json.loads((work / "texts.json").read_text())["texts"]
    for load in arguments.loads:
        rows = {"data": [{"text": [text]} for text in texts[load]]}
        (work / f"{load}-input.json").write_text(json.dumps(rows))
    repository = work / "repository"
    names = []
    for model in arguments.models:
        names += list(build(arguments, model, repository, note))
    server = start(arguments, repository)
    try:
        if wait_until_ready(server, note):
            for name in names:
                note(model=name, **check(arguments, name, texts))
            for name in names:
                for load in arguments.loads:
                    for concurrency, batch in CLIENTS:
                        if time.monotonic() - began < arguments.seconds:
                            note(model=name, load=load, **drive(arguments, name, load, concurrency, batch))
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        note(log=(work / "server.log").read_text(errors="replace")[-600:])


def build(arguments: argparse.Namespace, model: str, repository: Path, note: Any) -> Iterator[str]:
    """One model per number of instances; the names. The first is built, the others are copies."""
    recipe = Recipe(
        model=f"{model}-{arguments.instances[0]}",
        kind="text_encoder",
        source=str(arguments.work / model),
        precision=arguments.precision,
        engine="torch",
        target=arguments.target,
        instances=arguments.instances[0],
        max_batch_size=512,
        dynamic_batching=True,
        max_queue_delay_us=100,
        max_batch_tokens=16384,
    )
    started = time.monotonic()
    manifest, _ = build_model(recipe, BuildOptions(repository=repository))
    note(model=model, build_s=round(time.monotonic() - started, 1), figures=manifest.figures)
    for count in arguments.instances:
        copied = replace(recipe, model=f"{model}-{count}", instances=count)
        folder = repository / copied.model
        if count != arguments.instances[0]:
            shutil.copytree(repository / recipe.model / "1", folder / "1")
            write_manifest(folder / "1", replace(read_manifest(folder / "1"), model=copied.model))
        write_recipe(folder / "recipe.toml", copied)
        place_config(folder, copied)
        yield copied.model


def start(arguments: argparse.Namespace, repository: Path) -> subprocess.Popen[bytes]:
    """tritonserver with our backend beside its own."""
    triton = arguments.triton / "triton"
    backend = triton / "backends" / "text_encoder"
    shutil.copytree(ROOT / "python_backends" / "text_encoder", backend, dirs_exist_ok=True)
    script = f'. {triton}/env.sh && TS_EXEC=1 && tritonserver_ "$@"'
    options = ["--model-repository", str(repository), "--disable-auto-complete-config"]
    options += ["--http-port", str(HTTP), "--grpc-port", str(GRPC), "--metrics-port", str(METRICS)]
    options += ["--http-address", "127.0.0.1", "--grpc-address", "127.0.0.1", "--exit-timeout-secs", "5"]
    return subprocess.Popen(
        ["/bin/bash", "-c", script, "tritonserver", *options],
        env={**os.environ, "T_PP": str(ROOT / "src"), "TOKENIZERS_PARALLELISM": "true"},
        stdin=subprocess.DEVNULL,
        stdout=(arguments.work / "server.log").open("ab"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def wait_until_ready(server: subprocess.Popen[bytes], note: Any, seconds: float = 150) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{HTTP}/v2/health/ready", timeout=2):
                note(server="ready")
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    note(server="not ready", code=server.poll())
    return False


def check(arguments: argparse.Namespace, name: str, texts: dict[str, list[str]]) -> dict[str, Any]:
    """Cosine to fp32 of vectors that came over gRPC."""
    import sys

    sys.path.insert(0, str(arguments.triton / "triton" / "pyclient"))
    from tritonclient import grpc

    client = grpc.InferenceServerClient(f"127.0.0.1:{GRPC}")
    found: dict[str, Any] = {}
    for load in arguments.loads:
        values = np.array([[text.encode()] for text in texts[load][:CHECKED]], dtype=object)
        tensor = grpc.InferInput("text", list(values.shape), "BYTES")
        tensor.set_data_from_numpy(values)
        vectors = client.infer(name, [tensor]).as_numpy("embedding")
        if name.startswith("minilm"):
            reference = np.load(arguments.work / "references.npz")[load][:CHECKED]
            unit = reference / np.linalg.norm(reference, axis=1, keepdims=True)
            found[f"cosine_min_{load}"] = float((vectors * unit).sum(1).min())
    return found


def drive(
    arguments: argparse.Namespace, name: str, load: str, concurrency: int, batch: int
) -> dict[str, Any]:
    """perf_analyzer's figures: three windows, and processor seconds of each process in that time."""
    options = ["-m", name, "-u", f"127.0.0.1:{GRPC}", "-i", "grpc", "-b", str(batch)]
    options += ["--input-data", str(arguments.work / f"{load}-input.json")]
    options += ["--concurrency-range", str(concurrency), "-p", str(WINDOW_MS), "-r", "3", "-s", "1000"]
    script = f'. {arguments.triton}/triton/env.sh && perf_ "$@"'
    before, began = read_processor_seconds("triton"), time.monotonic()
    done = subprocess.run(
        ["/bin/bash", "-c", script, "perf", *options], capture_output=True, text=True, timeout=60, check=False
    )
    seconds = time.monotonic() - began
    used = {
        key: round((value - before.get(key, 0)) / seconds, 2)
        for key, value in read_processor_seconds("triton").items()
    }
    figure = re.search(r"throughput: ([\d.]+) infer/sec, latency ([\d.]+) usec", done.stdout)
    percentiles = {
        f"p{name_}_ms": float(value) / 1000
        for name_, value in re.findall(r"p(50|95|99) latency: ([\d.]+) usec", done.stdout)
    }
    if figure is None:
        return {"failed": (done.stdout + done.stderr)[-600:], "concurrency": concurrency, "batch": batch}
    # perf_analyzer counts texts, not requests, where a request holds several.
    return {
        "concurrency": concurrency,
        "batch": batch,
        "texts_per_s": float(figure[1]),
        "mean_ms": float(figure[2]) / 1000,
        **percentiles,
        "cores": {key: value for key, value in used.items() if value > 0.05},
    }


if __name__ == "__main__":
    main()
