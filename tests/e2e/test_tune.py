"""build/tune.py with the real server and perf_analyzer, on windows so short that only the path is tested."""

import json
import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
from stacks import ROOT, has_ended, wait_until

from trireme.artifacts.config_writer import config_files
from trireme.artifacts.manifest import read_manifest
from trireme.artifacts.recipe import read_recipe
from trireme.tune.setting import KEYS

COMMAND = [sys.executable, str(ROOT / "build" / "tune.py"), "embedding", "--slo-p95-ms", "5000"]
SHORT = ["--concurrency", "1", "--window-s", "0.1", "--rounds", "2", "--minutes", "0.1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A repository with the default embedder alone, and a data directory beside it."""
    folder = tmp_path_factory.mktemp("tune")
    shutil.copytree(
        ROOT / "model_repository" / "embedding",
        folder / "models" / "embedding",
        ignore=shutil.ignore_patterns(".*"),
    )
    return folder


def environ(folder):
    return {
        **os.environ,
        "TRIREME_MODEL_REPOSITORY": str(folder / "models"),
        "TRIREME_BACKEND_DIRECTORY": str(ROOT / "python_backends"),
        "TRIREME_DATA_DIR": str(folder / "data"),
    }


def journal(folder):
    path = folder / "data" / "tune" / "embedding" / "journal.jsonl"
    return path.read_text().splitlines() if path.is_file() else []


def files(folder):
    model = folder / "models" / "embedding"
    return {path: path.read_bytes() for path in model.rglob("*") if path.is_file() and path.name != ".lock"}


def run(folder, *arguments):
    command = [*COMMAND, *SHORT, *arguments]
    return subprocess.run(
        command, env=environ(folder), capture_output=True, text=True, timeout=300, cwd=folder
    )


def test_ctrl_c_ends_the_servers_long_before_the_run_is_over_and_changes_nothing(folder):
    before = files(folder)
    started = subprocess.Popen(
        [*COMMAND, *SHORT, "--minutes", "5"],
        env=environ(folder),
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    try:
        wait_until(lambda: bool(journal(folder)) or started.poll() is not None, 180)
        below = psutil.Process(started.pid).children(recursive=True)
        started.send_signal(signal.SIGINT)
        # Its five minutes are not over by then.
        _, told = started.communicate(timeout=120)
    finally:
        started.kill()
    assert started.returncode == 130, told
    assert "goes on from what is measured" in told and "Traceback" not in told
    assert below
    wait_until(lambda: all(map(has_ended, below)))
    assert files(folder) == before


def test_a_run_measures_shows_and_writes_what_is_best(folder):
    measured_before = journal(folder)
    model = folder / "models" / "embedding"
    before = read_recipe(model / "recipe.toml")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert journal(folder)[: len(measured_before)] == measured_before
    recipe, tuning = read_recipe(model / "recipe.toml"), read_manifest(model / "1").tuning
    for name, content in config_files(recipe).items():
        assert (model / name).read_bytes() == content
    assert tuning.before == {key: getattr(before, key) for key in KEYS}
    assert tuning.after == {key: getattr(recipe, key) for key in KEYS}
    assert tuning.requests_per_s > 1
    assert 0 < tuning.p95_ms <= 5000
    assert tuning.versions["nvidia-pytriton"]
    assert "Best: " in done.stdout or "present setting stays" in done.stdout
    assert (folder / "data" / "tune" / "embedding" / "trade-off.md").is_file()
    assert "# " in (model / "recipe.toml").read_text()
    points = [json.loads(line)["point"] for line in journal(folder)]
    assert all(0 < point["p50_ms"] <= point["p95_ms"] for point in points)


def test_a_limit_that_nothing_meets_changes_nothing(folder):
    before = files(folder)
    done = run(folder, "--slo-p95-ms", "0.01", "--minutes", "0.01")
    assert done.returncode == 1, done.stderr
    assert "Nothing meets a p95 of 0.01 ms. The nearest is" in done.stdout
    assert files(folder) == before
