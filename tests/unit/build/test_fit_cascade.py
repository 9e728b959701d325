"""build/fit_cascade.py as it is run: what it writes, says and refuses."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.cascades import make_answers
from trireme.cascade.calibration import read_calibration
from trireme.cascade.labelled import format_labelled
from trireme.errors import InvalidInputError, SettingError

SCRIPT = Path(__file__).parents[3] / "build" / "fit_cascade.py"
SPEC = importlib.util.spec_from_file_location("fit_cascade", SCRIPT)
fit_cascade = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fit_cascade)


def write(path, *groups):
    path.write_text("".join(format_labelled(one) for group in groups for one in group))
    return path


def run(path, out, *more, label="made", cost="0.1"):
    words = [path, "--step", label, cost, out, "--big-quality", "0.9", "--samples", "100", *more]
    return fit_cascade.main(list(map(str, words)))


@pytest.fixture(scope="module")
def answers():
    return make_answers(400, seed=1)[0]


def test_a_file_is_written_that_holds_what_the_report_says(tmp_path, answers, capsys):
    out = tmp_path / "made.json"
    assert run(write(tmp_path / "a.jsonl", answers), out, "--floor", "0.9") == 0
    said, one = capsys.readouterr().out, read_calibration(out)
    assert (one.step, one.examples, one.floor) == ("made", 400, 0.9)
    assert f"keep from a chance of {one.threshold:.4f} on; kept {one.kept_share:.1%}" in said
    assert f"of its wrong answers {one.wrong_kept:.1%}" in said
    for word in ("AUC", "ECE", "features: logprob_p10"):
        assert word in said


def test_a_fit_on_first_tokens_says_so_in_its_file_and_in_its_report(tmp_path, answers, capsys):
    first = [replace(one, decide_after=32) for one in answers]
    for examples, after, told in (
        (first, 32, "the first 32 tokens (decide_after = 32)"),
        (answers, "answer", "the whole answer"),
    ):
        out = tmp_path / "made.json"
        assert run(write(tmp_path / "a.jsonl", examples), out, "--floor", "0.9") == 0
        assert read_calibration(out).decide_after == after
        assert f"judged by {told}" in capsys.readouterr().out


def test_answers_that_are_judged_by_different_parts_are_not_fitted_together(tmp_path, answers):
    mixed = [replace(one, decide_after=32) if n % 2 else one for n, one in enumerate(answers)]
    with pytest.raises(InvalidInputError, match=r"2 kinds \(decide_after\)"):
        run(write(tmp_path / "a.jsonl", mixed), tmp_path / "x.json")


def test_two_steps_are_joined_by_their_questions_and_get_a_file_each(tmp_path, answers, capsys):
    second = [replace(one, step="second") for one in make_answers(400, seed=2)[0][:300]]
    path = write(tmp_path / "a.jsonl", answers, second)
    more = ("--step", "second", "0.3", tmp_path / "second.json", "--floor", "0.9")
    assert run(path, tmp_path / "first.json", *more) == 0
    found = [read_calibration(tmp_path / name) for name in ("first.json", "second.json")]
    assert [(one.step, one.examples) for one in found] == [("made", 300), ("second", 300)]
    assert "made: 300 answers" in capsys.readouterr().out


def test_only_the_lines_that_are_asked_for_are_fitted_on(tmp_path, answers):
    some = [replace(one, more={"split": "train" if n < 250 else "dev"}) for n, one in enumerate(answers)]
    out = tmp_path / "made.json"
    assert run(write(tmp_path / "a.jsonl", some), out, "--where", "split=train") == 0
    assert read_calibration(out).examples == 250


def test_a_step_without_answers_is_named_with_those_that_have_some(tmp_path, answers):
    with pytest.raises(InvalidInputError, match=r"no answer of step 'mad'.*'made'"):
        run(write(tmp_path / "a.jsonl", answers), tmp_path / "x.json", label="mad")


def test_an_id_that_is_there_twice_is_named(tmp_path, answers):
    second = [replace(one, step="second") for one in answers]
    path = write(tmp_path / "a.jsonl", answers, [answers[3]], second)
    with pytest.raises(InvalidInputError, match="id 'q3' of step 'made' is there twice"):
        run(path, tmp_path / "x.json", "--step", "second", "0.3", tmp_path / "y.json")


@pytest.mark.parametrize("cost", ["-1", "nan", "inf", "much"])
def test_a_cost_that_is_none_is_refused(tmp_path, answers, cost):
    with pytest.raises(InvalidInputError, match="cost of a step must be a number from 0 on"):
        run(write(tmp_path / "a.jsonl", answers), tmp_path / "x.json", cost=cost)


def test_a_folder_that_is_not_there_is_refused_and_nothing_is_left(tmp_path, answers):
    path = write(tmp_path / "a.jsonl", answers)
    with pytest.raises(SettingError, match=r"x.json cannot be written"):
        run(path, tmp_path / "absent" / "x.json")
    assert [one.name for one in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("words", [("--floor", "1.2"), ("--big-quality", "2"), ("--where", "train")])
def test_options_out_of_range_end_with_a_usage(tmp_path, answers, words):
    with pytest.raises(SystemExit):
        run(write(tmp_path / "a.jsonl", answers), tmp_path / "x.json", *words)
