import dataclasses

import pytest

from fakes.cascade_gateways import V1, file_of, place
from trireme.errors import SettingError
from trireme.gateway.cascades.plan import STEP_SECONDS, check_modes, read_cascades
from trireme.gateway.file import parse_gateway_file
from trireme.providers.models import ServedModel

PROVIDERS = {
    "p": {"kind": "openai"},
    "a": {"kind": "anthropic"},
    "far": {"kind": "triton", "url": "10.0.0.7:8001"},
}


def read(folder, step, last=None, **model):
    steps = [{"calibration": "small.json", **step}, {"target": "p:big", **(last or {})}]
    file = parse_gateway_file(file_of(steps, PROVIDERS, **model).encode(), "gateway.toml")
    return read_cascades(file, folder / "gateway.toml")


def test_a_calibration_is_found_from_the_folder_of_the_file_on(tmp_path):
    (tmp_path / "cascade").mkdir()
    place(tmp_path / "cascade", "one.json")
    plan = read(tmp_path, {"target": "llm", "calibration": "cascade/one.json"})["m"]
    small, big = plan.steps
    assert (small.name, small.targets, small.alternatives) == ("1", (("local", "llm"),), 0)
    assert small.calibration.versions == (("llm", V1),)
    assert (big.name, big.calibration, big.digest) == ("2", None, "")


def test_the_rules_of_kept_answers_are_others_after_any_change(tmp_path):
    place(tmp_path)
    before = read(tmp_path, {"target": "llm"})["m"].rules
    assert read(tmp_path, {"target": "llm"})["m"].rules == before
    others = [
        read(tmp_path, {"target": "llm"}, on_refusal="keep"),
        read(tmp_path, {"target": "llm", "answer_mode": "auto"}),
        read(tmp_path, {"target": "llm", "name": "small"}),
        read(tmp_path, {"target": "llm", "seconds": 3}),
        read(tmp_path, {"target": "llm"}, last={"passages": False}),
    ]
    place(tmp_path, decide_after=32)
    others.append(read(tmp_path, {"target": "llm"}, decide_after=32))
    place(tmp_path, threshold=0.6)
    others.append(read(tmp_path, {"target": "llm"}))
    assert all(other["m"].rules != before for other in others)


@pytest.mark.parametrize(
    ("features", "asked"), [(("tokens",), None), (("tokens", "logprob_p05"), 0), (("margin_p10",), 2)]
)
def test_log_probabilities_are_asked_for_where_the_calibration_needs_them(tmp_path, features, asked):
    place(tmp_path, features=features)
    assert read(tmp_path, {"target": "llm"})["m"].steps[0].alternatives == asked


C = (("a:c", "c-1"),)
OWN = (("llm", V1),)


@pytest.mark.parametrize(
    ("feature", "versions", "step", "named"),
    [
        ("logprob_p10", C, {"target": "a:c"}, "'anthropic' give no log-probabilities"),
        ("citations", C, {"target": "a:c"}, "citations, which rag models alone"),
        ("sentence_score", (("p:s", "s-1"),), {"target": "p:s"}, "sentence_score, which rag models alone"),
        ("tokens", (("s", "s-1"),), {"target": "p:s"}, "names no version of 'p:s'"),
        ("tokens", OWN, {"target": "far:llm"}, "'far', which does not say what it has loaded"),
        (
            "logprob_p10",
            OWN,
            {"target": "rag", "answer_mode": "extractive"},
            "an extractive answer has no tokens",
        ),
        ("citations", OWN, {"target": "rag"}, "comes with the end"),
        ("citation_support", OWN, {"target": "rag", "answer_mode": "generative"}, "comes with the end"),
    ],
)
def test_what_a_step_cannot_give_stops_the_start(tmp_path, feature, versions, step, named):
    after = "answer" if step.get("answer_mode") == "extractive" else 32
    place(tmp_path, features=(feature,), versions=versions, decide_after=after)
    with pytest.raises(SettingError, match=named) as caught:
        read(tmp_path, step, decide_after=32)
    assert "gateway.toml: models.m.steps[0].calibration" in str(caught.value)
    assert "small.json" in str(caught.value)


def test_a_single_sentence_is_judged_whole_whatever_is_decided_after(tmp_path):
    place(tmp_path, features=("sentence_score",))
    step = {"target": "rag", "answer_mode": "extractive"}
    assert read(tmp_path, step, decide_after=32)["m"].steps[0].alternatives is None


@pytest.mark.parametrize(
    ("fitted", "after", "step", "said"),
    [
        (
            "answer",
            32,
            {"target": "llm"},
            r"on whole answers.*judged by their first 32 tokens.*decide_after = \"answer\"",
        ),
        (
            32,
            "answer",
            {"target": "llm"},
            r"on the first 32 tokens .*judged by whole answers.*decide_after = 32",
        ),
        (
            16,
            32,
            {"target": "llm"},
            "the first 16 tokens .*judged by their first 32 tokens.*decide_after = 16",
        ),
        (32, 32, {"target": "rag", "answer_mode": "extractive"}, "a sentence is judged whole"),
    ],
)
def test_a_calibration_of_another_part_of_an_answer_stops_the_start_with_both_ways_out(
    tmp_path, fitted, after, step, said
):
    place(tmp_path, features=("tokens",), decide_after=fitted)
    with pytest.raises(SettingError, match=said) as caught:
        read(tmp_path, step, decide_after=after)
    assert "gateway.toml: models.m.steps[0].calibration" in str(caught.value)
    assert "small.json" in str(caught.value)


def test_a_step_that_names_no_seconds_has_half_a_minute_until_it_is_judged(tmp_path):
    place(tmp_path)
    small, big = read(tmp_path, {"target": "llm"})["m"].steps
    assert (small.seconds, big.seconds) == (STEP_SECONDS, None)
    assert read(tmp_path, {"target": "llm", "seconds": 90})["m"].steps[0].seconds == 90
    file = file_of([{"target": "llm", "calibration": "small.json"}, {"target": "p:big"}], PROVIDERS)
    file = parse_gateway_file(f"{file}\n[attempts]\nseconds = 5".encode(), "gateway.toml")
    assert read_cascades(file, tmp_path / "gateway.toml")["m"].steps[0].seconds == 5


def test_the_last_step_gets_what_was_found_unless_it_is_told_otherwise_or_finds_its_own(tmp_path):
    place(tmp_path)
    for last, gets in (
        ({}, True),
        ({"passages": False}, False),
        ({"target": "rag", "answer_mode": "auto"}, False),
    ):
        small, big = read(tmp_path, {"target": "llm"}, last=last)["m"].steps
        assert (small.passages, big.passages) == (False, gets)


def test_a_mode_of_a_provider_that_has_none_stops_the_start(tmp_path):
    place(tmp_path, features=("tokens",), versions=(("p:s", "1"),))
    with pytest.raises(SettingError, match=r"models.m.steps\[0\].answer_mode is of rag models"):
        read(tmp_path, {"target": "p:s", "answer_mode": "extractive"})


def test_a_calibration_that_is_missing_or_none_stops_the_start(tmp_path):
    with pytest.raises(SettingError, match=r"models.m.steps\[0\].calibration: .*small.json"):
        read(tmp_path, {"target": "llm"})
    (tmp_path / "small.json").write_text('{"step": 1}')
    with pytest.raises(SettingError, match=r"models.m.steps\[0\].calibration: .*small.json"):
        read(tmp_path, {"target": "llm"})


LLM = ServedModel("llm", "chat", True, alternatives=0)
RAG = ServedModel("rag", "answer", True)


@pytest.mark.parametrize(
    ("features", "step", "model", "named"),
    [
        (
            ("tokens",),
            {"target": "llm", "answer_mode": "extractive"},
            {},
            r"steps\[0\].answer_mode is of rag models",
        ),
        (("sentence_score",), {"target": "llm"}, {}, "'llm' reads none"),
        (("margin_p10",), {"target": "llm"}, {}, "with 2 alternatives, and 'llm' gives 0"),
        (("margin_p10",), {"target": "rag"}, {}, "'rag' names no second tokens"),
        (
            ("logprob_p10",),
            {"target": "rag"},
            {"decide_after": 32},
            "'rag' says with its end alone.*write_configs",
        ),
        (
            ("passage_gap",),
            {"target": "rag"},
            {"decide_after": 32},
            "'rag' says with its end alone.*write_configs",
        ),
    ],
)
def test_what_a_model_of_our_own_cannot_give_stops_the_start_once_it_is_known(
    tmp_path, features, step, model, named
):
    place(tmp_path, features=features, decide_after=model.get("decide_after", "answer"))
    plans = read(tmp_path, step, **model)
    check_modes(plans, None)
    check_modes(plans, {})
    with pytest.raises(SettingError, match=named):
        check_modes(plans, {"llm": LLM, "rag": RAG})


def test_a_model_of_an_older_configuration_gives_no_log_probabilities(tmp_path):
    place(tmp_path)
    with pytest.raises(SettingError, match="'llm' gives none"):
        check_modes(read(tmp_path, {"target": "llm"}), {"llm": ServedModel("llm", "chat", True)})


def test_what_models_of_our_own_can_give_is_taken(tmp_path):
    place(tmp_path, features=("sentence_score", "citation_support", "logprob_p10"))
    check_modes(read(tmp_path, {"target": "rag"}), {"rag": RAG})
    place(tmp_path, features=("passage_gap", "logprob_p10"), decide_after=32)
    newer = dataclasses.replace(RAG, says_findings=True)
    check_modes(read(tmp_path, {"target": "rag"}, decide_after=32), {"rag": newer})
    place(tmp_path)
    check_modes(read(tmp_path, {"target": "llm"}), {"llm": LLM})
