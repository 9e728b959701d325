"""Measures with the real parts: a tritonserver of our own over a copy of the models, and perf_analyzer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from trireme.artifacts.config_writer import place_config
from trireme.artifacts.machine_config import fit_cores
from trireme.artifacts.recipe import RECIPE_FILE, Recipe, write_recipe
from trireme.artifacts.repository import version_dir
from trireme.errors import UnavailableError
from trireme.indexing import ingest_path
from trireme.machine import pick_ports, read_machine
from trireme.settings import Settings
from trireme.stack import Stack
from trireme.triton.server import ServerConfig, TritonServer
from trireme.tune.measure import Point
from trireme.tune.perf_analyzer import WINDOWS, PerfRun, PerfTool, measure
from trireme.tune.setting import Setting, apply_setting
from trireme.tune.workload import Workload
from trireme.types import DEFAULT_COLLECTION, DEFAULT_TENANT

# Enough to warm a fresh server up and to learn how fast it is.
PROBE_REQUESTS = 8
# A run may take so much longer than its rate foretold before it is given up.
PATIENCE = 4.0
LEAST_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class ServedModels:
    """What is measured: `target` takes the requests, `recipes` are all that its server needs, itself included."""

    target: Recipe
    recipes: tuple[Recipe, ...]
    repository: Path
    workload: Workload


class ServedMeasurer:
    """Serves one setting at a time, on free ports of loopback. A context manager: leaving it ends all it started.

    Writes below `folder`, and the server's log below the data directory; the repository's version folders are
    linked, not copied. Without a response cache, which would answer a repeated request from memory.
    """

    def __init__(self, models: ServedModels, settings: Settings, tool: PerfTool, folder: Path) -> None:
        """settings: host and backend directory are taken; ports, database and data are our own."""
        self._models, self._tool = models, tool
        # Where it can be read when the scratch folder is gone.
        self._log_file = settings.data_dir.resolve() / "logs" / "tune-tritonserver.log"
        http, grpc, metrics = pick_ports(settings.host, 3)
        self._settings = replace(
            settings,
            http_port=http,
            grpc_port=grpc,
            metrics_port=metrics,
            data_dir=folder / "data",
            model_repository=folder / "models",
            database_url="",
            response_cache_bytes=0,
            tenant=DEFAULT_TENANT,
            collection=DEFAULT_COLLECTION,
        )
        self._resources, self._serving = ExitStack(), ExitStack()
        self._stack: Stack | None = None
        self._served: Setting | None = None
        self._is_indexed = False
        self._rate = 0.0

    def __enter__(self) -> ServedMeasurer:
        link_models(self._models, self._settings.model_repository)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._serving.close()
        finally:
            self._resources.close()

    def measure(self, setting: Setting, concurrency: int, window_s: float, round_number: int) -> Point:
        """As `Measurer.measure`; starts a server anew where another setting is served."""
        if setting != self._served:
            self._serve(setting)
            self._rate = self._run(concurrency, PROBE_REQUESTS + concurrency).requests_per_s
        # The first wave fills the queue and does not count.
        requests = max(round(self._rate * WINDOWS * window_s), 2 * concurrency, PROBE_REQUESTS) + concurrency
        point = self._run(concurrency, requests)
        self._rate = point.requests_per_s
        return point

    def _run(self, concurrency: int, requests: int) -> Point:
        workload = self._models.workload
        run = PerfRun(
            self._models.target.model,
            self._settings.grpc_url,
            concurrency,
            workload.path,
            window_s=0.0,
            shapes=workload.shapes,
            requests=requests,
        )
        expected_s = requests / self._rate if self._rate else LEAST_TIMEOUT_S
        figures = measure(self._tool, run, timeout_s=LEAST_TIMEOUT_S + PATIENCE * expected_s)
        return Point(concurrency, figures.requests_per_s, figures.p50_ms, figures.p95_ms, figures.p99_ms)

    def _serve(self, setting: Setting) -> None:
        """Ends the server of before and starts one with `setting`. Raises UnavailableError with its reasons."""
        self._serving.close()
        self._served, self._rate = None, 0.0
        for recipe in self._models.recipes:
            place_copy(self._settings.model_repository, apply_setting(recipe, setting))
        environ = dict(os.environ)
        if self._models.workload.corpus is not None:
            environ["TRIREME_DATABASE_URL"] = self._start_database()
        self._serving = ExitStack()
        server = self._serving.enter_context(TritonServer(self._make_config(), environ))
        server.wait_until_ready()
        self._index()
        self._served = setting

    def _make_config(self) -> ServerConfig:
        own = self._settings
        return ServerConfig(
            host=own.host,
            http_port=own.http_port,
            grpc_port=own.grpc_port,
            metrics_port=own.metrics_port,
            model_repository=own.model_repository,
            backend_directory=own.backend_directory,
            log_file=self._log_file,
        )

    def _start_database(self) -> str:
        """The URL of an embedded PostgreSQL, started on the first call."""
        if self._stack is None:
            stack = Stack(self._settings)
            self._resources.callback(stack.stop)
            stack.start_database()
            self._stack = stack
        return self._stack.database_url

    def _index(self) -> None:
        """Embeds the workload's corpus once, on the first server."""
        corpus = self._models.workload.corpus
        if corpus is None or self._stack is None or self._is_indexed:
            return
        from rich.console import Console

        encoder = self._models.target.steps[0]
        ingest_path(self._settings, corpus, self._stack.database_url, Console(quiet=True), encoder)
        self._is_indexed = True


def find_needed(target: Recipe, recipes: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """`target` and the models that it names, directly or through them. Raises UnavailableError for one missing."""
    known = {recipe.model: recipe for recipe in recipes}
    found: dict[str, Recipe] = {}
    pending = [target.model]
    while pending:
        name = pending.pop()
        if name not in known:
            raise UnavailableError(f"{target.model} needs the model {name!r}, which is not in the repository")
        found[name] = known[name]
        named: set[str] = {*known[name].steps, known[name].embedder} - {""}
        pending += sorted(named - set(found))
    return tuple(found.values())


def link_models(models: ServedModels, target: Path) -> None:
    """A repository of the same version folders, as links, with recipes and configurations of its own."""
    for recipe in models.recipes:
        folder = target / recipe.model
        folder.mkdir(parents=True)
        place_copy(target, recipe)
        source = version_dir(models.repository, recipe.model)
        (folder / source.name).symlink_to(source.resolve())


def place_copy(repository: Path, recipe: Recipe) -> None:
    """Writes recipe and configuration of one model of the copy, without a response cache."""
    changes: dict[str, Any] = {"response_cache": False} if recipe.response_cache else {}
    copied = replace(recipe, **changes)
    write_recipe(repository / recipe.model / RECIPE_FILE, copied)
    place_config(repository / recipe.model, fit_cores(copied, read_machine().cores))
