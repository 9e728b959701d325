import argparse

import pytest

from benchmarks.caching import replay
from benchmarks.caching.questions import QUESTIONS, SLIPS, Asked
from benchmarks.caching.replay import (
    NOTHING,
    TRACE,
    Answer,
    PrefixReport,
    QuestionReport,
    count_tiers,
    find_threshold,
    format_prefixes,
    format_questions,
    list_answers,
    make_file,
    read_outcomes,
    read_tier,
)
from benchmarks.common.report import DOCS, RESULTS, read_record
from trireme.gateway.file import parse_gateway_file


@pytest.mark.parametrize(
    ("header", "tier"),
    [
        ("exact; age=12", "exact"),
        ("semantic; sim=0.9; score=3; age=1", "semantic"),
        ("flight", "flight"),
        ("miss", ""),
        ("miss; semantic=off", ""),
        ("bypass", ""),
        ("", ""),
    ],
)
def test_the_tier_is_read_from_the_header(header, tier):
    assert read_tier(header) == tier


def test_tiers_are_counted_with_their_wrong_answers_and_the_provider_comes_last():
    answers = [
        Answer("", 60.0, True),
        Answer("exact", 1.0, True),
        Answer("exact", 3.0, False),
        Answer("", 62.0, True),
    ]
    rows = {row.tier: row for row in count_tiers([*answers, Answer("semantic", 9.0, True)])}
    assert list(rows) == ["exact", "semantic", NOTHING]
    assert (rows["exact"].requests, rows["exact"].share, rows["exact"].wrong) == (2, 0.4, 1)
    assert rows["exact"].p50_ms == 2.0 and rows[NOTHING].p50_ms == 61.0


def test_every_text_has_the_answer_of_its_question():
    asked = [Asked("a", "Who?", "Ann", "Where, no, who?"), Asked("b", "Why?", "Because")]
    assert list_answers(asked) == {"Who?": "Ann", "Where, no, who?": "Ann", "Why?": "Because"}


@pytest.mark.parametrize("threshold", [None, 2.5])
def test_the_file_keeps_every_answer_and_a_threshold_turns_the_semantic_tier_on(threshold):
    file = parse_gateway_file(make_file(1234, threshold).encode(), "gateway.toml")
    semantic = file.models["fake"].semantic
    assert file.cache.exact == "all"
    assert (semantic and semantic.threshold) == threshold


def test_the_model_or_the_threshold_that_is_not_there_is_named(tmp_path):
    assert find_threshold(tmp_path, 2.5) == (None, "the semantic tier: the model equivalence is not built")
    for name in ("equivalence", "embedding"):
        (tmp_path / name / "1").mkdir(parents=True)
    threshold, reason = find_threshold(tmp_path, None)
    assert threshold is None and "no threshold" in reason
    assert find_threshold(tmp_path, 2.5) == (2.5, "")
    (tmp_path / "equivalence" / "1" / "thresholds.json").write_text('{"0.01": 3.5}')
    assert find_threshold(tmp_path, None) == (3.5, "")


def test_outcomes_of_lookups_are_read_from_the_metrics():
    page = (
        "# TYPE trireme_semantic_lookups_total counter\n"
        'trireme_semantic_lookups_total{outcome="nothing"} 12.0\n'
        'trireme_semantic_lookups_total{outcome="rule_numbers"} 30.0\n'
        'trireme_cache_lookups_total{outcome="hit"} 5.0\n'
    )
    assert read_outcomes(page) == {"rule_numbers": 30, "nothing": 12}


def test_data_that_is_not_there_is_named_and_nothing_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(replay, "RESULTS", tmp_path / "results")
    replay.work(argparse.Namespace(data=tmp_path, only=None, print=False), [])
    said = capsys.readouterr().err
    assert str(TRACE) in said and str(QUESTIONS) in said and str(SLIPS) not in said
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("name", "kind", "write"),
    [
        ("prefix-replay.json", PrefixReport, format_prefixes),
        ("question-replay.json", QuestionReport, format_questions),
    ],
)
def test_the_committed_sections_are_made_of_the_committed_figures(name, kind, write):
    if not (RESULTS / name).is_file():
        pytest.skip("it was not measured yet")
    section = write(read_record(RESULTS / name, kind))
    assert section.strip() in (DOCS / "caching.md").read_text(encoding="utf-8")
