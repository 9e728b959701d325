"""A policy over a real server: who waits behind a held LLM, who is refused, and what never reaches it."""

import http.client
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from gateways import gateway_over
from generators import Hold
from rag_stack import rag_stack
from rich.console import Console
from stacks import wait_until

from fakes.upstreams import serving as serving_upstream
from trireme.indexing import ingest_path
from trireme.triton.metrics import count_answered, read_metrics

# Nothing but the line refuses, however slow the machine is.
FILE = """
[degrade.llm]
running = 1
waiting = 1

[degrade.rag]
running = 1
no_reranking = 0.000001
extractive = 0.000001
calm_seconds = 600.0
"""
QUESTION = "how many banks of oars had a trireme?"


@pytest.fixture(scope="module")
def hold(tmp_path_factory):
    """Of the LLM's answers."""
    return Hold(tmp_path_factory.mktemp("hold"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory, corpus, hold):
    with rag_stack(tmp_path_factory.mktemp("degradation"), hold.knobs, max_num_seqs=4) as running:
        ingest_path(running.settings, corpus, running.database_url, Console(quiet=True))
        yield running


@pytest.fixture(scope="module")
def degrading(stack, tmp_path_factory):
    """A gateway with the policy over the stack, and a secret of it."""
    folder = tmp_path_factory.mktemp("policy")
    with serving_upstream() as upstream, gateway_over(stack, upstream, folder, FILE) as running:
        yield running, running.new_key()


def ask(degrading, model="llm", question=QUESTION, headers=None, **ours):
    """Status, headers and body of one chat. ours: of the field that is."""
    gateway, secret = degrading
    connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=120)
    body = {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": question}]}
    if ours:
        body["trireme"] = ours
    sent = {"authorization": f"Bearer {secret}", **(headers or {})}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), sent)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), json.loads(answer.read())
    connection.close()
    return found


def read_gauge(degrading, name, model):
    gateway, secret = degrading
    connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=60)
    connection.request("GET", "/metrics", headers={"authorization": f"Bearer {secret}"})
    page = connection.getresponse().read().decode()
    connection.close()
    found = re.search(rf'^{name}{{model="{model}"}} (\S+)$', page, re.M)
    return float(found[1]) if found else 0.0


def answered(stack, model="llm"):
    settings = stack.settings
    return count_answered(read_metrics(settings.host, settings.metrics_port)).get(model, 0.0)


def is_writing(stack):
    page = read_metrics(stack.settings.host, stack.settings.metrics_port)
    return re.search(r"^vllm:num_requests_running{[^}]*} 1", page, re.M) is not None


def test_behind_a_held_llm_one_waits_and_one_more_is_refused_and_a_late_one_never_reaches_it(
    degrading, stack, hold
):
    before = answered(stack)
    with ThreadPoolExecutor(2) as pool, hold.at(2):
        first = pool.submit(ask, degrading)
        wait_until(lambda: is_writing(stack))
        status, _, body = ask(degrading, headers={"x-trireme-timeout": "0.2"})
        assert status in (503, 504)
        assert "error" in body
        waiting = pool.submit(ask, degrading)
        wait_until(lambda: read_gauge(degrading, "trireme_gateway_waiting", "llm") == 1)
        status, headers, body = ask(degrading)
        assert (status, body["error"]["type"]) == (503, "server_error")
        assert int(headers["retry-after"]) >= 1
        hold.let_go()
        assert [first.result()[0], waiting.result()[0]] == [200, 200]
    assert ask(degrading)[0] == 200
    # The server counts an answer soon after its end.
    wait_until(lambda: answered(stack) >= before + 3)
    assert answered(stack) == before + 3


def test_while_others_wait_an_answer_is_extractive_and_nothing_is_reranked_for_it(degrading, stack, hold):
    wait_until(lambda: not is_writing(stack))
    # No two questions are equal: they would share an answer.
    questions = [f"{QUESTION} ({number})" for number in range(3)]
    with ThreadPoolExecutor(3) as pool, hold.at(2):

        def begin(number):
            return pool.submit(ask, degrading, "rag", questions[number], answer_mode="generative")

        first = begin(0)
        wait_until(lambda: is_writing(stack))
        second = begin(1)
        # It waits, and from now on whoever comes gets less.
        wait_until(lambda: read_gauge(degrading, "trireme_gateway_degrade_level", "rag") == 2)
        third = begin(2)
        wait_until(lambda: read_gauge(degrading, "trireme_gateway_waiting", "rag") == 2)
        hold.let_go()
        found = [one.result() for one in (first, second, third)]
    assert [status for status, _, _ in found] == [200] * 3
    assert "x-trireme-degraded" not in found[0][1]
    assert found[2][1]["x-trireme-degraded"] == "no_reranking, extractive"
    details = found[2][2]["trireme"]["details"]
    assert details["degraded"] == ["no_reranking", "extractive"]
    assert (details["answer_mode"], details["reranked_passages"]) == ("extractive", 0)
