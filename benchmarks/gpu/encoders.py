"""On the GPU machine: our packed encoder, vLLM's pooling mode and sentence-transformers on the same texts and GPU.

Makes the models, starts every engine in a process of its own, and asks them in turn: a warm-up and a pass, then
--rounds passes over each load, one engine after the other. Results are lines of results.jsonl in --work.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.processes import JsonProcess, make_flags
from benchmarks.common.report import PROJECT
from benchmarks.gpu.machine import QUIET, SOURCE, Notes, read_end
from trireme.errors import UnavailableError

# Layers, hidden size, heads; random weights.
SHAPES = {"base": (12, 768, 12), "large": (24, 1024, 16)}
LOADS = ("short", "passages")


class Worker:
    """A process of encoder_engines.py."""

    def __init__(self, work: Path, name: str, models: list[str], path: str, precision: str) -> None:
        """Starts it and returns at once."""
        self.name, self.models, self._log = name, models, work / f"{name}.log"
        command = [sys.executable, "-m", "benchmarks.gpu.encoder_engines", name.partition("-")[0]]
        command += [*make_flags(work=work, precision=precision), "--models", *models]
        # Texts are part of what is measured here, with all threads.
        quiet = {**QUIET, "TOKENIZERS_PARALLELISM": "true"}
        environ = {**os.environ, **quiet, "PYTHONPATH": path}
        self._process = JsonProcess(name, command, self._log, environ, PROJECT)

    def ask(self, seconds: float = 60, **command: Any) -> dict[str, Any]:
        """Its answer, or why there is none."""
        asked = {"engine": self.name, **command}
        try:
            return {**asked, **self._process.ask(asked, seconds)}
        except UnavailableError as error:
            return {**asked, "failed": str(error), "log": read_end(self._log)}

    def end(self) -> None:
        self._process.stop()


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
        self._notes = Notes(self.work / "results.jsonl")
        self.note = self._notes.write
        self._workers: list[Worker] = []

    def start(self) -> list[tuple[Worker, str, str]]:
        """Every worker with each of its models and each load, in the order in which they are asked."""
        models, precision = self._arguments.models, self._arguments.precision
        self._workers = [Worker(self.work, "packed", models, str(SOURCE), precision)]
        if self._arguments.site:
            path = f"{self._arguments.site}:{SOURCE}"
            # Each its own process: one process of vLLM has one model.
            self._workers += [Worker(self.work, f"vllm-{one}", [one], path, precision) for one in models]
        if self._arguments.sentence:
            self._workers.append(Worker(self.work, "sentence", models, str(SOURCE), precision))
        alive = []
        for worker in self._workers:
            found = worker.ask(200, do="load")
            self.note(**found)
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
                if self._notes.seconds() < self._arguments.seconds:
                    self.note(round=number, **worker.ask(do="time", model=model, load=load))

    def end(self) -> None:
        for worker in self._workers:
            worker.end()
        self.note(done=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    needed = "with texts.json, references.npz and minilm/"
    parser.add_argument("--work", type=Path, required=True, help=needed)
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
