import json
import lzma

import numpy as np
import pytest

from benchmarks.common.report import read_circumstances, render
from benchmarks.search.relevance import (
    Found,
    RelevanceReport,
    choose_threshold,
    count_common_words,
    fit,
    summarize,
    write_relevance,
)
from trireme.rag.relevance import RelevanceModel, read_relevance

MODEL = RelevanceModel(-4.0, 8.0, -0.5, frozenset({"port"}))


def found(domain, is_there, score, missing=0, *, is_found=True):
    return Found(domain, is_there, is_there and is_found, score, missing)


def test_a_fit_tells_good_sentences_from_bad_ones_and_counts_missing_words_against_them():
    draw = np.random.default_rng(0)
    made = [
        found("squad", there, draw.normal(0.9 if there else 0.4, 0.15), draw.integers(0, 2 if there else 4))
        for there in (True, False) * 200
    ]
    model = fit(made, frozenset({"port"}))
    assert model.sentence > 0 > model.missing
    assert model.common_words == {"port"}
    assert model.chance(1.0, 0) > 0.9
    assert model.chance(0.3, 3) < 0.1


def test_a_domain_counts_as_much_as_another_however_many_questions_it_has():
    small = [found("a", there, 0.9 if there else 0.5) for there in (True, False) * 20]
    large = [found("b", there, 0.7 if there else 0.3) for there in (True, False) * 20]
    once, often = (fit([*small, *large * times], frozenset()) for times in (1, 20))
    # Half-way between the middles of the two, not at that of the larger one.
    for model in (once, often):
        assert -model.bias / model.sentence == pytest.approx(0.6, abs=0.02)


def test_what_the_search_did_not_find_is_not_learned_from():
    made = [found("squad", there, 0.9 if there else 0.4) for there in (True, False) * 20]
    missed = [found("squad", True, 0.1, is_found=False) for _ in range(20)]
    with_missed, without = fit([*made, *missed], frozenset()), fit(made, frozenset())
    assert with_missed.chance(0.65, 0) == pytest.approx(without.chance(0.65, 0), abs=0.05)


def test_a_report_tells_what_is_refused_and_what_told_apart():
    made = [
        found("squad", True, 0.9),
        found("squad", True, 0.2, is_found=False),
        found("squad", False, 0.3),
        found("squad", False, 0.8),
        found("ours", False, 0.1),
    ]
    squad, ours = summarize(made, MODEL, 0.5)
    assert (squad.there, squad.absent, squad.refused, squad.found_refused, squad.told) == (
        2,
        2,
        0.5,
        0.0,
        0.5,
    )
    assert squad.auc == 0.5
    assert (ours.there, ours.refused, ours.told, ours.auc, ours.told_at) == (0, None, 1.0, None, {})
    seen = read_circumstances("x", [], 1)
    page = render("search/relevance.md.j2", report=RelevanceReport(0.5, [squad, ours], seen), seen=seen)
    assert "| squad | 2 | 0.500 | 0.000 | 2 | 0.500 | 0.500 |" in page


def test_the_threshold_loses_the_share_that_it_may():
    made = [found("squad", True, n / 100) for n in range(101)]
    threshold = choose_threshold([*made, found("other", True, 0.0)], MODEL, 0.1)
    assert threshold == round(MODEL.chance(0.1, 0), 2)


def test_common_words_are_counted_and_numbers_are_none(tmp_path):
    (tmp_path / "text").mkdir()
    long = "harbour 1984 " * 20
    text = f"{long}\n{long}\n{long} tide"
    for name in ("wikipedia", "wikinews"):
        with lzma.open(tmp_path / "text" / f"{name}.jsonl.xz", "wt") as file:
            file.write(json.dumps({"text": f"{text}\nshort line"}) + "\n")
    assert count_common_words(tmp_path) == ["harbour", "tid"]


def test_a_written_file_is_read_again(tmp_path):
    path = tmp_path / "relevance.toml"
    write_relevance(path, MODEL, ["port"], "python -m x")
    assert read_relevance(path) == MODEL
