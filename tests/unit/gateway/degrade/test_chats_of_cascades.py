"""Cascades and chains under load: a cascade ends early, a chain falls back, and each answer says what it lacks."""

import dataclasses
import json

import pytest

from fakes.cascade_gateways import BIG, FILE, SURE, UNSURE, V1, Steps, gateway_of, place
from fakes.gateways import FakeGateway
from fakes.providers import Clock
from trireme.errors import SettingError
from trireme.gateway.cascades import versions
from trireme.gateway.file import parse_gateway_file
from trireme.providers.chat import Findings, Finished, Source, Sources, Started, TextDelta, Usage
from trireme.providers.models import ServedModel
from trireme.providers.port import ProviderError

CHAT = "/v1/chat/completions"
BODY = {"model": "careful", "messages": [{"role": "user", "content": "how many banks of oars?"}]}
RAG = ServedModel(
    "rag", "answer", True, "load", versions=(("rag", V1),), says_findings=True, takes_rerank_depth=True
)
POLICY = """
[degrade.careful]
behind = ["x"]
calm_seconds = 600.0
"""
SMALLER = f"{FILE}{POLICY}smaller_model = 1.0\n"
OF_RAG = FILE.replace('target = "p:small"', 'target = "rag"\nanswer_mode = "extractive"')
EXTRACTIVE = f"{OF_RAG}{POLICY}extractive = 1.0\n"
FEWER = (
    OF_RAG.replace('"small.json"', '"small.json"\nfewer_candidates = "fewer.json"')
    + f"{POLICY}fewer_candidates = 1.0\ncandidates = 6\n"
)


class Backlogs:
    """One model that so much waits for."""

    def __init__(self):
        self.seconds = 0.0

    async def read(self):
        return {"x": self.seconds}

    async def close(self):
        return None


def sentence(score, passage=0.5):
    """An extractive answer, its passage and its scores."""
    source = Source(1, "a#0", "a.md", 0, 9, score, 1.0, "An oar.")
    details = {"best_score": score, "passage_score": passage, "passage_gap": 0.1}
    return [
        Started("rag"),
        Findings((), details, ({"role": "user", "content": "[1] An oar."},)),
        TextDelta("An oar."),
        Sources((source,), details),
        Usage(3, 2),
        Finished("stop"),
    ]


@pytest.fixture(autouse=True)
def calibrations(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "KNOWN_SECONDS", 600.0)
    place(tmp_path, versions=(("p:small", "small-1"),))


def of_rag(folder, *names, at=0.0, digest=V1):
    """Calibrations that keep a sentence from this score on."""
    for name in names:
        place(folder, name, features=("sentence_score",), center=at, versions=(("rag", digest),))


def opened(folder, provider, text, **more):
    return gateway_of(folder, provider, text, backlogs=Backlogs(), degrade_clock=Clock(), **more)


def load(gateway, seconds=2.0):
    gateway.ports.degrade._reader.seconds = seconds
    gateway.run(gateway.ports.degrade.look())


def ask(gateway, **fields):
    status, headers, raw = gateway.ask("POST", CHAT, {**BODY, **fields})
    return status, {name.lower(): value for name, value in headers.items()}, raw.decode()


def steps_counted(gateway, step, outcome):
    labels = {"model": "careful", "step": step, "outcome": outcome}
    return gateway.ports.metrics._page.registry.get_sample_value("trireme_cascade_steps_total", labels)


@pytest.mark.parametrize("stream", [False, True])
def test_under_smaller_model_a_cascade_ends_at_its_first_step_and_says_so(tmp_path, stream):
    provider = Steps(small=UNSURE)
    with opened(tmp_path, provider, SMALLER) as gateway:
        assert ask(gateway, stream=stream)[1]["x-trireme-step"] == "big"
        load(gateway)
        # Another question: the first one's answer is kept.
        status, headers, text = ask(gateway, stream=stream, seed=1)
        assert (steps_counted(gateway, "small", "kept_unsure"), steps_counted(gateway, "big", "load")) == (
            1,
            1,
        )
    assert (status, provider.asked) == (200, ["small", "big", "small"])
    assert (headers["x-trireme-step"], headers["x-trireme-escalated"]) == ("small", "big=load")
    assert headers["x-trireme-degraded"] == "smaller_model"
    assert "perhaps" in text and "truly" not in text


def test_an_answer_of_which_the_first_step_is_sure_lacks_nothing_under_load_either(tmp_path):
    provider = Steps(small=SURE)
    with opened(tmp_path, provider, SMALLER) as gateway:
        load(gateway)
        status, headers, _ = ask(gateway)
        assert steps_counted(gateway, "small", "kept") == 1
    assert (status, headers["x-trireme-step"]) == (200, "small")
    assert "x-trireme-degraded" not in headers and "x-trireme-escalated" not in headers


@pytest.mark.parametrize(
    "small",
    [
        [Started("small-1"), ProviderError("down", "next", "overloaded")],
        [Started("small-1"), TextDelta(" "), Usage(1, 1), Finished("stop")],
        [Started("small-1"), TextDelta("so"), Usage(1, 1), Finished("filter")],
    ],
)
def test_a_step_that_has_no_answer_is_followed_by_the_next_one_under_load_too(tmp_path, small):
    provider = Steps(small=small)
    with opened(tmp_path, provider, SMALLER) as gateway:
        load(gateway)
        status, headers, text = ask(gateway)
    assert (status, headers["x-trireme-step"]) == (200, "big")
    assert "truly" in text
    assert "x-trireme-degraded" not in headers


def test_a_cascade_whose_first_step_cannot_take_the_call_is_asked_as_ever(tmp_path):
    provider = Steps()
    provider.refuses["small"] = "tools: not here"
    with opened(tmp_path, provider, SMALLER) as gateway:
        load(gateway)
        status, headers, _ = ask(gateway)
    assert (status, headers["x-trireme-step"], headers["x-trireme-escalated"]) == (200, "big", "small=unable")
    assert "x-trireme-degraded" not in headers


@pytest.mark.parametrize("stream", [False, True])
def test_under_extractive_a_cascade_ends_at_its_step_of_sentences(tmp_path, stream):
    of_rag(tmp_path, "small.json", at=0.9)
    provider = Steps(rag=sentence(0.1))
    with opened(tmp_path, provider, EXTRACTIVE, models=[RAG]) as gateway:
        assert ask(gateway, stream=stream)[1]["x-trireme-step"] == "big"
        load(gateway)
        status, headers, text = ask(gateway, stream=stream, seed=1)
    assert (status, headers["x-trireme-step"], headers["x-trireme-escalated"]) == (200, "small", "big=load")
    assert headers["x-trireme-degraded"] == "extractive"
    assert '"degraded":["extractive"]' in text.replace(" ", "")
    # The step's own mode; nothing else is changed of its call.
    assert (provider.calls[-1].answer_mode, provider.calls[-1].eased_mode) == ("extractive", None)


def test_fewer_candidates_are_judged_by_the_calibration_that_was_fitted_on_such_answers(tmp_path):
    of_rag(tmp_path, "small.json", at=0.2)
    of_rag(tmp_path, "fewer.json", at=0.9)
    provider = Steps(rag=sentence(0.5))
    with opened(tmp_path, provider, FEWER, models=[RAG]) as gateway:
        assert ask(gateway)[1]["x-trireme-step"] == "small"
        load(gateway)
        status, headers, _ = ask(gateway, seed=1)
    assert (status, headers["x-trireme-step"], headers["x-trireme-escalated"]) == (200, "big", "small=unsure")
    assert headers["x-trireme-degraded"] == "fewer_candidates"
    assert [call.rerank_depth for call in provider.calls] == [None, 6, 6]


def test_fewer_candidates_are_not_taken_while_their_calibration_is_of_other_models(tmp_path):
    of_rag(tmp_path, "small.json", at=0.2)
    of_rag(tmp_path, "fewer.json", at=0.9, digest="2" * 64)
    provider = Steps(rag=sentence(0.5))
    with opened(tmp_path, provider, FEWER, models=[RAG]) as gateway:
        load(gateway)
        status, headers, _ = ask(gateway)
    assert (status, headers["x-trireme-step"]) == (200, "small")
    assert "x-trireme-degraded" not in headers
    assert [call.rerank_depth for call in provider.calls] == [None]


def test_a_step_that_no_calibration_was_fitted_on_stops_the_start_and_is_named(tmp_path):
    of_rag(tmp_path, "small.json")
    text = f"{OF_RAG}{POLICY}no_reranking = 1.0\n"
    with pytest.raises(
        SettingError, match=r"degrade\.careful\.no_reranking: the calibration of models\.careful"
    ):
        opened(tmp_path, Steps(), text, models=[RAG])


CHAIN = """
[providers.p]
kind = "openai"
[models.mine]
chain = ["rag", "p:big"]
[degrade.mine]
behind = ["x"]
no_reranking = 1.0
extractive = 1.0
"""


@pytest.mark.parametrize("stream", [False, True])
def test_a_chain_whose_rag_model_is_down_falls_back_also_while_answers_are_extractive(stream):
    provider = Steps(rag=[Started("rag"), ProviderError("down", "next", "overloaded")], big=BIG)
    provider.refuses["big"] = lambda call: "answer_mode is of rag models" if call.answer_mode else ""
    more = {"backlogs": Backlogs(), "degrade_clock": Clock()}
    file = parse_gateway_file(CHAIN.encode(), "gateway.toml")
    with FakeGateway(provider, file=file, models=[RAG], **more) as gateway:
        load(gateway)
        status, headers, text = ask(gateway, model="mine", stream=stream)
        assert (status, provider.asked) == (200, ["rag", "big"])
        assert (headers["x-trireme-served-by"], "truly" in text) == ("p:big", True)
        # It reads no passages: nothing of the answer was left out.
        assert "x-trireme-degraded" not in headers
        provider.scripts["rag"] = sentence(0.5)
        status, headers, text = ask(gateway, model="mine", stream=stream, seed=1)
    assert (status, headers["x-trireme-degraded"]) == (200, "no_reranking, extractive")
    rag = provider.calls[-1]
    assert (rag.eased_mode, rag.rerank_depth, rag.answer_mode) == ("extractive", 0, None)


def test_a_client_that_asks_for_written_answers_gets_a_sentence_or_the_error_of_the_rag_model(tmp_path):
    provider = Steps(rag=[Started("rag"), ProviderError("down", "next", "overloaded")])
    provider.refuses["big"] = lambda call: "answer_mode is of rag models" if call.answer_mode else ""
    more = {"backlogs": Backlogs(), "degrade_clock": Clock()}
    file = parse_gateway_file(CHAIN.encode(), "gateway.toml")
    with FakeGateway(provider, file=file, models=[RAG], **more) as gateway:
        load(gateway)
        status, _, text = ask(gateway, model="mine", trireme={"answer_mode": "generative"})
        assert (status, json.loads(text)["error"]["message"]) == (503, "down")
        assert dataclasses.asdict(provider.calls[-1])["eased_mode"] == "extractive"


def test_a_cascade_that_names_another_model_never_ends_at_its_own_first_step(tmp_path):
    provider = Steps(small=UNSURE)
    text = f'{SMALLER}smaller = "llm"\n[tenants.acme]\nforbid_providers = ["local"]\n'
    with opened(tmp_path, provider, text) as gateway:
        load(gateway)
        status, headers, _ = ask(gateway)
    assert (status, headers["x-trireme-step"]) == (200, "big")
    assert "x-trireme-degraded" not in headers
