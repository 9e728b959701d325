"""A cascade on the whole stack: the best sentence of `rag` where it is sure enough, else a provider's answer."""

import json

import pytest
from cascades import PROVIDER, asking, model_row, versions_of
from gateways import gateway_over

from fakes.cascade_gateways import calibration_of
from fakes.upstreams import serving as serving_upstream
from trireme.cascade.calibration import write_calibration

MODES = {"careful": "extractive", "written": "generative", "outdated": "extractive"}
FILE = PROVIDER + "".join(model_row(name, mode) for name, mode in MODES.items())
# What answers with a sentence.
ANSWERED = ("embedding", "rag", "reranker", "search__retrieve")
WRITTEN = (*ANSWERED, "llm")
KNOWN = "How many banks of oars had a trireme?"
UNKNOWN = "Which enzyme of the liver breaks down paracetamol?"


@pytest.fixture(scope="module")
def careful(stack, tmp_path_factory):
    """A gateway with calibrations of the models of `stack` as they are served, and one of another reranker; its
    key, and the fake provider."""
    served = dict(versions_of(stack, *WRITTEN))
    folder = tmp_path_factory.mktemp("cascades")
    (folder / "cascade").mkdir()
    # From this score of its sentence on an answer is kept; one of the LLM's always, if its tokens are known.
    rows = {
        "careful": ("sentence_score", 0.5, {name: served[name] for name in ANSWERED}),
        "written": ("logprob_least", -1000.0, served),
        "outdated": ("sentence_score", 0.5, {"embedding": served["embedding"], "reranker": "0" * 64}),
    }
    for name, (feature, center, pairs) in rows.items():
        made = calibration_of(feature, center=center, versions=tuple(sorted(pairs.items())))
        write_calibration(folder / "cascade" / f"{name}.json", made)
    with serving_upstream() as upstream, gateway_over(stack, upstream, folder, FILE) as gateway:
        yield gateway, gateway.new_key(), upstream


def ask(careful, text, *, model="careful", stream=False):
    """The answer's headers and text, whole or as frames."""
    gateway, key, _ = careful
    waits = ("unknown_version",) if model == "outdated" else ("unknown_version", "version")
    with asking(gateway, key, model, text, stream=stream, waits=waits) as answer:
        return answer.headers, answer.read().decode()


@pytest.mark.parametrize("stream", [False, True])
def test_the_sentence_that_answers_is_shown_and_nobody_else_asked(careful, stream):
    headers, text = ask(careful, KNOWN, stream=stream)
    assert headers["x-trireme-step"] == "extractive"
    assert headers["x-trireme-escalated"] is None
    assert headers["x-trireme-served-by"] == "local:rag"
    assert "three banks of oars" in text
    assert "rowing.html" in text
    assert headers["x-trireme-attempts"] == "1"


@pytest.mark.parametrize("stream", [False, True])
def test_a_question_that_no_sentence_answers_is_asked_of_the_provider(careful, stream):
    headers, text = ask(careful, UNKNOWN, stream=stream)
    assert (headers["x-trireme-step"], headers["x-trireme-escalated"]) == ("big", "extractive=unsure")
    assert headers["x-trireme-served-by"] == "fakeopenai:echo"
    assert headers["x-trireme-attempts"] == "2"
    # What was found goes with the question, whatever the sentence was worth; the fake says it again.
    user = json.loads(careful[2].calls[-1].raw)["messages"][-1]["content"]
    assert UNKNOWN in user and "banks of oars" in user
    assert "enzyme" in text


def test_what_the_llm_writes_is_judged_by_its_tokens_which_no_client_sees(careful):
    headers, text = ask(careful, KNOWN, model="written")
    assert (headers["x-trireme-step"], headers["x-trireme-escalated"]) == ("generative", None)
    details = json.loads(text)["trireme"]["details"]
    assert details["answer_mode"] == "generative"
    assert "token_logprobs" not in details


def test_a_calibration_of_another_reranker_judges_nothing_and_readiness_says_so(careful):
    gateway, key, _ = careful
    headers, text = ask(careful, KNOWN, model="outdated")
    assert (headers["x-trireme-step"], headers["x-trireme-escalated"]) == ("big", "extractive=version")
    assert "banks of oars" in text
    _, said = gateway.ask("/readyz", key)
    assert any("step extractive of model outdated is not used" in detail for detail in said["details"])
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if line.startswith("{")]
    told = [line["message"] for line in lines if "of model outdated" in line.get("message", "")]
    assert any("reranker" in message for message in told)
