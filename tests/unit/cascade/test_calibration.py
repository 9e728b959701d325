"""A fitted file: the chance of an answer, what is kept, and what is refused of a file."""

import json
import math
import random
from dataclasses import asdict, replace

import pytest

from trireme.cascade.calibration import (
    Calibration,
    interpolate,
    logistic,
    read_calibration,
    write_calibration,
)
from trireme.cascade.evidence import Evidence
from trireme.errors import CalibrationMismatchError, InvalidInputError, SettingError

ONE = Calibration(
    step="rag extractive",
    versions=(("embedding", "a" * 64), ("reranker", "b" * 64)),
    features=("sentence_score", "is_refusal"),
    centers=(1.0, 0.0),
    scales=(0.5, 1.0),
    weights=(2.0, -1.0),
    bias=0.0,
    scores=(0.25, 0.5, 0.75),
    chances=(0.2, 0.4, 0.9),
    threshold=0.6,
    floor=0.95,
    examples=500,
    kept_share=0.5,
    kept_low=0.45,
    kept_high=0.55,
    wrong_kept=0.1,
)


def answered(score, **others):
    return Evidence(tokens=10, sentence_score=score, **others)


def document():
    return json.loads(json.dumps({"format_version": 2, **asdict(ONE), "versions": dict(ONE.versions)}))


def read_changed(tmp_path, **changes):
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(document() | changes))
    return read_calibration(path)


def test_the_chance_is_the_logistic_of_standardised_features_through_the_knots():
    assert ONE.chance(answered(1.0)) == 0.4
    # Half a scale above the center: logistic(1) = 0.731, between the second and the third knot.
    expected = 0.4 + 0.5 * (1 / (1 + math.exp(-1)) - 0.5) / 0.25
    assert ONE.chance(answered(1.25)) == pytest.approx(expected)
    assert ONE.chance(answered(1.25, is_refusal=True)) == 0.4


def test_beyond_the_knots_the_chance_is_the_last_ones():
    assert ONE.chance(answered(-1e9)) == 0.2
    assert ONE.chance(answered(1e9)) == 0.9


def test_an_answer_at_the_threshold_is_kept_and_one_below_is_not():
    at = replace(ONE, threshold=0.4)
    assert at.can_keep(answered(1.0))
    assert not at.can_keep(answered(1.0 - 1e-9))


def test_a_plateaus_chance_reaches_itself_at_every_score():
    plateau = replace(ONE, scores=(0.1, 0.3, 0.7), chances=(0.1, 0.7, 0.7), threshold=0.7)
    assert all(plateau.can_keep(answered(1.0 + step / 1000)) for step in range(-200, 200))


def test_a_feature_that_is_not_known_is_named_and_the_step_too():
    with pytest.raises(SettingError, match=r"sentence_score .* 'rag extractive'"):
        ONE.can_keep(Evidence(tokens=3))


def test_the_chance_never_falls_where_a_feature_of_positive_weight_rises():
    draw = random.Random(5)
    for _ in range(200):
        count = draw.randint(1, 8)
        scores = sorted({draw.random() for _ in range(count)})
        chances = sorted(draw.random() for _ in scores)
        one = replace(ONE, scores=tuple(scores), chances=tuple(chances), weights=(draw.uniform(0, 5), 0.0))
        found = [one.chance(answered(draw_at)) for draw_at in sorted(draw.gauss(1, 2) for _ in range(50))]
        assert found == sorted(found)
        assert chances[0] <= found[0] and found[-1] <= chances[-1]


def test_the_logistic_neither_overflows_nor_leaves_its_bounds():
    assert [logistic(value) for value in (-1e6, 0.0, 1e6)] == [0.0, 0.5, 1.0]


def test_one_knot_is_the_same_chance_for_all():
    assert {interpolate(at, (0.5,), (0.3,)) for at in (0.0, 0.5, 1.0)} == {0.3}


def test_the_versions_that_were_fitted_pass():
    ONE.check_versions({"reranker": "b" * 64, "embedding": "a" * 64})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            {"embedding": "a" * 64, "reranker": "c" * 64},
            "with reranker bbbbbbbbbbbb, .* with reranker cccccccccccc",
        ),
        ({"embedding": "a" * 64}, "now the step answers without reranker"),
        ({**dict(ONE.versions), "llm": "d" * 64}, "fitted without llm, .* with llm dddd"),
    ],
)
def test_another_version_is_refused_by_a_type_of_its_own(found, said):
    with pytest.raises(CalibrationMismatchError, match=said) as caught:
        ONE.check_versions(found)
    assert isinstance(caught.value, SettingError) and isinstance(caught.value, InvalidInputError)


def test_what_is_written_is_read_as_it_was(tmp_path):
    path = tmp_path / "extractive.json"
    write_calibration(path, ONE)
    assert read_calibration(path) == ONE
    write_calibration(path, replace(ONE, threshold=0.7))
    assert read_calibration(path).threshold == 0.7
    assert [file.name for file in tmp_path.iterdir()] == ["extractive.json"]


def test_whole_numbers_are_read_as_numbers(tmp_path):
    assert read_changed(tmp_path, bias=1, scales=[1, 2]) == replace(ONE, bias=1.0, scales=(1.0, 2.0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"treshold": 0.5}, "unknown key 'treshold'"),
        ({"format_version": 3}, "'format_version' 2"),
        ({"format_version": True}, "'format_version' 2"),
        ({"decide_after": "soon"}, "'decide_after'"),
        ({"decide_after": 0}, "'decide_after'"),
        ({"decide_after": 4097}, "'decide_after'"),
        ({"decide_after": 32.0}, "'decide_after'"),
        ({"step": ""}, "'step'"),
        ({"step": 3}, "'step'"),
        ({"versions": {}}, "'versions'"),
        ({"versions": {"llm": 3}}, "'versions'"),
        ({"versions": {"llm": ""}}, "'versions'"),
        ({"versions": [["llm", "a"]]}, "'versions'"),
        ({"features": "sentence_score"}, "'features'"),
        ({"features": []}, "'features'"),
        ({"features": ["is_refusal", "is_refusal"]}, "'features'"),
        ({"features": ["is_refusal", "beauty"]}, "unknown feature 'beauty'"),
        ({"features": ["is_refusal", 3]}, "'features'"),
        ({"centers": [1.0]}, "1 'centers' for 2 features"),
        ({"scales": [1.0, 0.0]}, "'scales'"),
        ({"weights": [1.0, True]}, "'weights'"),
        ({"weights": [1.0, 10**400]}, "'weights'"),
        ({"bias": None}, "'bias'"),
        ({"scores": [0.25, 0.25, 0.75]}, "'scores' that do not rise"),
        ({"scores": [0.5, 0.25, 0.75]}, "'scores' that do not rise"),
        ({"scores": [0.25, 0.5]}, "2 'scores' for 3 'chances'"),
        ({"scores": [], "chances": []}, "at least one"),
        ({"scores": [0.25, 0.5, 1.5]}, "'scores' outside"),
        ({"chances": [0.4, 0.2, 0.9]}, "'chances' that fall"),
        ({"chances": [0.2, 0.4, 1.1]}, "'chances' outside"),
        ({"threshold": 1.5}, "'threshold' outside"),
        ({"threshold": "0.5"}, "'threshold'"),
        ({"kept_low": 0.6}, "'kept_share' outside"),
        ({"examples": 0}, "'examples'"),
        ({"examples": 10.5}, "'examples'"),
    ],
)
def test_a_file_that_is_not_as_declared_is_refused_by_file_and_key(tmp_path, changes, said):
    with pytest.raises(SettingError, match=said) as caught:
        read_changed(tmp_path, **changes)
    assert "changed.json" in str(caught.value)


def test_how_much_of_an_answer_was_fitted_on_is_kept(tmp_path):
    path = tmp_path / "first.json"
    write_calibration(path, replace(ONE, decide_after=32))
    assert read_calibration(path).decide_after == 32
    assert read_changed(tmp_path).decide_after == "answer"


def test_a_file_from_before_that_was_said_is_refused_with_what_to_do(tmp_path):
    old = {name: value for name, value in document().items() if name != "decide_after"}
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old | {"format_version": 1}))
    with pytest.raises(SettingError, match=r"old.json is of format 1, .*labelled anew; .*fit_cascade.py"):
        read_calibration(path)


@pytest.mark.parametrize("key", sorted(document()))
def test_a_missing_key_is_named(tmp_path, key):
    path = tmp_path / "short.json"
    path.write_text(json.dumps({name: value for name, value in document().items() if name != key}))
    with pytest.raises(SettingError, match=f"short.json .*'{key}'"):
        read_calibration(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"bias": NaN}', "number NaN"),
        ('{"bias": -Infinity}', "number -Infinity"),
        ('{"bias": 1, "bias": 2}', "key 'bias' twice"),
    ],
)
def test_a_text_that_is_no_calibration_is_refused_in_one_sentence(tmp_path, text, said):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(SettingError, match=said) as caught:
        read_calibration(path)
    assert "broken.json" in str(caught.value)


def test_a_number_past_what_a_float_holds_is_not_finite(tmp_path):
    path = tmp_path / "huge.json"
    path.write_text(json.dumps(document()).replace('"bias": 0.0', '"bias": 1e999'))
    with pytest.raises(SettingError, match="'bias' with a number that is not finite"):
        read_calibration(path)


def test_bytes_that_are_no_text_and_a_file_that_is_not_there_are_refused(tmp_path):
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingError, match=r"bytes.json is not UTF-8"):
        read_calibration(tmp_path / "bytes.json")
    with pytest.raises(SettingError, match=r"absent.json: No such file.*fit_cascade"):
        read_calibration(tmp_path / "absent.json")


def test_what_could_not_be_read_is_not_written(tmp_path):
    with pytest.raises(SettingError, match=r"one.json is not written: .*'bias'"):
        write_calibration(tmp_path / "one.json", replace(ONE, bias=math.nan))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"one.json cannot be written: No such file"):
        write_calibration(tmp_path / "absent" / "one.json", ONE)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_finite_number_is_no_evidence(score):
    with pytest.raises(SettingError, match="sentence_score of an answer is not known"):
        ONE.can_keep(Evidence(tokens=1, sentence_score=score))
