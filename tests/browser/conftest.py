"""One stack and one Chromium for all tests of the console. They skip, and say why, where a part cannot be had."""

import os
import re
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from browser.console import DESKTOP, Console

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from stacks import ROOT, Serving, settings_on_free_ports

from browser.site import Site
from fakes.console_api import ConsoleApi
from trireme.access.endpoints import ENDPOINTS
from trireme.artifacts.repository import is_built, list_recipes
from trireme.local.postgres import start_postgres

AXE = Path(sys.prefix) / "share" / "axe.min.js"
# Screenshots and what the stack said, of tests that failed.
ARTIFACTS = Path(os.environ.get("BROWSER_ARTIFACTS", ROOT / ".browser-artifacts"))
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# What a state is waited for at most, in ms: two cores may be busy with other tests.
PATIENCE = 30_000
# A price, so that an answer costs something.
GATEWAY = """
[[machines.server]]
dollars_per_hour = 0.40

[prices.rag]
machine = "server"
tokens_per_second = 100

[prices.llm]
machine = "server"
tokens_per_second = 100
"""
# Files that the first start indexes.
CORPUS = ("docs/batching.md", "docs/retrieval.md", "docs/starting.md", "docs/uploads.md")


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("browser")


def find_chromium():
    """The path of Debian's Chromium, or of another that is on PATH; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


@pytest.fixture(scope="package")
def chromium():
    """Playwright's browser."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: make browser-env")
    path = find_chromium()
    if path is None:
        pytest.skip("chromium is missing; install it with: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def axe():
    """The text of axe-core."""
    if not AXE.is_file():
        pytest.skip("axe-core is missing; fetch it with: make browser-env")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="package")
def site(chromium):
    """The whole stack as `make serve` starts it, with a short corpus."""
    recipes = list_recipes(ROOT / "model_repository")
    missing = [recipe.model for recipe in recipes if not is_built(ROOT / "model_repository", recipe)]
    assert not missing, f"build the default models first (make models): {missing}"
    # Not pytest's folder, which other accounts, PostgreSQL's among them, may not enter.
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as postgres:
        data = Path(folder) / "serve"
        file = Path(folder) / "gateway.toml"
        file.write_text(GATEWAY)
        settings = settings_on_free_ports(data, database_url=postgres.url, release="v1", gateway_file=file)
        serving = Serving(settings, *(ROOT / name for name in CORPUS))
        try:
            serving.wait_until_ready()
            made = Site(serving, postgres)
            endpoints = [word for name in ENDPOINTS for word in ("--endpoint", name)]
            yield replace(made, admin=made.new_key(*endpoints))
        finally:
            serving.stop()
            keep_logs(settings.data_dir, serving.log)


def keep_logs(data_dir, *more):
    """Copies what the stack's processes said into the folder of failures, where a test has failed."""
    if ARTIFACTS.is_dir():
        for file in (*data_dir.glob("logs/*.log"), *more):
            shutil.copy(file, ARTIFACTS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    setattr(item, f"failed_{report.when}", report.failed)
    return report


@pytest.fixture
def new_console(request, chromium, site, axe):
    """new_console(secret, route, **options of a context) -> a Console that is logged in; "": not logged in.

    At the end of the test each of them must have done nothing wrong.
    """
    made = []

    def make(secret=None, route="live", **options):
        context = chromium.new_context(viewport=options.pop("viewport", DESKTOP), **options)
        context.set_default_timeout(PATIENCE)
        console = Console(context, site.url, axe)
        made.append((context, console))
        if secret != "":
            console.log_in(site.admin if secret is None else secret, route)
        return console

    yield make
    faults = [fault for _, console in made for fault in console.watch.faults]
    if faults or getattr(request.node, "failed_call", False):
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w-]+", "-", request.node.name)[:100]
        for number, (_, console) in enumerate(made):
            console.page.screenshot(path=ARTIFACTS / f"{name}-{number}.png", full_page=True)
    for context, _ in made:
        context.close()
    assert not faults, "\n".join(faults)


@pytest.fixture
def console(new_console):
    """A desktop's tab, logged in with the admin's key, at the first page."""
    return new_console()


@pytest.fixture
def api():
    """An API of set answers, under the console's real files."""
    with ConsoleApi() as running:
        # The first page of a log-in: a stream that says nothing.
        running.streams["/v1/live"] = []
        yield running


@pytest.fixture
def new_tab(chromium, axe, api):
    """new_tab(**options of a context) -> a Console that has loaded nothing; at the end none has done wrong."""
    contexts, tabs = [], []

    def make(viewport=DESKTOP, **options):
        context = chromium.new_context(viewport=viewport, **options)
        context.set_default_timeout(30_000)
        contexts.append(context)
        tabs.append(Console(context, api.url, axe))
        return tabs[-1]

    yield make
    faults = [fault for tab in tabs for fault in tab.watch.faults]
    for context in contexts:
        context.close()
    assert faults == []
