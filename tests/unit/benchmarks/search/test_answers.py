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


def asked(group, chance, *, is_right=False, is_gold_passage=True, opinion="", is_llm_right=False):
    stages = dict.fromkeys(STAGES, 2.0)
    return Asked(group, chance, is_right, is_gold_passage, stages, opinion, is_llm_right)


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


def test_thresholds_lose_no_more_answerable_questions_than_they_may():
    scores = [asked("answerable", n / 100, is_right=True) for n in range(1, 101)]
    chosen = choose_thresholds([*scores, *(asked("absent", n / 100) for n in range(30))])
    assert chosen.relevance == 0.04


def test_thresholds_leave_to_the_llm_what_it_does_better():
    answerable = [
        *(asked("answerable", 0.45, opinion="differs", is_llm_right=True) for _ in range(9)),
        *(asked("answerable", 0.95, is_right=True, opinion="agreed") for _ in range(9)),
    ]
    absent = [asked("absent", 0.45, opinion="refused") for _ in range(9)]
    chosen = choose_thresholds([*answerable, *absent])
    assert chosen.relevance <= 0.45 < chosen.extractive
    assert chosen.extractive == 0.46


def test_the_llm_is_not_asked_where_that_gains_nothing():
    answerable = [asked("answerable", 0.5, is_right=True, opinion="agreed") for _ in range(9)]
    chosen = choose_thresholds([*answerable, asked("absent", 0.12)])
    assert chosen.relevance == chosen.extractive == 0.14


@pytest.mark.parametrize(
    ("chance", "opinion", "done"),
    [
        (0.49, "agreed", "nothing found"),
        (0.5, "", "generative"),
        (0.5, "differs", "generative"),
        (0.59, "refused", "nothing found"),
        (0.59, "agreed", "extractive"),
        (0.6, "refused", "extractive"),
    ],
)
def test_what_auto_does_follows_from_two_thresholds_and_the_opinion(chance, opinion, done):
    assert outcome(asked("answerable", chance, opinion=opinion), Thresholds(0.5, 0.6)) == done


def test_a_report_counts_by_group():
    run = [
        asked("answerable", 0.9, is_right=True),
        asked("answerable", 0.7, is_right=True, is_gold_passage=False),
        asked("answerable", 0.55, opinion="differs", is_llm_right=True),
        asked("answerable", 0.1),
        asked("unanswerable", 0.8),
        asked("absent", 0.2),
    ]
    report = summarize("dev", run, Thresholds(0.5, 0.6), read_circumstances("x.py", [], 1))
    assert (report.right, report.right_from_gold_passage, report.has_llm) == (0.5, 0.25, True)
    assert report.auto["answerable"] == {
        "extractive": 0.5, "generative": 0.25, "nothing found": 0.25, "right": 0.75,
    }  # fmt: skip
    assert report.auto["absent"]["nothing found"] == 1
    assert "| answerable | 4 | 0.500 | 0.250 | 0.250 | 0.750 |" in format_report(report)


def test_a_report_without_the_llm_says_so():
    run = [asked(group, 0.9, is_right=True) for group in ("answerable", "unanswerable", "absent")]
    report = summarize("dev", run, Thresholds(0.5, 0.6), read_circumstances("x.py", [], 1))
    assert "The LLM was not asked" in format_report(report)


def test_the_curve_tells_what_each_threshold_keeps_and_loses():
    run = [asked("answerable", 0.35, is_right=True), asked("answerable", 0.95), asked("unanswerable", 0.5)]
    curve = {row["chance"]: row for row in compute_curve([*run, asked("absent", 0.2)])}
    assert curve[0.3] == {"chance": 0.3, "above": 1.0, "right": 0.5, "unanswerable": 0.0, "absent": 1.0}
    assert (curve[0.6]["above"], curve[0.6]["right"], curve[0.6]["unanswerable"]) == (0.5, 0.0, 1.0)
    assert curve[0.99]["right"] is None
