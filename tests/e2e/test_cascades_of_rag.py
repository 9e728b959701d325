"""Cascades whose small step writes: decided while the LLM is held, and what was found goes to the provider."""

import dataclasses
import json
import re

import pytest
from cascades import PROVIDER, asking, model_row, versions_of
from gateways import gateway_over
from generators import Hold
from rag_stack import rag_stack
from rich.console import Console
from stacks import wait_until

from fakes.cascade_gateways import calibration_of
from fakes.upstreams import serving as serving_upstream
from trireme.cascade.calibration import write_calibration
from trireme.indexing import ingest_path
from trireme.triton.metrics import read_metrics

DECIDE_AFTER = 4
FILE = PROVIDER + "".join(
    model_row(name, "generative", decide_after=DECIDE_AFTER) for name in ("sure", "unsure")
)
ANSWERING = ("embedding", "llm", "rag", "reranker", "search__retrieve")
QUESTION = "How many banks of oars had a trireme?"
OURS, THEIRS = "three banks of oars", "their quinquereme had five"
# Above the tokens that decide, below those of any whole answer: the fixed part of the prompt has more.
HELD_TOKENS = 12


@pytest.fixture(scope="module")
def hold(tmp_path_factory):
    """Of the LLM's answers."""
    return Hold(tmp_path_factory.mktemp("hold"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory, corpus, hold):
    """An LLM that says its prompt again, and passages of two tenants in collections of one name."""
    theirs = tmp_path_factory.mktemp("theirs")
    (theirs / "ships.txt").write_text(f"It is said that {THEIRS} banks of oars.")
    with rag_stack(tmp_path_factory.mktemp("rag"), hold.knobs, max_num_seqs=8) as running:
        quiet = Console(quiet=True)
        ingest_path(running.settings, corpus, running.database_url, quiet)
        rival = dataclasses.replace(running.settings, tenant="rival")
        ingest_path(rival, theirs, running.database_url, quiet)
        yield running


@pytest.fixture(scope="module")
def gateway(stack, tmp_path_factory):
    """A gateway whose models keep what they have read of an answer, always or never, and its provider."""
    folder = tmp_path_factory.mktemp("cascades")
    (folder / "cascade").mkdir()
    versions = versions_of(stack, *ANSWERING)
    for name, center in (("sure", -1000.0), ("unsure", 1000.0)):
        features = ("logprob_least", "logprob_first", "passage_score")
        made = calibration_of(*features, center=center, versions=versions, decide_after=DECIDE_AFTER)
        write_calibration(folder / "cascade" / f"{name}.json", made)
    with serving_upstream() as upstream, gateway_over(stack, upstream, folder, FILE) as running:
        yield running, upstream


@pytest.fixture(scope="module")
def key(gateway):
    return gateway[0].new_key()


def running(stack):
    """Answers that the LLM has in hand."""
    page = read_metrics(stack.settings.host, stack.settings.metrics_port)
    return float(re.search(r'^vllm:num_requests_running{[^}]*model="llm"[^}]*} (\S+)$', page, re.M)[1])


def test_an_answer_is_kept_and_shown_while_its_llm_has_not_ended(gateway, stack, key, hold):
    opened, _ = gateway
    with hold.at(HELD_TOKENS):
        with asking(opened, key, "sure", QUESTION, stream=True) as answer:
            # The head comes with the decision; the LLM may say no more until it is let go.
            assert answer.headers["x-trireme-step"] == "generative"
            line = b""
            while b'"content":"' not in line:
                line = answer.readline()
            wait_until(lambda: running(stack) == 1)
            hold.let_go()
            rest = answer.read().decode()
    assert "[DONE]" in rest and "token_logprobs" not in rest
    assert '"trireme"' in rest


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_not_kept_is_ended_before_its_end_and_the_provider_reads_what_was_found(
    gateway, stack, key, hold, stream
):
    opened, upstream = gateway
    with hold.at(HELD_TOKENS):
        # All of the provider's answer, while the LLM cannot end its own.
        with asking(opened, key, "unsure", QUESTION, stream=stream) as answer:
            answer.read()
            headers = answer.headers
        assert (headers["x-trireme-step"], headers["x-trireme-escalated"]) == ("big", "generative=unsure")
        wait_until(lambda: running(stack) == 0)
    sent = json.loads(upstream.calls[-1].raw)
    system, user = (message["content"] for message in sent["messages"])
    assert "passages" in system
    assert OURS in user and QUESTION in user and THEIRS not in user


def test_nobody_reads_the_passages_of_another_tenant(gateway, hold):
    opened, upstream = gateway
    rival = opened.new_key("--tenant", "rival")
    with asking(opened, rival, "unsure", QUESTION) as answer:
        answer.read()
    user = json.loads(upstream.calls[-1].raw)["messages"][-1]["content"]
    assert THEIRS in user and OURS not in user
