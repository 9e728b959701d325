"""Measure the encoders through Triton beside their rivals; write benchmarks/results and docs/performance.md."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from bench_bars import judge
from bench_models import (
    EMBEDDING,
    FP32,
    ONNX_INT8,
    PAIR_RANKER,
    RERANKER,
    SEARCH_CHAIN,
    BenchModels,
    address_of,
    count_operations,
    prepare_models,
    start_baseline,
    start_ours,
)
from bench_report import format_bars, format_document, plot
from bench_results import (
    INFINITY,
    ORT_IN_PROCESS,
    OUR_PAIR_RANKER,
    OUR_RERANKER,
    OURS,
    OURS_IN_PROCESS,
    PLAIN,
    ST,
    BenchReport,
    Entrant,
    QualityFigure,
    WorkloadFacts,
)
from bench_scenarios import FULL, SMOKE, Plan, Runner, list_poisson, list_scenarios
from contenders import Contender, InfinityContender, Task, TritonContender, WorkerContender
from quality import rank_by_cosine
from report import DOCS, PROJECT, RESULTS, read_circumstances, show_progress_note, write_json
from rich.console import Console
from search_stages import SearchClient, SearchStages, measure_search
from setup_rivals import ENVIRONMENTS, read_failure
from workloads import (
    Drawer,
    Sizes,
    TokenizerFile,
    Workload,
    draw_rerank,
    draw_workloads,
    read_texts,
    write_perf_rerank,
    write_perf_texts,
    write_rerank,
    write_texts,
)

from trireme.artifacts.manifest import TOKENIZER_FILE, read_manifest
from trireme.artifacts.repository import version_dir
from trireme.errors import NotFoundError, TriremeError, UnavailableError
from trireme.quality import evaluate, read_beir
from trireme.retrieve.registry import open_store
from trireme.serve import Stack
from trireme.settings import Settings, read_settings
from trireme.triton.perf_analyzer import PerfTool, prepare_tool

SEED = 1
CALIBRATION_TEXTS = 300
COUNTED_TEXTS = 400
RERANKED = {"rerank 20": 20, "rerank 100": 100}
SMOKE_SIZES = Sizes(queries=300, passages=120, mixed=160, reranked=8)
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
    tasks = {}
    for one in workloads:
        perf = write_perf_texts(bench.folder / f"perf-{one.name}.json", one)
        texts = write_texts(bench.folder / f"{one.name}.json", one)
        tasks[one.name] = Task(one.name, texts, {EMBEDDING: perf, "plain": perf}, {}, 1, one.tokens)
    for name, size in RERANKED.items():
        drawn = draw_rerank(a, b, size, reranked, bench.seed)
        stem = name.replace(" ", "-")
        file = write_rerank(bench.folder / f"{stem}.json", drawn)
        plain = write_perf_rerank(bench.folder / f"perf-{stem}.json", drawn, with_prior=False)
        prior = write_perf_rerank(bench.folder / f"perf-{stem}-prior.json", drawn, with_prior=True)
        shapes = {PAIR_RANKER: (f"passages:{size}",), RERANKER: (f"passages:{size}", f"prior:{size}")}
        tasks[name] = Task(name, file, {PAIR_RANKER: plain, RERANKER: prior}, shapes, size)
    return tasks


def list_ours(bench: Bench, stack: Stack, tool: PerfTool) -> list[Contender]:
    """Through Triton and in process. The models that are not built are left out."""
    address, models, threads = address_of(stack), bench.models, len_cores()
    served = stack.settings.model_repository
    python = Path(sys.executable)
    found: list[Contender] = [
        TritonContender(OURS, "`embedding` through tritonserver, gRPC", EMBEDDING, address, tool),
        WorkerContender(
            OURS_IN_PROCESS,
            "the same files, session and micro-batches without a server",
            python=python,
            engine="trireme/served",
            model=served / EMBEDDING,
            work=bench.work,
            threads=0,
        ),
    ]
    if (models.path(ONNX_INT8)).is_dir() and ONNX_INT8 not in models.missing:
        found.append(
            WorkerContender(
                ORT_IN_PROCESS,
                "our int8 ONNX graph on ONNX Runtime, rows sorted, small runs",
                python=python,
                engine="onnxruntime/int8",
                model=models.path(ONNX_INT8),
                work=bench.work,
                threads=threads,
            )
        )
    rankers = {
        OUR_RERANKER: (RERANKER, "the default `reranker` through tritonserver; of 100 it reads the best 20"),
        OUR_PAIR_RANKER: (PAIR_RANKER, "the rivals' cross-encoder, built by us, through tritonserver"),
    }
    for name, (model, what) in rankers.items():
        if (served / model).is_dir():
            found.append(TritonContender(name, what, model, address, tool))
    return found


def list_rivals(bench: Bench) -> list[Contender]:
    """All of them, whether or not they can be started."""
    threads, models = len_cores(), bench.models
    python = ENVIRONMENTS / ST / "bin" / "python"
    found: list[Contender] = []
    for variants, suffix, model in (
        (LIBRARY_VARIANTS, "", models.embedder),
        (RANKER_VARIANTS, " pairs", models.pair_ranker),
    ):
        found += [
            WorkerContender(
                f"{ST} {variant}{suffix}",
                what,
                python=python,
                engine=f"{ST}/{variant}{suffix.replace(' ', '-')}",
                model=model,
                work=bench.work,
                threads=threads,
            )
            for variant, what in variants.items()
        ]
    versions = read_lock_versions(
        "infinity", ("infinity_emb", "torch", "optimum", "onnxruntime", "transformers")
    )
    folders = {"embedder": models.embedder, "ranker": models.pair_ranker}
    quantized = {called: bench.work / f"{folder.name}-infinity" for called, folder in folders.items()}
    for engine, name, what, loaded in (
        ("torch", f"{INFINITY} torch", "its HTTP API, torch engine, fp32", folders),
        (
            "optimum",
            f"{INFINITY} optimum int8",
            "its HTTP API, ONNX Runtime on a dynamic int8 graph",
            quantized,
        ),
    ):
        found.append(
            InfinityContender(
                name,
                what,
                environment=ENVIRONMENTS / "infinity",
                engine=engine,
                models=loaded,
                work=bench.work,
                versions=versions,
            )
        )
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
    import shutil

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
            reason = read_failure(environment) or str(error)
            show_progress_note(f"{contender.name}: {reason}")
            entrants.append(Entrant(contender.name, contender.what, error=reason))
            continue
        contender.pause(True)
        ready[contender.name] = contender
        entrants.append(Entrant(contender.name, contender.what, versions))
    return ready, entrants


def len_cores() -> int:
    """Cores that this process may use."""
    import os

    return len(os.sched_getaffinity(0))


def measure_rates() -> dict[str, float]:
    """This machine's matrix rates now, from a process of its own. Empty where torch is not there."""
    command = [sys.executable, str(PROJECT / "benchmarks" / "matrix_rate.py"), "--threads", str(len_cores())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        show_progress_note(f"no matrix rate: {done.stderr.strip()[-200:]}")
        return {}
    return dict(json.loads(done.stdout))


def check_tokens(ready: Mapping[str, Contender], task: Task) -> dict[str, bool]:
    """Whether each library counts the first texts' tokens as we do, cut at the same limit."""
    agreed = {}
    for name, contender in ready.items():
        if isinstance(contender, WorkerContender) and not name.endswith(" pairs"):
            counted = contender.ask(do="count", file=str(task.file), count=COUNTED_TEXTS)["tokens"]
            agreed[name] = counted == list(task.tokens[:COUNTED_TEXTS])
    return agreed


def index_and_search(
    bench: Bench, stack: Stack, passages: Sequence[str], queries: Sequence[str]
) -> SearchStages:
    """Indexes the passages through the served embedding, then searches one query at a time. Blocks."""
    from trireme.index import ingest_path

    corpus = bench.folder / "corpus"
    corpus.mkdir()
    lines = [json.dumps({"_id": f"p{number}", "text": text}) for number, text in enumerate(passages)]
    (corpus / "corpus.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    show_progress_note(f"Indexing {len(passages):,} passages")
    ingest_path(stack.settings, corpus, stack.database_url, Console(stderr=True))
    with closing(open_store(stack.database_url)) as store:
        indexed = sum(info.passages for info in store.collections(stack.settings.tenant))
    steps = (EMBEDDING, RERANKER, *(step for step in SEARCH_CHAIN if step != "search"))
    with SearchClient(stack.settings.grpc_url, steps) as client:
        return measure_search(client.ask, client.read_times, queries, indexed)


def measure_quality(bench: Bench, ready: Mapping[str, Contender], runner: Runner) -> list[QualityFigure]:
    """nDCG@10 of every engine that runs in process, and of our fp32 build; none without a BEIR folder."""
    if bench.data is None:
        return []
    try:
        beir = read_beir(bench.data, "dev")
    except NotFoundError:
        beir = read_beir(bench.data)
    passages = {key: text for key, text in beir.corpus.items() if text.strip()}
    queries = {key: text for key, text in beir.queries.items() if text.strip()}
    file, out = bench.folder / "quality.json", bench.folder / "vectors.npy"
    file.write_text(json.dumps({"texts": [*passages.values(), *queries.values()]}), encoding="utf-8")
    engines = {"fp32": start_fp32(bench)}
    named = {OURS: OURS_IN_PROCESS}
    for name in (OURS, *(n for n in ready if n.startswith(ST) and n.endswith(("int8", "bf16")))):
        found = ready.get(named.get(name, name))
        if isinstance(found, WorkerContender):
            engines[name] = found
    figures = []
    for name, worker in engines.items():
        if runner.is_late():
            runner.left_out.append(f"nDCG@10 of {name}")
            continue
        show_progress_note(f"nDCG@10 of {name}")
        try:
            worker.ask(do="vectors", file=str(file), out=str(out))
        except UnavailableError as error:
            show_progress_note(f"no nDCG@10 of {name}: {error}")
            continue
        vectors = np.load(out)
        ranked = rank_by_cosine(vectors[len(passages) :], vectors[: len(passages)], list(passages))
        found_figures = evaluate(beir.name, dict(zip(queries, ranked, strict=True)), beir.qrels)
        figures.append(QualityFigure(name, beir.name, found_figures.queries, found_figures.ndcg_at_10))
    engines["fp32"].stop()
    return figures


def start_fp32(bench: Bench) -> WorkerContender:
    """Our fp32 build in process; a job to one that does not start raises UnavailableError."""
    worker = WorkerContender(
        "fp32",
        "our fp32 build on ONNX Runtime",
        python=Path(sys.executable),
        engine="trireme/fp32",
        model=bench.models.path(FP32),
        work=bench.work,
        threads=0,
    )
    try:
        worker.start()
    except UnavailableError as error:
        show_progress_note(f"no fp32 to compare with: {error}")
    return worker


def run_all(options: argparse.Namespace, words: Sequence[str]) -> BenchReport:
    """Everything, from the models to the figures. Raises TriremeError; leaves no process behind."""
    began = time.monotonic()
    plan = SMOKE if options.smoke else FULL
    settings = read_settings()
    circumstances = read_circumstances(__file__, words, options.seed)
    tool = prepare_tool(settings.data_dir)
    work = settings.data_dir.resolve() / "bench"
    work.mkdir(parents=True, exist_ok=True)
    if options.smoke:
        # As they are served: what a build of minutes would change does not matter here.
        repository = settings.model_repository
        models = BenchModels(work, work, repository, {FP32: "", ONNX_INT8: "", PAIR_RANKER: ""})
    else:
        models = prepare_models(settings, work, show_progress_note)
    built = version_dir(models.repository, EMBEDDING)
    sizes = SMOKE_SIZES if options.smoke else Sizes()
    sizes = replace(sizes, longest=read_manifest(built).max_length)
    show_progress_note("Drawing the texts")
    passages, queries = read_texts(options.data)
    counter = TokenizerFile(built / TOKENIZER_FILE)
    workloads = draw_workloads(passages, queries, counter, sizes, options.seed)
    write_calibration(work, workloads[2])
    with tempfile.TemporaryDirectory(prefix="trireme-") as name, ExitStack() as resources:
        bench = Bench(settings, plan, models, work, Path(name), options.data, options.seed)
        tasks = write_tasks(bench, workloads, sizes.reranked)
        show_progress_note("Starting our server")
        stack = start_ours(settings, models, bench.folder / "ours", resources)
        contenders = list_ours(bench, stack, tool)
        plain: list[Entrant] = []
        if options.rivals:
            contenders += list_rivals(bench)
            try:
                address = start_baseline(settings, models, bench.folder / "plain", resources)
                contenders.append(TritonContender(PLAIN, "benchmarks/baseline", "plain", address, tool))
            except (TriremeError, OSError) as error:
                plain.append(Entrant(PLAIN, "benchmarks/baseline", error=str(error)))
        ready, entrants = start_contenders(contenders, bench, resources)
        agreed = check_tokens(ready, tasks["c"])
        runner = Runner(ready, tasks, plan, show_progress_note)
        scenarios = list_scenarios(plan)
        rates = [measure_rates()]
        half = len(scenarios) // 2
        runner.run(scenarios[:half])
        rates += [measure_rates()] if plan.rates > 1 else []
        runner.run(list_poisson(plan, runner.points))
        search = run_search(bench, stack, runner, (passages, queries), counter)
        runner.run(scenarios[half:])
        quality = measure_quality(bench, ready, runner)
        rates += [measure_rates()] if plan.rates > 2 else []
        return BenchReport(
            workloads=tuple(describe_workload(one) for one in workloads),
            entrants=tuple([*entrants, *plain]),
            points=tuple(runner.points),
            failures=tuple(runner.failures),
            rates=tuple(rates),
            operations=describe_operations(models, workloads),
            tokens_agree=agreed,
            quality=tuple(quality),
            search=search,
            left_out=tuple(runner.left_out),
            seconds=time.monotonic() - began,
            circumstances=circumstances,
        )


def write_calibration(work: Path, mixed: Workload) -> None:
    """Texts that a rival calibrates its static int8 on: of workload c, from its end."""
    texts = mixed.texts[-CALIBRATION_TEXTS:]
    (work / "calibration.json").write_text(json.dumps({"texts": texts}), encoding="utf-8")


def run_search(
    bench: Bench,
    stack: Stack,
    runner: Runner,
    texts: tuple[Sequence[str], Sequence[str]],
    counter: TokenizerFile,
) -> SearchStages | None:
    """`search` over passages of workload b's lengths, or None where the chain is not built or no time is left."""
    if runner.is_late() or not (stack.settings.model_repository / "search").is_dir():
        runner.left_out.append("search")
        return None
    passages, queries = texts
    drawer = Drawer(passages, counter, bench.seed + 1)
    indexed = drawer.draw(bench.plan.indexed, (30, 256), passages)
    asked = drawer.draw(bench.plan.searches + 5, (4, 16), queries)
    found = index_and_search(bench, stack, indexed, asked)
    show_progress_note(f"search: {found.total_ms:.1f} ms, of it the chain itself {found.rest_ms:.1f} ms")
    return found


def describe_workload(workload: Workload) -> WorkloadFacts:
    tokens = np.array(workload.tokens, float)
    return WorkloadFacts(
        workload.name, workload.what, len(tokens), float(tokens.mean()), float((tokens**2).mean())
    )


def describe_operations(models: BenchModels, workloads: Sequence[Workload]) -> dict[str, float]:
    """Of one text of each workload; empty where the checkpoint's shape is not known."""
    path = models.embedder / "config.json"
    if not path.is_file():
        return {}
    config = json.loads(path.read_text(encoding="utf-8"))
    facts = [describe_workload(one) for one in workloads]
    return {one.name: count_operations(config, one.tokens, one.tokens_squared) for one in facts}


def name_result(report: BenchReport) -> str:
    """DATE-MACHINE.json: the day, the processor and its cores."""
    seen = report.circumstances
    machine = re.sub(r"[^a-z0-9]+", "-", f"{seen.cpu} {seen.cores} cores".lower()).strip("-")
    return f"{seen.date[:10]}-{machine}.json"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="texts from this BEIR folder; default: our own docs")
    parser.add_argument(
        "--rivals", action=argparse.BooleanOptionalAction, default=True, help="measure the rivals too"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a minute of tiny sizes without rivals; prints, writes no file"
    )
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the inputs (default {SEED})")
    given = parser.parse_args(arguments)
    given.rivals = given.rivals and not given.smoke
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_arguments(words)
    try:
        report = run_all(options, words)
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_bars(judge(report)))
    if not options.smoke:
        write_json(RESULTS / name_result(report), report)
        plot(report, DOCS)
        (DOCS / "performance.md").write_text(format_document(report), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
