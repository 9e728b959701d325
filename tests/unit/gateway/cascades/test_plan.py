import pytest

from fakes.cascade_gateways import V1, file_of, place
from trireme.errors import SettingError
from trireme.gateway.cascades.plan import check_modes, read_cascades
from trireme.gateway.file import parse_gateway_file
from trireme.providers.models import ServedModel

PROVIDERS = {
    "p": {"kind": "openai"},
    "a": {"kind": "anthropic"},
    "far": {"kind": "triton", "url": "10.0.0.7:8001"},
}


def read(folder, step, **model):
    steps = [{"calibration": "small.json", **step}, {"target": "p:big"}]
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
        read(tmp_path, {"target": "llm"}, decide_after=32),
        read(tmp_path, {"target": "llm"}, on_refusal="keep"),
        read(tmp_path, {"target": "llm", "answer_mode": "auto"}),
    ]
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
        ("passage_gap", OWN, {"target": "rag"}, "comes with the end"),
        ("logprob_p10", OWN, {"target": "rag", "answer_mode": "generative"}, "comes with the end"),
    ],
)
def test_what_a_step_cannot_give_stops_the_start(tmp_path, feature, versions, step, named):
    place(tmp_path, features=(feature,), versions=versions)
    with pytest.raises(SettingError, match=named) as caught:
        read(tmp_path, step, decide_after=32)
    assert "gateway.toml: models.m.steps[0].calibration" in str(caught.value)
    assert "small.json" in str(caught.value)


def test_a_single_sentence_is_judged_whole_whatever_is_decided_after(tmp_path):
    place(tmp_path, features=("sentence_score",))
    step = {"target": "rag", "answer_mode": "extractive"}
    assert read(tmp_path, step, decide_after=32)["m"].steps[0].alternatives is None


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
        (("logprob_p10",), {"target": "rag"}, {"decide_after": 32}, "'rag' gives them with it"),
    ],
)
def test_what_a_model_of_our_own_cannot_give_stops_the_start_once_it_is_known(
    tmp_path, features, step, model, named
):
    place(tmp_path, features=features)
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
    place(tmp_path)
    check_modes(read(tmp_path, {"target": "llm"}), {"llm": LLM})
