"""The page of autoscaling: made of the results, and what it names is there."""

import re
import shlex
from dataclasses import replace

import pytest
import yaml

from benchmarks.common.report import DOCS, RESULTS, read_record
from benchmarks.scaling import fit, run, study, target
from benchmarks.scaling.load import AZURE, MOONCAKE, read_own
from benchmarks.scaling.policies import Knobs
from benchmarks.scaling.service import Services, read_services
from benchmarks.scaling.study import Comparison, Ratio, Report
from fakes.scaling import ONE, wave

PAGE = (DOCS / run.PAGE).read_text(encoding="utf-8")


def test_the_page_is_made_of_the_results():
    report = read_record(RESULTS / run.RECORD, Report)
    services = read_services(RESULTS / run.CURVES).services
    assert run.format_page(report, services, run.read_reality()) == PAGE
    assert all((DOCS / name).is_file() for name in (run.FRONTIER, run.DAY))


def test_the_commands_of_the_page_are_taken_by_the_script(monkeypatch):
    taken = []
    for module in (run, target):
        monkeypatch.setattr(
            module, "run_script", lambda parser, work, words: taken.append(parser.parse_args(words))
        )
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for block in blocks:
        words = shlex.split(block)
        assert words[:2] == ["python", "-m"]
        {"benchmarks.scaling.run": run, "benchmarks.scaling.target": target}[words[2]].main(words[3:])
    assert taken[0].seconds > 0
    assert [bool(one.trace) for one in taken[1:]] == [True, False]
    assert taken[2].measure and taken[2].model and taken[2].service


def test_the_file_that_the_page_shows_is_a_trace(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(re.search(r"```csv\n(.*?)```", PAGE, re.DOTALL)[1])
    assert [one.inputs for one in read_own(path).requests] == [812, 95]


def test_the_rule_says_the_knobs_in_promql_and_is_yaml():
    found = yaml.safe_load(run.format_rule(Knobs(0.7, 60.0, 1, 120.0, 600.0), "llm"))
    assert found["expr"] == (
        'sum(rate(trireme_offered_work_seconds_total{model="llm"}[120s])) / 0.7'
        ' + sum(trireme_backlog_seconds{model="llm"}) / 60 + 1'
    )
    assert found["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 600
    assert yaml.safe_load(run.format_rule(Knobs()))["expr"].endswith("/ 120")


@pytest.mark.parametrize(
    ("late", "share", "paid", "is_reached"),
    [
        (0.5, 0.1, 1.0, True),
        (0.51, 0.1, 0.9, False),
        (0.2, 0.1, 1.01, False),
        (0.0, 0.0, 0.5, True),
        # The recipe has no late answer: one of a thousand is chance.
        (None, 0.001, 0.9, True),
        (None, 0.002, 0.9, False),
        (None, 0.001, 1.01, False),
    ],
)
def test_the_goal_is_half_of_the_late_answers_at_no_more_replica_seconds(late, share, paid, is_reached):
    found = Comparison("load", "ours", Ratio(late, late, late), Ratio(paid, paid, paid), share)
    assert found.is_reached is is_reached


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Results and pages go to a folder; days are twenty minutes long, and little is tried."""
    for name in ("DOCS", "RESULTS"):
        monkeypatch.setattr(run, name, tmp_path)
    monkeypatch.setattr(run, "read_services", lambda path: Services((replace(ONE, name=run.SERVICE),)))
    monkeypatch.setattr(
        study, "make_day", lambda top, seed: replace(wave(900, 1200, seed), name=f"day {seed}")
    )
    few = {"utilization": (0.7, 0.8), "spare": (0, 1)}
    for module in (fit, study):
        monkeypatch.setattr(module, "CHOICES", few)
    monkeypatch.setattr(fit, "TARGET_CHOICES", {"waiting": (5.0, 25.0)})
    monkeypatch.setattr(fit, "STEPS", ((0.0, 1.0), (300.0, 3.0), (600.0, 1.0)))
    monkeypatch.setattr(fit, "STEPS_S", 900.0)
    monkeypatch.setattr(study, "STEP_SEEDS", (21,))
    monkeypatch.setattr(study, "WARM_UPS", (10.0, 60.0))
    monkeypatch.setattr(study, "COPIES", ((AZURE, 4.0), (MOONCAKE, 1.0)))
    return tmp_path


def test_results_page_and_plots_are_written(elsewhere):
    pytest.importorskip("matplotlib", reason="plots need the bench extra")
    rows = "".join(f"2023-11-16 18:{m:02}:{s:02}.0000000,10,0\n" for m in range(8) for s in range(0, 60, 2))
    (elsewhere / AZURE).write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    assert run.main(["--data", str(elsewhere)]) == 0
    page = (elsewhere / run.PAGE).read_text()
    assert "**day 2**" in page and "**Azure x 4, second part**" in page
    assert "Left out, as their traces were not at hand: mooncake_conversation.jsonl" in page
    assert all((elsewhere / name).stat().st_size > 1000 for name in (run.FRONTIER, run.DAY))
    report = read_record(elsewhere / run.RECORD, Report)
    assert run.format_page(report, run.read_services(None).services, None) == page
    # All policies begin with the same fleet and answer the same requests.
    for judged in report.judged:
        assert len({one.requests for one in judged.outcomes}) == 1


def test_a_trace_gets_knobs_a_rule_and_an_interval(elsewhere, capsys):
    path = elsewhere / "mine.csv"
    rows = "".join(f"{one.at},{one.inputs},0\n" for one in wave(1200, 1500).requests)
    path.write_text("seconds,input_tokens,output_tokens\n" + rows)
    assert run.main(["--trace", str(path), "--most-late", "0.1"]) == 0
    said = capsys.readouterr().out
    assert "trireme_offered_work_seconds_total" in said and "95% interval" in said
    assert "| AWS recipe |" in said and "| as shipped |" in said
    assert not (elsewhere / run.RECORD).exists()


def test_a_measurement_names_what_it_lacks(elsewhere, capsys):
    assert run.main(["--measure", "127.0.0.1:9"]) == 1
    assert "--model" in capsys.readouterr().err
    assert run.main(["--measure", "127.0.0.1:9", "--model", "llm", "--service", "mine"]) == 1
    assert "--warm-up-s" in capsys.readouterr().err
