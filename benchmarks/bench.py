"""Measure the served models with perf_analyzer, with and without dynamic batching; write docs/performance.md."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench_inputs import Inputs, write_inputs
from bench_report import BenchReport, Measurement, TokenizerTime, format_document, plot, print_measurements
from local_stack import make_settings
from report import DOCS, RESULTS, read_circumstances, show_progress_note, write_json
from rich.console import Console
from rich.progress import Progress
from server_load import compare_counts, read_counts, read_processor_time

from trireme.errors import TriremeError, UnavailableError
from trireme.serve import Stack
from trireme.settings import Settings, read_settings
from trireme.triton.perf_analyzer import WINDOWS, PerfRun, PerfTool, measure, prepare_tool

MODELS = ("embedding", "reranker", "search")
SEED = 1
ENCODED_TEXTS = 256
# Enough to learn how fast a model is, so that the runs that count last as long as planned.
PROBE_REQUESTS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How long (`window_s`: seconds of a window with one request in flight) and how much.

    `budget_s` seconds after the start, no further point is begun.
    """

    concurrency: tuple[int, ...]
    window_s: float
    entries: int
    passages: int
    budget_s: float


FULL = Plan(concurrency=(1, 8, 32), window_s=3.0, entries=4000, passages=1000, budget_s=400)
QUICK = Plan(concurrency=(1, 8), window_s=1.0, entries=1000, passages=150, budget_s=90)


def copy_repository(source: Path, target: Path, *, dynamic_batching: bool) -> None:
    """A model repository with the same version folders, as links, and configurations of its own.

    The response cache is off in all of them. Raises SettingError for a recipe that cannot be read.
    """
    from trireme.artifacts.config_writer import place_config
    from trireme.artifacts.recipe import RECIPE_FILE
    from trireme.artifacts.repository import list_recipes

    for recipe in list_recipes(source):
        folder = target / recipe.model
        folder.mkdir(parents=True)
        shutil.copy(source / recipe.model / RECIPE_FILE, folder)
        changed: dict[str, Any] = {}
        if recipe.has_weights:
            changed = {"dynamic_batching": dynamic_batching, "response_cache": False}
        place_config(folder, dataclasses.replace(recipe, **changed))
        for version in (source / recipe.model).glob("[0-9]*"):
            (folder / version.name).symlink_to(version.resolve())


def find_models(repository: Path) -> tuple[str, ...]:
    """Those of MODELS that are there and built; says on stderr which are not."""
    from trireme.artifacts.repository import is_built, list_recipes

    built = {recipe.model for recipe in list_recipes(repository) if is_built(repository, recipe)}
    for model in MODELS:
        if model not in built:
            show_progress_note(f"{model}: not in {repository.name}, left out")
    return tuple(model for model in MODELS if model in built)


def choose_requests(plan: Plan, concurrency: int, rate: float) -> int:
    """How many requests to send: what `rate` requests/s make in three windows, two waves at least."""
    return max(round(rate * WINDOWS * plan.window_s), 2 * concurrency, PROBE_REQUESTS)


def measure_point(tool: PerfTool, stack: Stack, run: PerfRun, *, dynamic_batching: bool) -> Measurement:
    """One perf_analyzer run with what it cost the server. Blocks; raises UnavailableError."""
    from trireme.triton.metrics import read_metrics

    host, port = stack.settings.host, stack.settings.metrics_port
    before, busy_before = read_counts(read_metrics(host, port)), read_processor_time(stack.server.pid)
    started = time.monotonic()
    figures = measure(tool, run)
    seconds = time.monotonic() - started
    after, busy_after = read_counts(read_metrics(host, port)), read_processor_time(stack.server.pid)
    return Measurement(
        dynamic_batching=dynamic_batching,
        client=figures,
        steps=compare_counts(before, after),
        server_cores=(busy_after.session_s - busy_before.session_s) / seconds,
        busy_cores=(busy_after.machine_s - busy_before.machine_s) / seconds,
    )


def measure_models(
    tool: PerfTool, stacks: dict[bool, Stack], models: Sequence[str], inputs: Inputs, plan: Plan
) -> Iterator[Measurement]:
    """With and without dynamic batching one right after the other, so that both see the same machine.

    Names on stderr what the plan's budget leaves no time for.
    """
    deadline = time.monotonic() + plan.budget_s
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("perf_analyzer", total=len(models) * len(plan.concurrency) * len(stacks))
        for model in models:
            run = PerfRun(
                model,
                stacks[True].settings.grpc_url,
                concurrency=1,
                input_data=inputs.files[model],
                window_s=plan.window_s,
                shapes=inputs.shapes.get(model, ()),
                requests=PROBE_REQUESTS,
            )
            rate = measure(tool, run).requests_per_s
            for concurrency in plan.concurrency:
                if time.monotonic() > deadline:
                    show_progress_note(f"{model}, {concurrency} in flight: left out, the time is up")
                    continue
                requests = choose_requests(plan, concurrency, rate)
                for batching, stack in stacks.items():
                    progress.update(task, description=f"{model}, {concurrency} in flight")
                    url = stack.settings.grpc_url
                    run = dataclasses.replace(run, url=url, concurrency=concurrency, requests=requests)
                    point = measure_point(tool, stack, run, dynamic_batching=batching)
                    progress.advance(task)
                    yield point
                    if concurrency == 1:
                        rate = point.client.requests_per_s


def measure_tokenizer(repository: Path, texts: Sequence[str]) -> TokenizerTime:
    """Tokenizing and the whole of embedding `texts` in this process, no server in between. Blocks."""
    from quality import open_encoder

    from trireme.artifacts.manifest import TOKENIZER_FILE, read_manifest
    from trireme.artifacts.repository import version_dir
    from trireme.encode.tokenizer import Tokenizer

    folder = version_dir(repository, "embedding")
    tokenizer = Tokenizer.load(folder / TOKENIZER_FILE, read_manifest(folder).max_length)
    embed = open_encoder(folder)
    embed(texts[:8], "passage")
    started = time.monotonic()
    rows = tokenizer.encode_texts(texts)
    tokenized = time.monotonic()
    embed(texts, "passage")
    done = time.monotonic()
    return TokenizerTime(
        texts=len(texts),
        tokens=sum(len(row.ids) for row in rows),
        tokenize_s=tokenized - started,
        embed_s=done - tokenized,
    )


def start_stacks(settings: Settings, folder: Path, resources: ExitStack) -> dict[bool, Stack]:
    """Two servers on one database, with and without dynamic batching; `resources` ends them."""
    stacks: dict[bool, Stack] = {}
    for batching in (True, False):
        repository = folder / ("batching" if batching else "single") / "models"
        copy_repository(settings.model_repository, repository, dynamic_batching=batching)
        own = make_settings(repository.parent / "data", repository)
        if stacks:
            own = dataclasses.replace(own, database_url=stacks[True].database_url)
        stacks[batching] = resources.enter_context(Stack(own))
    return stacks


def index_corpus(stack: Stack, corpus: Path) -> None:
    """Index a BEIR folder through the served embedding, for `search` to search. Blocks."""
    from trireme.index import ingest_path

    ingest_path(stack.settings, corpus, stack.database_url, Console(stderr=True))


def run_all(options: argparse.Namespace, words: Sequence[str]) -> BenchReport:
    """Everything, from the inputs to the figures. Raises TriremeError; leaves no process behind."""
    plan, settings = QUICK if options.quick else FULL, read_settings()
    circumstances = read_circumstances(__file__, words, options.seed)
    tool, models = prepare_tool(settings.data_dir), find_models(settings.model_repository)
    if "embedding" not in models:
        raise UnavailableError("embedding is not built; build it with: make models")
    with tempfile.TemporaryDirectory(prefix="trireme-") as name, ExitStack() as resources:
        folder = Path(name)
        inputs = write_inputs(
            folder, options.data, entries=plan.entries, passages=plan.passages, seed=options.seed
        )
        tokenizer = measure_tokenizer(settings.model_repository, inputs.texts[:ENCODED_TEXTS])
        show_progress_note("Starting two servers, with and without dynamic batching")
        stacks = start_stacks(settings, folder, resources)
        index_corpus(stacks[True], inputs.corpus)
        points = tuple(measure_models(tool, stacks, models, inputs, plan))
    return BenchReport(inputs.passages, points, tokenizer, circumstances)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="texts from this BEIR folder; default: our own docs")
    parser.add_argument("--quick", action="store_true", help="short windows; prints, writes no file")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the inputs (default {SEED})")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_arguments(words)
    try:
        report = run_all(options, words)
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print_measurements(report)
    if not options.quick:
        write_json(RESULTS / "performance.json", report)
        plot(report, DOCS)
        (DOCS / "performance.md").write_text(format_document(report), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
