"""The figures of cascades, on made answers whose chances are known."""

from dataclasses import replace

import pytest

from benchmarks.cascade.figures import CASCADES, EXTRACTIVE, FIRST, GENERATIVE, make_report, mix
from benchmarks.common.report import read_circumstances, read_record, write_json
from fakes.cascades import make_answers
from trireme.cascade.threshold import Big
from trireme.errors import InvalidInputError

BIG = Big(0.95)
SEEN = read_circumstances("benchmarks.cascade.run", [], 1)


def answers_of(step, seed):
    made = []
    for split, count, more in (("train", 300, 0), ("dev", 200, 1)):
        for n, one in enumerate(make_answers(count, seed + 10 * more, step)[0]):
            keys = {"id": f"{split}{n}", "split": split, "answerable": n % 3 > 0, "seconds": 0.1 * (n % 5)}
            made.append(replace(one, more=keys))
    return made


@pytest.fixture(scope="module")
def answers():
    return [*answers_of(EXTRACTIVE, 1), *answers_of(GENERATIVE, 2), *answers_of(FIRST, 3)]


@pytest.fixture(scope="module")
def report(answers):
    return make_report(answers, BIG, {EXTRACTIVE: 0.01, GENERATIVE: 0.05, FIRST: 0.05}, SEEN)[0]


def test_every_cascade_of_the_steps_that_are_there_is_measured(report, answers):
    assert [one.steps for one in report.cascades] == list(CASCADES)
    alone = make_report(answers_of(EXTRACTIVE, 1), BIG, {}, SEEN)[0]
    assert [one.steps for one in alone.cascades] == [(EXTRACTIVE,)]


def test_a_step_is_judged_by_the_held_out_questions_alone(report, answers):
    step = report.steps[0]
    held_out = [one for one in answers if one.step == EXTRACTIVE and one.more["split"] == "dev"]
    assert (step.fitted_on, step.judged_by, report.questions) == (300, 200, 200)
    assert step.right.mean == pytest.approx(sum(one.right for one in held_out) / 200)
    assert report.answerable == pytest.approx(133 / 200)
    assert step.seconds == pytest.approx(0.2)


def test_the_cascade_is_better_than_chance_and_no_better_than_a_perfect_judge(report):
    for one in report.cascades:
        assert one.likely.quality.mean > one.random_likely
        assert one.needed <= one.hindsight
        assert one.sure.escalated.mean >= one.likely.escalated.mean
        assert one.curve[-1].escalated == 1.0 and one.curve[-1].quality == BIG.quality


def test_random_escalation_lies_on_the_line_between_both_models():
    assert mix(0.5, 0.9, 0.0) == 0.5 and mix(0.5, 0.9, 1.0) == 0.9
    assert mix(0.5, 0.9, 0.25) == pytest.approx(0.6)


def test_each_step_that_stands_alone_gives_a_calibration(answers):
    _, found = make_report(answers, BIG, {}, SEEN)
    assert [step for step, _ in found] == [EXTRACTIVE, GENERATIVE, FIRST]
    assert all(one.step == step and one.floor == 0.95 for step, one in found)


def test_a_report_is_read_as_it_was_written(tmp_path, report):
    write_json(tmp_path / "cascade.json", report)
    assert read_record(tmp_path / "cascade.json", type(report)) == report


def test_steps_that_are_not_known_here_and_answers_without_held_out_ones_are_refused():
    with pytest.raises(InvalidInputError, match="none of the steps that are known here: mine"):
        make_report(answers_of("mine", 1), BIG, {}, SEEN)
    train = [one for one in answers_of(EXTRACTIVE, 1) if one.more["split"] == "train"]
    with pytest.raises(InvalidInputError, match="to judge by"):
        make_report(train, BIG, {}, SEEN)
