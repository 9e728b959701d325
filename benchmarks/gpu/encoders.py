"""On the GPU machine: our packed encoder, vLLM's pooling mode and sentence-transformers on the same texts and GPU.

Makes the models, starts every engine in a process of its own, and asks them in turn: a warm-up and a pass, then
--rounds passes over each load, one engine after the other. Results are lines of results.jsonl in --work.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Layers, hidden size, heads; random weights.
SHAPES = {"base": (12, 768, 12), "large": (24, 1024, 16)}
LOADS = ("short", "passages")
ENVIRON = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    # Neither is in the packed vLLM.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_USE_DEEP_GEMM": "0",
    "PYTHONUNBUFFERED": "1",
}


class Worker:
    """A process of encoder_engines.py."""

    def __init__(self, work: Path, name: str, models: list[str], path: str, precision: str) -> None:
        """Starts it and returns at once."""
        self.name, self.models = name, models
        engine = name.partition("-")[0]
        self.log = work / f"{name}.log"
        command = [sys.executable, str(HERE / "encoder_engines.py"), engine, "--work", str(work)]
        self._process = subprocess.Popen(
            [*command, "--precision", precision, "--models", *models],
            env={**os.environ, **ENVIRON, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("ab"),
        )
        self._results: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.decode(errors="replace")
            with self.log.open("a") as log:
                log.write(line)
            if line.startswith("RESULT "):
                with self._changed:
                    self._results.append(json.loads(line[7:]))
                    self._changed.notify()
        with self._changed:
            self._results.append({"failed": self.log.read_text(errors="replace")[-1500:]})
            self._changed.notify()

    def next(self, seconds: float) -> dict[str, Any]:
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._results), seconds):
                return {"failed": f"no answer in {seconds:.0f} s"}
            return self._results.pop(0)

    def ask(self, seconds: float = 60, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"engine": self.name, **command}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return {"failed": "the process has ended"}
        return self.next(seconds)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def make_models(work: Path, models: list[str], precisions: list[str]) -> None:
    """Checkpoints in fp16 and our files of them: `minilm` as it came, the others with random weights."""
    import torch
    import transformers

    from trireme.export.checkpoint import read_checkpoint
    from trireme.export.graph import load_graph
    from trireme.export.packed import write_packed

    for name in models:
        folder = work / name
        if name in SHAPES and not folder.exists():
            layers, width, heads = SHAPES[name]
            shutil.copytree(work / "minilm", folder, ignore=shutil.ignore_patterns("*.safetensors"))
            torch.manual_seed(0)
            config = transformers.BertConfig(
                num_hidden_layers=layers,
                hidden_size=width,
                num_attention_heads=heads,
                intermediate_size=4 * width,
            )
            with torch.device("cuda"):
                model = transformers.BertModel(config, add_pooling_layer=False)
            model.half().save_pretrained(folder)
            pooling = folder / "1_Pooling" / "config.json"
            changed = {**json.loads(pooling.read_text()), "word_embedding_dimension": width}
            pooling.write_text(json.dumps(changed))
            del model
            torch.cuda.empty_cache()
        checkpoint = read_checkpoint(folder)
        graph = load_graph(checkpoint)
        for precision in precisions:
            target = work / f"{name}-{precision}"
            target.mkdir(exist_ok=True)
            write_packed(graph, checkpoint, precision, target)


def compare(work: Path, engine: str, model: str, load: str) -> dict[str, float]:
    """Smallest and mean cosine to fp32: for minilm of the published weights, else of the same random ones."""
    vectors = np.load(work / f"vectors-{engine}-{model}-{load}.npy")
    if model == "minilm":
        reference = np.load(work / "references.npz")[load]
    else:
        reference = np.load(work / f"reference-{model}-{load}.npy")
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    cosines = (vectors * reference).sum(1) / lengths
    return {"cosine_min": float(cosines.min()), "cosine_mean": float(cosines.mean())}


class Run:
    """Workers that are ready, and where results go."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments, self.work = arguments, arguments.work
        self._began = time.monotonic()
        self._workers: list[Worker] = []

    def note(self, **what: Any) -> None:
        line = json.dumps({"at": round(time.monotonic() - self._began, 1), **what})
        print(line[:700], flush=True)
        with (self.work / "results.jsonl").open("a") as results:
            results.write(line + "\n")

    def has_time(self) -> bool:
        return time.monotonic() - self._began < self._arguments.seconds

    def start(self) -> list[tuple[Worker, str, str]]:
        """Every worker with each of its models and each load, in the order in which they are asked."""
        models, precision = self._arguments.models, self._arguments.precision
        source = str(ROOT / "src")
        self._workers = [Worker(self.work, "packed", models, source, precision)]
        if self._arguments.site:
            path = f"{self._arguments.site}:{source}"
            # Each its own process: one process of vLLM has one model.
            self._workers += [Worker(self.work, f"vllm-{one}", [one], path, precision) for one in models]
        if self._arguments.sentence:
            self._workers.append(Worker(self.work, "sentence", models, source, precision))
        alive = []
        for worker in self._workers:
            found = worker.next(200)
            self.note(engine=worker.name, **found)
            alive += [] if "failed" in found else [worker]
        return [(w, one, load) for one in models for load in LOADS for w in alive if one in w.models]

    def prepare(self, pairs: list[tuple[Worker, str, str]]) -> None:
        """References first, then each worker's vectors against them, and its first passes."""
        for worker, model, load in pairs:
            if worker.name == "sentence":
                self.note(**worker.ask(do="extra", model=model, load=load))
        for worker, model, load in pairs:
            checked = worker.ask(do="check", model=model, load=load)
            if "failed" not in checked:
                checked |= compare(self.work, worker.name, model, load)
            self.note(**checked)
            self.note(**worker.ask(do="warm", model=model, load=load))

    def measure(self, pairs: list[tuple[Worker, str, str]]) -> None:
        """Our time on the GPU, single texts, then the passes in turn, as long as there is time."""
        for worker, model, load in pairs:
            if worker.name == "packed":
                self.note(**worker.ask(do="extra", model=model, load=load))
            if load == LOADS[0]:
                self.note(**worker.ask(do="single", model=model, load=load))
        for number in range(self._arguments.rounds):
            for worker, model, load in pairs:
                if self.has_time():
                    self.note(round=number, **worker.ask(do="time", model=model, load=load))

    def end(self) -> None:
        for worker in self._workers:
            worker.end()
        self.note(done=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", type=Path, required=True, help="with texts.json, references.npz and minilm/"
    )
    parser.add_argument("--site", default="", help="a folder with vLLM; without it vLLM is left out")
    parser.add_argument("--models", nargs="+", default=["minilm", "base", "large"])
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=300, help="measure no more after so long")
    parser.add_argument("--sentence", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    run = Run(arguments)
    make_models(arguments.work, arguments.models, ["fp16", "bf16"])
    run.note(made=arguments.models)
    try:
        pairs = run.start()
        for worker, *_ in pairs[:1]:
            run.note(**worker.ask(do="peak", model="", load=""))
        run.prepare(pairs)
        run.measure(pairs)
    finally:
        run.end()


if __name__ == "__main__":
    main()
