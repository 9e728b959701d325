import dataclasses
import io
import sys

import pytest
from rich.console import Console

from fakes.surface import Notes, Surface
from trireme.artifacts.recipe import Recipe
from trireme.tune.paired_rounds import run_finals
from trireme.tune.report import (
    TuneReport,
    describe_outcome,
    format_markdown,
    list_tried,
    make_table,
    make_tuning,
    write_report,
)
from trireme.tune.search import Search, SearchPlan
from trireme.tune.setting import make_space

RECIPE = Recipe("m", "text_encoder", source="a/b", max_batch_size=64, dynamic_batching=True, instances=1)
SPACE = make_space([RECIPE], cores=8, slo_p95_ms=50)
TOP = {"m.instances": 4, "m.max_batch_tokens": 8192}


def make_report(surface, slo=50.0):
    plan = SearchPlan(slo, (1, 2, 4, 8, 16, 32))
    found = Search(SPACE, plan, surface, Notes(), surface.clock).run()
    outcome = run_finals(found, plan, surface, Notes())
    return TuneReport(
        "m",
        slo,
        found,
        outcome,
        "docs, seed 1",
        "f" * 64,
        "a CPU",
        {"numpy": "1"},
        "2026-01-01",
        "python x",
        4,
    )


@pytest.fixture(scope="module")
def report():
    return make_report(Surface(TOP))


def test_the_winner_is_told_with_gain_and_noise(report):
    text = describe_outcome(report)
    assert text.startswith("Best: instances 4") and "max_batch_tokens 8192" in text
    assert "400.0 requests/s at p95" in text and "noise 2.0%" in text


def test_a_present_setting_that_stays_is_told_with_why():
    text = describe_outcome(make_report(Surface({})))
    assert text.startswith("The present setting stays") and "differ by" in text
    assert "The time was up" not in text


def test_rounds_that_the_time_did_not_allow_are_told():
    report = dataclasses.replace(make_report(Surface({})), rounds=9)
    assert "The time was up after 4 of 9 rounds; more --minutes" in describe_outcome(report)


def test_a_limit_that_nothing_meets_is_told_with_the_nearest():
    text = describe_outcome(make_report(Surface(TOP, capacity=10.0)))
    assert text.startswith("Nothing meets a p95 of 50 ms. The nearest is 120.0 ms with 1 in flight")


def test_a_present_setting_above_the_limit_is_told():
    text = describe_outcome(make_report(Surface(TOP, capacity=25.0), slo=60.0))
    assert "the present setting is above the limit with" in text


def test_everything_tried_is_evidence(report):
    tried = list(list_tried(report))
    assert len(tried) == len(report.found.trials) + len(report.outcome.finals)
    assert tried[0].end == "best" and tried[0].rounds == 4
    assert {each.end for each in tried} >= {"best", "present", "not better", "within limit"}
    tuning = make_tuning(report, "m")
    assert (tuning.before["instances"], tuning.after["instances"]) == (1, 4)
    assert tuning.tried == tuple(tried)


def test_a_setting_that_failed_keeps_its_reason():
    report = make_report(Surface(TOP, broken=lambda setting: setting["m.instances"] > 2))
    failed = [each for each in list_tried(report) if each.end.startswith("failed")]
    assert failed and failed[0].end == "failed: out of memory" and failed[0].concurrency == 0
    assert "failed: out of memory" in format_markdown(report, has_plot=False)


def test_markdown_has_the_circumstances_and_a_row_for_each(report):
    text = format_markdown(report, has_plot=True)
    for part in ("a CPU", "numpy 1", "docs, seed 1", "`python x`", "trade-off.png", "| present |"):
        assert part in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(list(list_tried(report)))
    assert len({line.count("|") for line in rows}) == 1


def test_the_table_is_readable_on_eighty_columns(report):
    console = Console(width=80, file=io.StringIO())
    console.print(make_table(report))
    lines = console.file.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    assert "…" not in text
    assert "max_batch_tokens" in text and "400.0" in text
    for end in ("best", "present", "not better", "within limit"):
        assert f"  {end}" in text


def test_a_plot_and_a_page_are_written(report, tmp_path):
    pytest.importorskip("matplotlib")
    assert write_report(report, tmp_path) is None
    assert (tmp_path / "trade-off.png").read_bytes().startswith(b"\x89PNG")
    assert "![" in (tmp_path / "trade-off.md").read_text()


def test_without_matplotlib_the_page_is_written_and_the_install_named(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    notice = write_report(report, tmp_path)
    assert "pip install 'trireme[bench]'" in notice
    assert "![" not in (tmp_path / "trade-off.md").read_text()
    assert not (tmp_path / "trade-off.png").exists()
