"""One run of the tuner, from the recipes to the recipes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

import trireme
from trireme.artifacts.inputs import hash_folder
from trireme.artifacts.kinds import ENCODER_KINDS
from trireme.artifacts.manifest import read_manifest
from trireme.artifacts.recipe import RECIPE_FILE, Recipe
from trireme.artifacts.repository import is_built, list_recipes, version_dir
from trireme.errors import ArtifactError, NotFoundError, UnavailableError, UnsupportedError
from trireme.machine import Machine, read_machine, read_versions
from trireme.settings import Settings
from trireme.tune.journal import Journal, JournaledMeasurer, lock_folder
from trireme.tune.measure import Measurer
from trireme.tune.paired_rounds import run_finals
from trireme.tune.perf_analyzer import prepare_tool
from trireme.tune.placing import CHANGED, FileChange, plan_changes, recover
from trireme.tune.progress import show_search
from trireme.tune.report import TuneReport, make_tuning
from trireme.tune.search import Search, SearchPlan
from trireme.tune.server_settings import ServedMeasurer, ServedModels, find_needed
from trireme.tune.setting import KEYS, Space, make_space
from trireme.tune.workload import Workload, make_workload, read_paragraphs, read_workload, write_corpus

JOURNAL = "journal.jsonl"
# Enough for the longest run at the rates of one machine; perf_analyzer begins anew behind the last.
ENTRIES = 2000
# Load average per core from which on other work counts.
BUSY = 0.5
# Packages of ours whose code decides how fast a model is.
SERVING_CODE = ("encode", "triton")


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """What a user asks for. `texts` are drawn from where no `workload` is given, and searched by a chain."""

    model: str
    slo_p95_ms: float
    texts: Path
    workload: Path | None = None
    seed: int = 1
    concurrency: int = 32
    minutes: float = 10.0
    window_s: float = 1.0
    rounds: int = 4
    least_batch_size: int | None = None
    is_dry: bool = False
    command: str = ""


@dataclass(frozen=True, slots=True)
class TuneResult:
    """The report, where its files belong, and the files of the repository that a winner changes."""

    report: TuneReport
    folder: Path
    changes: tuple[FileChange, ...]
    reused: int


def tune(options: TuneOptions, settings: Settings, console: Console) -> TuneResult:
    """Searches for the best setting of one model or chain, and plans what it changes; writes no model.

    Blocks for about `options.minutes`. Measurements go into the journal below the data directory at once.
    Raises TriremeError, KeyboardInterrupt; no process of ours is left running.
    """
    repository = settings.model_repository
    for notice in [] if options.is_dry else recover(repository):
        console.print(notice, highlight=False, markup=False, soft_wrap=True)
    recipes = list_recipes(repository)
    target = find_target(options.model, recipes)
    served = find_needed(target, recipes)
    tuned = find_tuned(target, served)
    check_built(repository, served)
    machine = read_machine()
    warn_of_load(machine, console)
    space = make_space(tuned, machine.cores, options.slo_p95_ms, options.least_batch_size)
    folder = settings.data_dir.resolve() / "tune" / target.model
    with ExitStack() as resources:
        resources.enter_context(lock_folder(folder.parent))
        folder.mkdir(exist_ok=True)
        scratch = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="trireme-")))
        workload = open_workload(options, target, scratch)
        before = read_inputs(repository, tuned)
        context = describe_context(repository, target, served, machine, workload)
        journal = Journal(folder / JOURNAL, context)
        measurer = resources.enter_context(
            ServedMeasurer(
                ServedModels(target, served, repository, workload),
                settings,
                prepare_tool(settings.data_dir),
                scratch,
            )
        )
        report = search(options, space, JournaledMeasurer(measurer, journal), machine, workload, console)
    changes = [] if report.outcome.winner is None else plan(repository, tuned, report)
    if read_inputs(repository, tuned) != before:
        raise UnavailableError(f"a recipe or a manifest in {repository} was {CHANGED}")
    return TuneResult(report, folder, tuple(changes), journal.reused)


def search(  # noqa: PLR0917 - what a search is made of
    options: TuneOptions,
    space: Space,
    measurer: Measurer,
    machine: Machine,
    workload: Workload,
    console: Console,
) -> TuneReport:
    """Search and finals with their progress shown. Blocks."""
    search_plan = SearchPlan(
        slo_p95_ms=options.slo_p95_ms,
        concurrencies=list_concurrencies(options.concurrency),
        short_s=options.window_s,
        long_s=2 * options.window_s,
        rounds=options.rounds,
        seconds=options.minutes * 60,
    )
    with show_search(console, options.slo_p95_ms, search_plan.seconds) as watch:
        found = Search(space, search_plan, measurer, watch).run()
        outcome = run_finals(found, search_plan, measurer, watch)
    return TuneReport(
        target=options.model,
        slo_p95_ms=options.slo_p95_ms,
        found=found,
        outcome=outcome,
        workload=workload.name,
        workload_sha256=workload.digest,
        machine=describe_machine(machine),
        versions=read_versions(),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=options.command,
        rounds=search_plan.rounds,
    )


def plan(repository: Path, tuned: Sequence[Recipe], report: TuneReport) -> list[FileChange]:
    """What the winner changes in the folders of the tuned models."""
    winner = report.outcome.winner or report.outcome.present
    changes: list[FileChange] = []
    for recipe in tuned:
        values = winner.setting.values_of(recipe.model)
        changes += plan_changes(repository, recipe.model, values, make_tuning(report, recipe.model))
    return changes


def find_target(model: str, recipes: Sequence[Recipe]) -> Recipe:
    """The recipe named. Raises NotFoundError naming those there are, UnsupportedError for other kinds."""
    for recipe in recipes:
        if recipe.model == model:
            if not (recipe.traits.is_encoder or recipe.traits.is_ensemble):
                raise UnsupportedError(
                    f"{model} is of kind {recipe.kind!r}; the tuner takes encoders ({', '.join(ENCODER_KINDS)})"
                    " and search chains"
                )
            return recipe
    raise NotFoundError(
        f"no model {model!r} in the repository; there are {', '.join(r.model for r in recipes)}"
    )


def find_tuned(target: Recipe, served: Sequence[Recipe]) -> list[Recipe]:
    """The models whose settings are searched: the target, or the encoders of a chain, the costliest kind first."""
    if not target.traits.is_ensemble:
        return [target]
    steps = [recipe for recipe in served if recipe.model in target.steps and recipe.traits.is_encoder]
    return sorted(
        steps, key=lambda recipe: (not recipe.traits.scores_pairs, target.steps.index(recipe.model))
    )


def check_built(repository: Path, recipes: Sequence[Recipe]) -> None:
    """Raises ArtifactError naming the models that are not built."""
    missing = [recipe.model for recipe in recipes if not is_built(repository, recipe)]
    if missing:
        raise ArtifactError(f"not built in {repository}: {', '.join(missing)}; build them with: make models")


def warn_of_load(machine: Machine, console: Console) -> None:
    """Says so where the machine is at work already: a run on it measures that too."""
    load = os.getloadavg()[0]
    if load > machine.cores * BUSY:
        console.print(
            f"The load average is {load:.1f} on {machine.cores} cores: what else runs here is in the figures.",
            highlight=False,
            soft_wrap=True,
        )


def open_workload(options: TuneOptions, target: Recipe, scratch: Path) -> Workload:
    """The user's workload, or one drawn from the texts; for a chain with the corpus it searches."""
    if options.workload is None:
        return make_workload(scratch, options.texts, target, entries=ENTRIES, seed=options.seed)
    is_chain = target.traits.is_ensemble
    corpus = write_corpus(scratch, read_paragraphs(options.texts)) if is_chain else None
    return read_workload(options.workload, target, corpus)


def read_inputs(repository: Path, recipes: Sequence[Recipe]) -> list[tuple[bytes, Any]]:
    """What a run is about: the recipes' text, and the files of their manifests."""
    return [
        (
            (repository / recipe.model / RECIPE_FILE).read_bytes(),
            read_manifest(version_dir(repository, recipe.model)).files,
        )
        for recipe in recipes
    ]


def describe_context(
    repository: Path, target: Recipe, served: Sequence[Recipe], machine: Machine, workload: Workload
) -> dict[str, Any]:
    """All that decides a measurement but the setting and the load, for the journal's digest."""
    package = Path(trireme.__file__).parent
    values = {recipe.model: asdict(recipe) for recipe in served}
    for recipe in find_tuned(target, served):
        for key in KEYS:
            del values[recipe.model][key]
    return {
        "target": target.model,
        "machine": asdict(machine),
        "versions": read_versions(),
        "code": {name: hash_folder(package / name, (".py",)) for name in SERVING_CODE},
        "files": {
            recipe.model: read_manifest(version_dir(repository, recipe.model)).files
            for recipe in served
            if recipe.has_weights
        },
        "recipes": values,
        "workload": workload.digest,
    }


def list_concurrencies(most: int) -> tuple[int, ...]:
    """Requests in flight to try, up to `most`: powers of two and the numbers half way between them."""
    powers = [2**exponent for exponent in range(most.bit_length())]
    return tuple(
        sorted({count for power in powers for count in (power, power * 3 // 2) if count < most} | {most})
    )


def describe_machine(machine: Machine) -> str:
    """One line."""
    flags = ", ".join(machine.flags) or "none of the instruction sets that matter"
    return f"{machine.cpu}, {machine.cores} cores, {flags}; {machine.memory_gib:g} GiB; {machine.system}"
