"""On the GPU machine: the packed encoder behind tritonserver, with KIND_GPU, driven by perf_analyzer.

Builds a model with the project's own build (engine torch, the parity gate included), serves copies of it with one
and more instances, and measures each with many texts. Lines go to server.jsonl in --work.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.processes import end_session, make_flags, read_named_times, wait_for_page
from benchmarks.common.report import PROJECT
from benchmarks.gpu.machine import SOURCE, Notes, read_end, ready_page, start_triton
from trireme.artifacts.build import BuildOptions
from trireme.artifacts.config_writer import place_config
from trireme.artifacts.manifest import read_manifest, write_manifest
from trireme.artifacts.recipe import RECIPE_FILE, Recipe, write_recipe
from trireme.export.pipeline import build_model

PORTS = (18100, 18101, 18102)
GRPC = f"127.0.0.1:{PORTS[1]}"
# Requests at once, and texts in each.
CLIENTS = ((1, 1), (32, 1), (128, 1), (8, 32), (32, 32))
CHECKED = 128
LOADS = ("short", "passages")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    needed = "with texts.json, references.npz and minilm/"
    parser.add_argument("--work", type=Path, required=True, help=needed)
    parser.add_argument("--triton", type=Path, required=True, help="a folder with triton/env.sh")
    parser.add_argument("--models", nargs="+", default=["minilm"])
    parser.add_argument("--instances", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=200, help="measure no more after so long")
    arguments = parser.parse_args()
    work, notes = arguments.work, Notes(arguments.work / "server.jsonl")
    texts = json.loads((work / "texts.json").read_text())["texts"]
    for load in LOADS:
        rows = {"data": [{"text": [text]} for text in texts[load]]}
        (work / f"{load}-input.json").write_text(json.dumps(rows))
    repository, log = work / "repository", work / "server.log"
    names = [name for model in arguments.models for name in build(arguments, model, repository, notes)]
    backends = arguments.triton / "triton" / "backends"
    backend = "text_encoder"
    shutil.copytree(PROJECT / "python_backends" / backend, backends / backend, dirs_exist_ok=True)
    server = start_triton(
        arguments.triton, repository, PORTS, log, str(SOURCE), TOKENIZERS_PARALLELISM="true"
    )
    try:
        is_ready = wait_for_page(ready_page(PORTS[0]), server, 150)
        notes.write(server="ready" if is_ready else "not ready", code=server.poll())
        if is_ready:
            for name in names:
                notes.write(model=name, **check(arguments, name, texts))
            loads = [(name, load, *asked) for name in names for load in LOADS for asked in CLIENTS]
            for name, load, concurrency, batch in loads:
                if notes.seconds() < arguments.seconds:
                    found = drive(arguments, name, load, concurrency, batch)
                    notes.write(model=name, load=load, concurrency=concurrency, batch=batch, **found)
    finally:
        end_session(server, 0.0)
        notes.write(log=read_end(log, 600))


def build(arguments: argparse.Namespace, model: str, repository: Path, notes: Notes) -> Iterator[str]:
    """One model per number of instances; the names. The first is built, the others are copies."""
    recipe = Recipe(
        model=f"{model}-{arguments.instances[0]}",
        kind="text_encoder",
        source=str(arguments.work / model),
        precision="fp16",
        engine="torch",
        target="gpu",
        instances=arguments.instances[0],
        max_batch_size=512,
        dynamic_batching=True,
        max_queue_delay_us=100,
        max_batch_tokens=16384,
    )
    started = time.monotonic()
    manifest, _ = build_model(recipe, BuildOptions(repository=repository))
    notes.write(model=model, build_s=round(time.monotonic() - started, 1), figures=manifest.figures)
    for count in arguments.instances:
        copied = replace(recipe, model=f"{model}-{count}", instances=count)
        folder = repository / copied.model
        if count != arguments.instances[0]:
            shutil.copytree(repository / recipe.model / "1", folder / "1")
            write_manifest(folder / "1", replace(read_manifest(folder / "1"), model=copied.model))
        write_recipe(folder / RECIPE_FILE, copied)
        place_config(folder, copied)
        yield copied.model


def check(arguments: argparse.Namespace, name: str, texts: dict[str, list[str]]) -> dict[str, Any]:
    """Cosine to fp32 of vectors that came over gRPC."""
    sys.path.insert(0, str(arguments.triton / "triton" / "pyclient"))
    from trireme.triton.client import TritonClient

    found: dict[str, Any] = {}
    with TritonClient(GRPC) as client:
        for load in LOADS:
            vectors = client.infer(name, {"text": [[text] for text in texts[load][:CHECKED]]})["embedding"]
            if name.startswith("minilm"):
                reference = np.load(arguments.work / "references.npz")[load][:CHECKED]
                unit = reference / np.linalg.norm(reference, axis=1, keepdims=True)
                found[f"cosine_min_{load}"] = float((vectors * unit).sum(1).min())
    return found


def drive(
    arguments: argparse.Namespace, name: str, load: str, concurrency: int, batch: int
) -> dict[str, Any]:
    """perf_analyzer's figures: three windows, and processor seconds of each process in that time."""
    options = ["-m", name, "-u", GRPC, "-i", "grpc", "-b", str(batch), "-p", "2000", "-r", "3", "-s", "1000"]
    options += make_flags(input_data=arguments.work / f"{load}-input.json", concurrency_range=concurrency)
    command = ["/bin/bash", "-c", f'. {arguments.triton}/triton/env.sh && perf_ "$@"', "perf", *options]
    before, began = read_named_times("triton"), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    seconds, after = time.monotonic() - began, read_named_times("triton")
    used = {key: round((value - before.get(key, 0)) / seconds, 2) for key, value in after.items()}
    figure = re.search(r"throughput: ([\d.]+) infer/sec, latency ([\d.]+) usec", done.stdout)
    percentiles = re.findall(r"p(50|95|99) latency: ([\d.]+) usec", done.stdout)
    if figure is None:
        return {"failed": (done.stdout + done.stderr)[-600:]}
    # perf_analyzer counts texts, not requests, where a request holds several.
    return {
        "texts_per_s": float(figure[1]),
        "mean_ms": float(figure[2]) / 1000,
        **{f"p{percent}_ms": float(value) / 1000 for percent, value in percentiles},
        "cores": {key: value for key, value in used.items() if value > 0.05},
    }


if __name__ == "__main__":
    main()
