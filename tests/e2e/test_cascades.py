"""A cascade on the whole stack: the best sentence of `rag` where it is sure enough, else a provider's answer."""

import contextlib
import http.client
import json

import pytest
from gateways import gateway_over
from stacks import wait_until

from fakes.cascade_gateways import calibration_of
from fakes.upstreams import serving as serving_upstream
from trireme.cascade.calibration import write_calibration
from trireme.triton.served_models import read_served_models

FILE = """
[providers.fakeopenai]
kind = "openai"
url = "{url}/v1"
keys = ["FAKE_PROVIDER_KEY"]

[models.careful]
exact = "off"
[[models.careful.steps]]
name = "extractive"
target = "rag"
answer_mode = "extractive"
calibration = "cascade/extractive.json"
[[models.careful.steps]]
name = "big"
chain = ["fakeopenai:echo"]

[models.written]
exact = "off"
[[models.written.steps]]
name = "generative"
target = "rag"
answer_mode = "generative"
calibration = "cascade/generative.json"
[[models.written.steps]]
name = "big"
chain = ["fakeopenai:echo"]

[models.outdated]
exact = "off"
[[models.outdated.steps]]
name = "extractive"
target = "rag"
answer_mode = "extractive"
calibration = "cascade/outdated.json"
[[models.outdated.steps]]
name = "big"
chain = ["fakeopenai:echo"]
"""
# What answers with a sentence.
ANSWERED = ("embedding", "rag", "reranker", "search__retrieve")
WRITTEN = (*ANSWERED, "llm")
KNOWN = "How many banks of oars had a trireme?"
UNKNOWN = "Which enzyme of the liver breaks down paracetamol?"


@pytest.fixture(scope="module")
def careful(stack, tmp_path_factory):
    """A gateway with calibrations of the models of `stack` as they are served, and one of another reranker; its
    key, and the fake provider."""
    settings = stack.settings
    served = {}

    def read():
        found = read_served_models(settings.host, settings.http_port, settings.metrics_port)
        served.update({model.name: model.version for model in found})
        return all(served.get(name) for name in WRITTEN)

    wait_until(read, 60)
    folder = tmp_path_factory.mktemp("cascades")
    (folder / "cascade").mkdir()
    # From this score of its sentence on an answer is kept; one of the LLM's always, if its tokens are known.
    rows = {
        "extractive": ("sentence_score", 0.5, {name: served[name] for name in ANSWERED}),
        "generative": ("logprob_least", -1000.0, {name: served[name] for name in WRITTEN}),
        "outdated": ("sentence_score", 0.5, {"embedding": served["embedding"], "reranker": "0" * 64}),
    }
    for name, (feature, center, pairs) in rows.items():
        made = calibration_of(feature, center=center, versions=tuple(sorted(pairs.items())))
        write_calibration(folder / "cascade" / f"{name}.json", made)
    with serving_upstream() as upstream, gateway_over(stack, upstream, folder, FILE) as gateway:
        yield gateway, gateway.new_key(), upstream


def ask(careful, text, *, model="careful", stream=False):
    """The answer's headers and text, whole or as frames, once a stack under load has said what it has loaded."""
    found = []

    def is_known():
        found[:] = ask_once(careful, text, model=model, stream=stream)
        reason = (found[0]["x-trireme-escalated"] or "").partition("=")[2]
        return reason not in (("unknown_version",) if model == "outdated" else ("unknown_version", "version"))

    wait_until(is_known, 90)
    return found


def ask_once(careful, text, *, model, stream):
    """As `ask`, whatever the stack has said."""
    gateway, key, _ = careful
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}
    with contextlib.closing(
        http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=120)
    ) as connection:
        headers = {"authorization": f"Bearer {key}"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        raw = answer.read().decode()
    assert answer.status == 200, raw
    return answer.headers, raw


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
    # The fake says the question again.
    assert "enzyme" in text
    assert "lentils" not in text
    assert headers["x-trireme-attempts"] == "2"
    assert UNKNOWN in careful[2].calls[-1].raw.decode()


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
