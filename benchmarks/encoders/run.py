"""Measures the encoders through Triton beside their rivals; writes benchmarks/results and docs/performance.md."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.common.report import (
    DOCS,
    PROJECT,
    RESULTS,
    read_circumstances,
    show_progress_note,
    write_json,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.common.workloads import (
    Drawer,
    Sizes,
    TokenizerFile,
    Workload,
    draw_workloads,
    read_texts,
    write_corpus,
)
from benchmarks.encoders import lineup, models
from benchmarks.encoders.contenders import TritonContender, WorkerContender
from benchmarks.encoders.lineup import Bench
from benchmarks.encoders.models import EMBEDDING, RERANKER, BenchModels
from benchmarks.encoders.page import format_bars, format_document, plot
from benchmarks.encoders.quality import COMPARED_TEXTS, compare_vectors, measure_quality
from benchmarks.encoders.results import PLAIN, BenchReport, Entrant, WorkloadFacts, hide_folders
from benchmarks.encoders.scenarios import FULL, SMOKE, Runner, list_poisson, list_scenarios
from benchmarks.search.stages import SearchClient, SearchStages, measure_search, read_encoder_seconds
from trireme.artifacts.manifest import TOKENIZER_FILE, read_manifest
from trireme.artifacts.repository import version_dir
from trireme.errors import TriremeError
from trireme.settings import read_settings
from trireme.stack import Stack
from trireme.storage import open_store
from trireme.triton.metrics import read_metrics
from trireme.tune.perf_analyzer import prepare_tool

SEED = 1
SMOKE_SIZES = Sizes(queries=300, passages=120, mixed=160, reranked=8)


def measure_rates() -> dict[str, float]:
    """This machine's matrix rates now, from a process of its own. Empty where torch is not there."""
    command = [sys.executable, "-m", "benchmarks.encoders.matrix_rate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    if done.returncode:
        show_progress_note(f"no matrix rate: {done.stderr.strip()[-200:]}")
        return {}
    return dict(json.loads(done.stdout))


def index_and_search(
    bench: Bench, stack: Stack, passages: Sequence[str], queries: Sequence[str]
) -> SearchStages:
    """Indexes the passages through the served embedding, then searches one query at a time. Blocks."""
    from trireme.indexing import ingest_path

    show_progress_note(f"Indexing {len(passages):,} passages")
    corpus, server = write_corpus(bench.folder / "corpus", passages), stack.settings
    ingest_path(server, corpus, stack.database_url, Console(stderr=True))
    with closing(open_store(stack.database_url)) as store:
        indexed = sum(info.passages for info in store.collections(server.tenant))
    steps = (EMBEDDING, RERANKER, *(step for step in models.SEARCH_CHAIN if step != "search"))
    page = partial(read_metrics, server.host, server.metrics_port)
    with SearchClient(server.grpc_url, steps) as client:
        read_encoders = partial(read_encoder_seconds, page, [EMBEDDING, RERANKER])
        return measure_search(client.ask, client.read_times, queries, indexed, read_encoders=read_encoders)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run needs beside servers. `texts`: (passages, queries) that further texts are drawn from."""

    bench: Bench
    sizes: Sizes
    texts: tuple[Sequence[str], Sequence[str]]
    counter: TokenizerFile
    workloads: tuple[Workload, Workload, Workload]


def prepare(options: argparse.Namespace) -> Prepared:
    """Models and texts. Blocks for minutes the first time. Raises TriremeError."""
    settings = read_settings()
    work = settings.data_dir.resolve() / "bench"
    work.mkdir(parents=True, exist_ok=True)
    if options.smoke:
        # As they are served: what a build of minutes would change does not matter here.
        built = BenchModels(work, work, settings.model_repository, dict.fromkeys(models.OWN_BUILDS, ""))
    else:
        built = models.prepare_models(settings, work)
    embedding = version_dir(built.repository, EMBEDDING)
    sizes = replace(SMOKE_SIZES if options.smoke else Sizes(), longest=read_manifest(embedding).max_length)
    show_progress_note("Drawing the texts")
    texts, counter = read_texts(options.data), TokenizerFile(embedding / TOKENIZER_FILE)
    workloads = draw_workloads(*texts, counter, sizes, options.seed)
    lineup.write_calibration(work, workloads[2])
    plan = SMOKE if options.smoke else FULL
    bench = Bench(settings, plan, built, work, work, options.data, options.seed)
    return Prepared(bench, sizes, texts, counter, workloads)


def export_rivals(options: argparse.Namespace) -> None:
    """Has each library export its files where they are not there yet, so that no run waits for it. Blocks."""
    for rival in lineup.list_rivals(prepare(options).bench):
        if isinstance(rival, WorkerContender) and not rival.is_exported():
            show_progress_note(f"{rival.name}: its library exports the model")
            try:
                rival.start()
            except (TriremeError, OSError) as error:
                show_progress_note(f"{rival.name}: {error}")
            finally:
                rival.stop()


def run_all(options: argparse.Namespace, words: Sequence[str]) -> BenchReport:
    """Everything, from the models to the figures. Raises TriremeError; leaves no process behind."""
    began = time.monotonic()
    circumstances = read_circumstances("benchmarks.encoders.run", words, options.seed)
    prepared = prepare(options)
    workloads, plan, built = prepared.workloads, prepared.bench.plan, prepared.bench.models
    settings = prepared.bench.settings
    tool = prepare_tool(settings.data_dir)
    with tempfile.TemporaryDirectory(prefix="trireme-") as name, ExitStack() as resources:
        bench = replace(prepared.bench, folder=Path(name))
        tasks = lineup.write_tasks(bench, workloads, prepared.sizes.reranked)
        show_progress_note("Starting our server")
        stack = models.start_ours(settings, built, bench.folder / "ours", resources)
        plain: list[Entrant] = []
        contenders = lineup.list_ours(bench, stack, tool)
        if options.rivals:
            contenders += lineup.list_rivals(bench)
            try:
                address = models.start_baseline(built, bench.folder / "plain", resources)
                contenders.append(
                    TritonContender(PLAIN, "benchmarks/encoders/baseline", "plain", address, tool)
                )
            except (TriremeError, OSError) as error:
                reason = hide_folders(str(error))
                plain.append(Entrant(PLAIN, "benchmarks/encoders/baseline", error=reason))
        ready, entrants = lineup.start_contenders(contenders, bench, resources)
        agreed = lineup.check_tokens(ready, tasks["c"])
        cosines = compare_vectors(ready, workloads[2].texts[:COMPARED_TEXTS])
        runner = Runner(ready, tasks, plan, show_progress_note, began)
        scenarios = list_scenarios(plan)
        rates = [measure_rates()]
        half = (len(scenarios) + 1) // 2
        runner.run(scenarios[:half])
        rates += [measure_rates()] if plan.rates > 1 else []
        runner.run(list_poisson(plan, runner.points))
        search = run_search(bench, stack, runner, prepared)
        quality = measure_quality(bench, ready, runner, rivals=False)
        runner.run(scenarios[half:])
        quality += measure_quality(bench, ready, runner, rivals=True)
        rates += [measure_rates()] if plan.rates > 2 else []
        facts = tuple(describe_workload(one) for one in workloads)
        return BenchReport(
            workloads=facts,
            entrants=tuple([*entrants, *plain]),
            points=tuple(runner.points),
            failures=tuple(runner.failures),
            rates=tuple(rates),
            operations=describe_operations(built, facts),
            tokens_agree=agreed,
            cosines=cosines,
            quality=tuple(quality),
            search=search,
            left_out=tuple(runner.left_out),
            seconds=time.monotonic() - began,
            circumstances=circumstances,
        )


def run_search(bench: Bench, stack: Stack, runner: Runner, prepared: Prepared) -> SearchStages | None:
    """`search` over passages of workload b's lengths, or None where the chain is not built or no time is left."""
    if runner.is_late() or not (stack.settings.model_repository / "search").is_dir():
        runner.left_out.append("search")
        return None
    passages, queries = prepared.texts
    drawer = Drawer(passages, prepared.counter, bench.seed + 1)
    indexed = drawer.draw(bench.plan.indexed, (30, 256), passages)
    asked = drawer.draw(bench.plan.searches + 5, (4, 16), queries)
    found = index_and_search(bench, stack, indexed, asked)
    show_progress_note(f"search: {found.total_ms:.1f} ms, of it the chain itself {found.rest_ms:.1f} ms")
    return found


def describe_workload(workload: Workload) -> WorkloadFacts:
    tokens = np.array(workload.tokens, float)
    means = float(tokens.mean()), float((tokens**2).mean())
    return WorkloadFacts(workload.name, workload.what, len(tokens), *means)


def describe_operations(built: BenchModels, facts: Sequence[WorkloadFacts]) -> dict[str, float]:
    """Of one text of each workload; empty where the checkpoint's shape is not known."""
    path = built.embedder / "config.json"
    if not path.is_file():
        return {}
    config = json.loads(path.read_text(encoding="utf-8"))
    return {one.name: models.count_operations(config, one.tokens, one.tokens_squared) for one in facts}


def name_result(report: BenchReport) -> str:
    """DATE-MACHINE.json: the day, the processor and its cores."""
    seen = report.circumstances
    machine = re.sub(r"[^a-z0-9]+", "-", f"{seen.cpu} {seen.cores} cores".lower()).strip("-")
    return f"{seen.date[:10]}-{machine}.json"


def work(options: argparse.Namespace, words: list[str]) -> None:
    """All of it, and the pages."""
    options.rivals = options.rivals and not options.smoke
    if options.prepare:
        export_rivals(options)
        return
    report = run_all(options, words)
    print(format_bars(report))
    if not options.smoke:
        write_json(RESULTS / name_result(report), report)
        plot(report, DOCS)
        (DOCS / "performance.md").write_text(format_document(report), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, help="texts from this BEIR folder; default: our own docs")
    parser.add_argument(
        "--rivals", action=argparse.BooleanOptionalAction, default=True, help="measure them too"
    )
    smoke = "a minute of tiny sizes without rivals; prints, writes no file"
    parser.add_argument("--smoke", action="store_true", help=smoke)
    only = "only build the models and have the rivals export theirs"
    parser.add_argument("--prepare", action="store_true", help=only)
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the inputs (default {SEED})")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
