import pytest

from benchmarks.common.report import read_circumstances
from benchmarks.search.answers import (
    STAGES,
    Asked,
    Thresholds,
    choose_thresholds,
    compute_curve,
    draw,
    format_report,
    outcome,
    summarize,
)


def asked(group, score, is_right=False, is_gold_passage=True):
    return Asked(group, score, is_right, is_gold_passage, dict.fromkeys(STAGES, 2.0))


RECORDS = [{"question": str(n), "answerable": n % 2 == 0} for n in range(40)]


def test_a_draw_is_the_same_for_the_same_seed_and_shares_no_question_between_groups():
    drawn = draw(RECORDS, 8, seed=1)
    assert drawn == draw(RECORDS, 8, seed=1) != draw(RECORDS, 8, seed=2)
    assert {group: len(members) for group, members in drawn.items()} == {
        "answerable": 8, "unanswerable": 4, "absent": 4,
    }  # fmt: skip
    assert not any(one["answerable"] for one in drawn["unanswerable"])
    questions = [one["question"] for members in drawn.values() for one in members]
    assert len(questions) == len(set(questions))


def test_relevance_loses_no_more_answerable_questions_than_it_may():
    scores = [asked("answerable", score / 100, is_right=True) for score in range(24, 124)]
    assert choose_thresholds([*scores, asked("absent", 0.1)]).relevance == 0.25


def test_extractive_begins_where_half_of_the_sentences_are_right():
    answerable = [asked("answerable", 0.3 + n / 100, is_right=n >= 30) for n in range(60)]
    absent = [asked("absent", 0.1) for _ in range(60)]
    assert choose_thresholds([*answerable, *absent]) == Thresholds(0.3, pytest.approx(0.55))


def test_what_auto_does_follows_from_two_thresholds():
    thresholds = Thresholds(0.5, 0.6)
    assert [outcome(score, thresholds) for score in (0.49, 0.5, 0.59, 0.6)] == [
        "nothing found", "generative", "generative", "extractive",
    ]  # fmt: skip


def test_a_report_counts_by_group():
    run = [
        asked("answerable", 0.9, is_right=True),
        asked("answerable", 0.7, is_right=True, is_gold_passage=False),
        asked("answerable", 0.55),
        asked("answerable", 0.1),
        asked("unanswerable", 0.8),
        asked("absent", 0.2),
    ]
    report = summarize("dev", run, Thresholds(0.5, 0.6), read_circumstances("x.py", [], 1))
    assert (report.right, report.right_from_gold_passage) == (0.5, 0.25)
    assert report.auto["answerable"] == {
        "extractive": 0.5, "generative": 0.25, "nothing found": 0.25, "extractive and right": 0.5,
    }  # fmt: skip
    assert report.auto["absent"]["nothing found"] == 1
    assert "| answerable | 4 | 0.500 | 0.500 | 0.250 | 0.250 |" in format_report(report)


def test_the_curve_tells_what_each_threshold_keeps_and_loses():
    run = [asked("answerable", 0.35, is_right=True), asked("answerable", 0.95), asked("unanswerable", 0.5)]
    curve = {row["score"]: row for row in compute_curve([*run, asked("absent", 0.2)])}
    assert curve[0.3] == {"score": 0.3, "above": 1.0, "right": 0.5, "unanswerable": 0.0, "absent": 1.0}
    assert (curve[0.6]["above"], curve[0.6]["right"], curve[0.6]["unanswerable"]) == (0.5, 0.0, 1.0)
    assert curve[1.0]["right"] is None
