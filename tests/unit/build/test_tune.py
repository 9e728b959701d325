"""build/tune.py: what it prints, writes and returns; the search itself is tested in tests/unit/tune."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from trireme.tune.measure import Point
from trireme.tune.paired_rounds import Final, Outcome
from trireme.tune.placing import FileChange
from trireme.tune.report import TuneReport
from trireme.tune.run import TuneResult
from trireme.tune.search import WITHIN, Found, StepPace, Trial
from trireme.tune.setting import Setting

SCRIPT = Path(__file__).parents[3] / "build" / "tune.py"
SPEC = importlib.util.spec_from_file_location("build_tune", SCRIPT)
script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)

NOW, NEW = Setting((("m.instances", 1),)), Setting((("m.instances", 2),))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    (folder / "m").mkdir(parents=True)
    (folder / "m" / "recipe.toml").write_text("old")
    (folder / "m" / "config.pbtxt").write_text("old")
    monkeypatch.setenv("TRIREME_MODEL_REPOSITORY", str(folder))
    monkeypatch.setenv("TRIREME_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "out").mkdir()
    return folder


def answer(monkeypatch, tmp_path, new_p95=40.0, new_rate=120.0):
    """Lets `tune` return a result in which instances 2 meets or misses the limit of 50 ms."""
    finals = []
    for setting, rate, p95 in ((NOW, 100.0, 45.0 if new_p95 <= 50 else 70.0), (NEW, new_rate, new_p95)):
        finals.append(Final(setting, Point(8, rate, 20.0, p95, p95), (rate,) * 3, p95 <= 50))
    winner = next((final for final in reversed(finals) if final.is_within), None)
    outcome = Outcome(tuple(finals), finals[0], winner, finals[1], 0.2, 0.01)
    trials = tuple(Trial(each.setting, (each.point,), WITHIN) for each in finals)
    found = Found(trials, trials[1], True, 60.0, StepPace(1.0, 1.0))
    report = TuneReport("m", 50.0, found, outcome, "docs", "f" * 64, "a CPU", {}, "2026-01-01", "python x", 3)
    changes = [FileChange(f"m/{name}", b"old", b"new") for name in ("recipe.toml", "config.pbtxt")]
    result = TuneResult(report, tmp_path / "out", tuple(changes if winner else ()), 0)
    heard = []
    monkeypatch.setattr(script, "tune", lambda options, *_: heard.append(options) or result)
    return heard


def contents(repository):
    return {path.read_text() for path in (repository / "m").iterdir() if path.is_file() and path.suffix}


def test_a_winner_is_shown_and_written(repository, tmp_path, monkeypatch, capsys):
    answer(monkeypatch, tmp_path)
    assert script.main(["m", "--slo-p95-ms", "50"]) == 0
    out = capsys.readouterr().out
    assert "Best: instances 2: 120.0 requests/s" in out
    assert "Written: m/recipe.toml, m/config.pbtxt" in out and "when it is started again" in out
    assert contents(repository) == {"new"}
    assert (tmp_path / "out" / "trade-off.md").is_file()


def test_a_dry_run_shows_and_writes_no_model(repository, tmp_path, monkeypatch, capsys):
    answer(monkeypatch, tmp_path)
    assert script.main(["m", "--slo-p95-ms", "50", "--dry-run"]) == 0
    assert "would write m/recipe.toml, m/config.pbtxt" in capsys.readouterr().out
    assert contents(repository) == {"old"}


def test_where_nothing_meets_the_limit_the_nearest_is_named_and_the_exit_code_is_one(
    repository, tmp_path, monkeypatch, capsys
):
    answer(monkeypatch, tmp_path, new_p95=55.0)
    assert script.main(["m", "--slo-p95-ms", "50"]) == 1
    out = capsys.readouterr().out
    assert "The nearest is 55.0 ms with 8 in flight" in out and "Nothing was changed." in out
    assert contents(repository) == {"old"}


def test_options_reach_the_tuner_and_the_command_names_no_folder(repository, tmp_path, monkeypatch):
    heard = answer(monkeypatch, tmp_path)
    arguments = ["m", "--slo-p95-ms", "50", "--workload", "/some/where/w.json", "--concurrency", "8"]
    assert script.main([*arguments, "--minutes", "2", "--rounds", "5", "--seed", "7", "--dry-run"]) == 0
    (options,) = heard
    assert (options.model, options.slo_p95_ms, options.concurrency, options.minutes) == ("m", 50.0, 8, 2.0)
    assert (options.rounds, options.seed, options.is_dry, options.least_batch_size) == (5, 7, True, None)
    assert options.workload == Path("/some/where/w.json")
    assert "--workload .../w.json" in options.command and "/some" not in options.command


def test_ctrl_c_says_how_to_go_on(repository, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "tune", interrupted)
    assert script.main(["m", "--slo-p95-ms", "50"]) == 130
    assert "goes on from what is measured" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["m"], 2, "--slo-p95-ms"),
        (["m", "--slo-p95-ms", "0"], 2, "must be above 0"),
        (["m", "--slo-p95-ms", "nan"], 2, "must be above 0"),
        (["m", "--slo-p95-ms", "5", "--rounds", "1"], 2, "must be at least 2"),
        (["absent", "--slo-p95-ms", "5"], 1, "error: no model 'absent' in the repository"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments, code, message, tmp_path):
    (tmp_path / "models").mkdir()
    command = [sys.executable, str(SCRIPT), *arguments, "--repository", str(tmp_path / "models")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr and "Traceback" not in done.stderr
