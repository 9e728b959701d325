"""Who takes part in one run of the benchmark, with the inputs that each of them reads."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.common.report import PROJECT, show_progress_note
from benchmarks.common.workloads import (
    Workload,
    draw_rerank,
    list_rerank_inputs,
    list_text_inputs,
    write_document,
)
from benchmarks.encoders.contenders import Contender, Task, TritonContender, WorkerContender
from benchmarks.encoders.infinity import InfinityContender
from benchmarks.encoders.models import (
    EMBEDDING,
    FP32,
    ONNX_INT8,
    OPENVINO,
    PAIR_RANKER,
    RERANKER,
    BenchModels,
    address_of,
)
from benchmarks.encoders.results import (
    FP32_IN_PROCESS,
    INFINITY,
    ORT_IN_PROCESS,
    OUR_PAIR_RANKER,
    OUR_RERANKER,
    OURS,
    OURS_IN_PROCESS,
    OURS_ON_OPENVINO,
    ST,
    Entrant,
    hide_folders,
)
from benchmarks.encoders.scenarios import Plan
from benchmarks.rivals.setup import ENVIRONMENTS, TORCH, read_failure
from trireme.errors import TriremeError, UnavailableError
from trireme.settings import Settings
from trireme.stack import Stack
from trireme.tune.perf_analyzer import PerfTool

CALIBRATION_TEXTS = 300
COUNTED_TEXTS = 400
RERANKED = {"rerank 20": 20, "rerank 100": 100}
LIBRARY_VARIANTS = {
    "torch": "encode, fp32",
    "torch-bf16": "encode, bfloat16",
    "onnx-int8": "encode, its ONNX backend, dynamic int8 for AVX-512 VNNI",
    "openvino-int8": "encode, its OpenVINO backend, static int8",
}
RANKER_VARIANTS = {
    "torch": "CrossEncoder.predict, fp32",
    "onnx-int8": "CrossEncoder.predict, ONNX, dynamic int8 for AVX-512 VNNI",
    "openvino-int8": "CrossEncoder.predict, OpenVINO, static int8",
}


@dataclass(frozen=True, slots=True)
class Bench:
    """What one run works with. `work` is kept between runs, `folder` goes away."""

    settings: Settings
    plan: Plan
    models: BenchModels
    work: Path
    folder: Path
    data: Path | None
    seed: int


def write_tasks(bench: Bench, workloads: Sequence[Workload], reranked: int) -> dict[str, Task]:
    """All inputs on disk, for workers, the HTTP load and perf_analyzer."""
    a, b, _ = workloads
    folder, tasks = bench.folder, {}
    for one in workloads:
        perf = write_document(folder / f"perf-{one.name}.json", data=list_text_inputs(one))
        texts = write_document(folder / f"{one.name}.json", texts=one.texts)
        tasks[one.name] = Task(one.name, texts, {EMBEDDING: perf, "plain": perf}, {}, 1, one.tokens)
    for name, size in RERANKED.items():
        drawn = draw_rerank(a, b, size, reranked, bench.seed)
        perf_files = {
            model: write_document(
                folder / f"perf-{model}-{size}.json", data=list_rerank_inputs(drawn, with_prior=has_prior)
            )
            for model, has_prior in ((PAIR_RANKER, False), (RERANKER, True))
        }
        queries = write_document(folder / f"rerank-{size}.json", queries=[asdict(one) for one in drawn])
        shapes = {PAIR_RANKER: (f"passages:{size}",), RERANKER: (f"passages:{size}", f"prior:{size}")}
        tasks[name] = Task(name, queries, perf_files, shapes, size)
    return tasks


def write_calibration(work: Path, mixed: Workload) -> None:
    """Texts that a rival calibrates its static int8 on: of workload c, from its end."""
    write_document(work / "calibration.json", texts=mixed.texts[-CALIBRATION_TEXTS:])


def list_ours(bench: Bench, stack: Stack, tool: PerfTool) -> list[Contender]:
    """Through Triton and in process. The models that are not built are left out."""
    address, models, cores = address_of(stack), bench.models, count_cores()
    served = stack.settings.model_repository

    def library(name: str, what: str, engine: str, model: Path, threads: int) -> WorkerContender:
        python, work = Path(sys.executable), bench.work
        return WorkerContender(
            name, what, python=python, engine=engine, model=model, work=work, threads=threads
        )

    what = "the same files, session and micro-batches without a server"
    found: list[Contender] = [
        TritonContender(OURS, "`embedding` through tritonserver, gRPC", EMBEDDING, address, tool),
        library(OURS_IN_PROCESS, what, "trireme/served", served / EMBEDDING, 0),
    ]
    alone = (
        (
            ONNX_INT8,
            ORT_IN_PROCESS,
            "our int8 ONNX graph on ONNX Runtime, rows sorted, small runs",
            "onnxruntime",
        ),
        (OPENVINO, OURS_ON_OPENVINO, "our static int8 graph for OpenVINO, the same micro-batches", "trireme"),
        (FP32, FP32_IN_PROCESS, "our fp32 ONNX graph in process: what quality is compared with", "trireme"),
    )
    found += [
        library(name, what, f"{engine}/{model}", models.path(model), cores)
        for model, name, what, engine in alone
        if model not in models.missing
    ]
    rankers = (
        (RERANKER, OUR_RERANKER, "the default `reranker` through tritonserver; of 100 it reads the best 20"),
        (PAIR_RANKER, OUR_PAIR_RANKER, "the rivals' cross-encoder, built by us, through tritonserver"),
    )
    found += [
        TritonContender(name, what, model, address, tool)
        for model, name, what in rankers
        if (served / model).is_dir()
    ]
    return found


def list_rivals(bench: Bench) -> list[Contender]:
    """All of them, whether or not they can be started."""
    models = bench.models
    found: list[Contender] = [
        WorkerContender(
            f"{ST} {variant}{suffix}",
            what,
            python=ENVIRONMENTS / ST / "bin" / "python",
            engine=f"{ST}/{variant}{suffix.replace(' ', '-')}",
            model=model,
            work=bench.work,
            threads=count_cores(),
        )
        for variants, suffix, model in (
            (LIBRARY_VARIANTS, "", models.embedder),
            (RANKER_VARIANTS, " pairs", models.pair_ranker),
        )
        for variant, what in variants.items()
    ]
    versions = read_lock_versions("infinity", ("infinity_emb", "optimum", "onnxruntime", "transformers"))
    versions["torch"] = TORCH.partition("==")[2]
    folders = {"embedder": models.embedder, "ranker": models.pair_ranker}
    quantized = {called: bench.work / f"{folder.name}-infinity" for called, folder in folders.items()}
    engines = (
        ("torch", "torch", "its HTTP API, torch engine, fp32", folders),
        ("optimum", "optimum int8", "its HTTP API, ONNX Runtime on a dynamic int8 graph", quantized),
    )
    environment = ENVIRONMENTS / "infinity"
    found += [
        InfinityContender(
            f"{INFINITY} {name}",
            what,
            environment=environment,
            engine=engine,
            models=loaded,
            work=bench.work,
            versions=versions,
        )
        for engine, name, what, loaded in engines
    ]
    return found


def read_lock_versions(name: str, wanted: Sequence[str]) -> dict[str, str]:
    """Of an environment that is made from its lock file."""
    text = (PROJECT / "benchmarks" / "rivals" / f"{name}.lock").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))
    return {one: pinned[one] for one in wanted if one in pinned}


def place_infinity_folders(models: BenchModels, work: Path) -> None:
    """Copies of the checkpoints with one ONNX file: the int8 one that sentence-transformers exported.

    Raises UnavailableError where that one is not there.
    """
    for folder in (models.embedder, models.pair_ranker):
        exported = work / f"{folder.name}-onnx-int8" / "onnx" / "model_qint8_avx512_vnni.onnx"
        target = work / f"{folder.name}-infinity"
        if not exported.is_file():
            raise UnavailableError("sentence-transformers, which exports its ONNX file, did not run")
        if not (target / "onnx" / "model_quantized.onnx").is_file():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(folder, target)
            (target / "onnx").mkdir()
            shutil.copy(exported, target / "onnx" / "model_quantized.onnx")


def start_contenders(
    contenders: Sequence[Contender], bench: Bench, resources: ExitStack
) -> tuple[dict[str, Contender], list[Entrant]]:
    """Those that start, by name, and all of them with what is known of them."""
    ready: dict[str, Contender] = {}
    entrants = []
    for contender in contenders:
        show_progress_note(f"Starting {contender.name}")
        resources.callback(contender.stop)
        try:
            if contender.name == f"{INFINITY} optimum int8":
                place_infinity_folders(bench.models, bench.work)
            versions = contender.start()
        except (TriremeError, OSError) as error:
            environment = "infinity" if contender.name.startswith(INFINITY) else ST
            reason = hide_folders(read_failure(environment) or str(error))
            show_progress_note(f"{contender.name}: {reason}")
            entrants.append(Entrant(contender.name, contender.what, error=reason))
            continue
        contender.pause(True)
        ready[contender.name] = contender
        entrants.append(Entrant(contender.name, contender.what, versions))
    return ready, entrants


def check_tokens(ready: Mapping[str, Contender], task: Task) -> dict[str, bool]:
    """Whether each library counts the first texts' tokens as we do, cut at the same limit."""
    agreed = {}
    for name, contender in ready.items():
        if isinstance(contender, WorkerContender) and not name.endswith(" pairs"):
            counted = contender.ask(do="count", file=str(task.file), count=COUNTED_TEXTS)["tokens"]
            agreed[name] = counted == list(task.tokens[:COUNTED_TEXTS])
    return agreed


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
