"""The page of cascades: that it says what was measured, and that what it names is there."""

import importlib.util
import json
import re
import shlex
from dataclasses import fields, replace
from pathlib import Path

import pytest

from benchmarks.cascade import collect, run
from benchmarks.cascade.figures import EXTRACTIVE, GENERATIVE
from benchmarks.common.report import DOCS, PROJECT, RESULTS, read_record
from fakes.cascades import make_answers
from trireme.cascade.calibration import read_calibration
from trireme.cascade.evidence import Evidence
from trireme.cascade.labelled import format_labelled, read_labelled

PAGE = (DOCS / "cascade.md").read_text(encoding="utf-8")
REPORT = read_record(RESULTS / "cascade.json", run.CascadeReport)


def test_the_page_is_made_of_the_results():
    assert run.format_page(REPORT) == PAGE
    assert (DOCS / "cascade.png").is_file()


def test_the_page_has_every_feature_of_evidence_and_no_other():
    table = PAGE.split("| evidence | of |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) == {spec.name for spec in fields(Evidence)}


def test_the_commands_of_the_page_are_taken_by_their_scripts(monkeypatch):
    spec = importlib.util.spec_from_file_location("fit_cascade", PROJECT / "build" / "fit_cascade.py")
    fit_cascade = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fit_cascade)
    taken = {}

    def take(parser, work, arguments):
        return taken.setdefault(work.__module__, parser.parse_args(arguments))

    for module in (collect, run):
        monkeypatch.setattr(module, "run_script", take)
    block = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)[1]
    first, second, third = [shlex.split(line) for line in block.strip().splitlines()]
    assert first[:3] == ["python", "-m", "benchmarks.cascade.collect"]
    assert second[:2] == ["python", "build/fit_cascade.py"]
    assert third[:3] == ["python", "-m", "benchmarks.cascade.run"]
    collect.main(first[3:])
    fitted = fit_cascade.parse_arguments(second[2:])
    run.main(third[3:])
    # Each goes on with the file of the one before it.
    assert (
        taken["benchmarks.cascade.collect"].out
        == fitted.answers[0]
        == taken["benchmarks.cascade.run"].answers
    )
    assert fitted.step[0][0] == EXTRACTIVE


def test_the_line_that_the_page_shows_is_a_labelled_answer(tmp_path):
    path = tmp_path / "line.jsonl"
    path.write_text(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    (one,) = read_labelled(path)
    assert one.step == EXTRACTIVE and one.right


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    for name in ("DOCS", "RESULTS"):
        monkeypatch.setattr(run, name, tmp_path)
    return tmp_path


def write_answers(path: Path, *steps):
    lines = []
    for step in steps:
        for split, seed in (("train", 1), ("dev", 2)):
            for n, one in enumerate(make_answers(220, seed, step)[0]):
                more = {"id": f"{split}{n}", "split": split, "answerable": n % 2 == 0, "seconds": 1.5}
                lines.append(format_labelled(replace(one, more=more)))
    path.write_text("".join(lines))
    return path


def test_page_plot_results_and_calibrations_are_written(elsewhere):
    path = write_answers(elsewhere / "answers.jsonl", EXTRACTIVE, GENERATIVE)
    assert run.main(["--answers", str(path), "--calibrations", str(elsewhere / "fitted")]) == 0
    page = (elsewhere / "cascade.md").read_text()
    assert f"| {EXTRACTIVE}, then {GENERATIVE}, then the big model | interval |" in page
    assert "220 questions" in page and "50.0% of them answerable" in page
    assert (elsewhere / "cascade.png").stat().st_size > 1000
    one = read_calibration(elsewhere / "fitted" / "rag-generative.json")
    assert (one.step, one.examples) == (GENERATIVE, 220)
    assert json.loads((elsewhere / "cascade.json").read_text())["questions"] == 220


def test_with_data_the_answers_are_collected_first(elsewhere, monkeypatch):
    path = elsewhere / "answers.jsonl"
    asked = []

    def collect_now(options):
        asked.append((options.out, options.modes, options.dev))
        write_answers(options.out, GENERATIVE)

    monkeypatch.setattr(run, "collect", collect_now)
    words = ["--data", str(elsewhere), "--answers", str(path), "--modes", "generative", "--dev", "7"]
    assert run.main(words) == 0
    assert asked == [(path, ["generative"], 7)]
    assert GENERATIVE in (elsewhere / "cascade.md").read_text()


def test_data_without_a_file_for_the_answers_is_refused(elsewhere, capsys):
    assert run.main(["--data", str(elsewhere)]) == 1
    assert "--data needs --answers" in capsys.readouterr().err


def test_without_answers_the_page_is_made_of_the_last_results(elsewhere, capsys):
    assert run.main([]) == 1
    assert "measure again" in capsys.readouterr().err
    run.main(["--answers", str(write_answers(elsewhere / "answers.jsonl", EXTRACTIVE))])
    before = (elsewhere / "cascade.md").read_text()
    (elsewhere / "cascade.md").unlink()
    assert run.main([]) == 0
    assert (elsewhere / "cascade.md").read_text() == before
