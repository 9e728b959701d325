"""One request is followed by its id and its trace through the log of every process, and to the provider."""

import contextlib
import http.client
import json
import re

import pytest
from gateways import gateway_over
from stacks import wait_until

from fakes.upstreams import serving
from trireme.observe.trace import read_parent

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-00f067aa0ba902b7-{flags}" for flags in ("01", "00"))


@pytest.fixture(scope="module")
def upstream():
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(stack, upstream, tmp_path_factory):
    with gateway_over(stack, upstream, tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def post(gateway):
    key = gateway.new_key("--tenant", "default")
    address = gateway.url.removeprefix("http://")

    def ask(path, body, request, parent):
        headers = {"authorization": f"Bearer {key}", "x-request-id": request}
        headers |= {"traceparent": parent} if parent else {}
        with contextlib.closing(http.client.HTTPConnection(address, timeout=240)) as connection:
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status

    return ask


def chat(model, text, **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 8, **more}


def server_lines(stack, request):
    """Model, outcome and trace of each line of tritonserver's log that names the request."""
    text = stack.settings.data_dir.glob("logs/*.log")
    lines = "".join(path.read_text(errors="replace") for path in text)
    pattern = rf"request {request}( trace (\w+))? model (\w+): ([\w ]+), [\d.]+ s"
    return [(model, outcome, trace) for _, trace, model, outcome in re.findall(pattern, lines)]


def gateway_line(gateway, request):
    def lines():
        found = [json.loads(line) for line in gateway.log.read_text().splitlines() if f'"{request}"' in line]
        return [line for line in found if line.get("request") == request]

    # It is written once the client has its answer.
    wait_until(lines)
    (line,) = lines()
    return line


def test_a_sampled_answer_is_in_the_log_of_each_of_its_steps(stack, gateway, post):
    question = "How many banks of oars had a trireme?"
    body = chat("rag", question, trireme={"answer_mode": "generative"})
    assert post("/v1/chat/completions", body, "follow-rag-1", SAMPLED) == 200
    assert gateway_line(gateway, "follow-rag-1")["trace"] == TRACE
    steps = {"embedding", "search__retrieve", "reranker", "llm", "rag"}
    wait_until(lambda: {model for model, *_ in server_lines(stack, "follow-rag-1")} >= steps)
    lines = server_lines(stack, "follow-rag-1")
    assert {trace for *_, trace in lines} == {TRACE}
    assert {outcome for model, outcome, _ in lines if model != "llm"} == {"ok"}
    assert {outcome for model, outcome, _ in lines if model == "llm"} <= {"stop", "length"}


def test_a_sampled_search_is_in_the_log_of_each_model_of_its_ensemble(stack, gateway, post):
    assert post("/v1/search", {"query": "oars", "top_k": 2}, "follow-search-1", SAMPLED) == 200
    steps = {"embedding", "search__retrieve", "reranker", "search__sort"}
    wait_until(lambda: {model for model, *_ in server_lines(stack, "follow-search-1")} >= steps)


def test_without_a_wish_to_be_sampled_long_work_and_failures_alone_have_a_line(stack, gateway, post):
    assert post("/v1/chat/completions", chat("llm", "Say one."), "quiet-llm-1", "") == 200
    assert post("/v1/embeddings", {"model": "embedding", "input": "fine"}, "quiet-ok-1", UNSAMPLED) == 200
    assert post("/v1/embeddings", {"model": "embedding", "input": " "}, "quiet-bad-1", UNSAMPLED) == 400
    wait_until(lambda: server_lines(stack, "quiet-bad-1") == [("embedding", "INVALID_ARG", TRACE)])
    wait_until(lambda: server_lines(stack, "quiet-llm-1"))
    ((model, _, trace),) = server_lines(stack, "quiet-llm-1")
    assert (model, trace) == ("llm", gateway_line(gateway, "quiet-llm-1")["trace"])
    assert server_lines(stack, "quiet-ok-1") == []


def test_a_provider_is_told_the_id_and_a_span_of_the_trace(upstream, gateway, post):
    assert post("/v1/chat/completions", chat("assistant", "to a provider"), "follow-away-1", SAMPLED) == 200
    (call,) = [one for one in upstream.calls if one.headers.get("x-request-id") == "follow-away-1"]
    assert read_parent(call.headers["traceparent"]) == (TRACE, True)
    assert call.headers["traceparent"] != SAMPLED


def test_each_attempt_at_providers_is_a_span_of_its_own(upstream, gateway, post):
    assert post("/v1/chat/completions", chat("fallback", "twice"), "follow-away-2", "nonsense") == 200
    told = [one.headers for one in upstream.calls if one.headers.get("x-request-id") == "follow-away-2"]
    assert len(told) >= 2
    assert len({one["traceparent"] for one in told}) == len(told)
    (trace,) = {read_parent(one["traceparent"])[0] for one in told}
    assert trace == gateway_line(gateway, "follow-away-2")["trace"] != TRACE


@pytest.mark.parametrize("name", ["bulk", "cancel"])
def test_an_id_that_means_something_to_backends_changes_nothing(gateway, post, name):
    assert post("/v1/embeddings", {"model": "embedding", "input": "fine"}, name, SAMPLED) == 200
    assert post("/v1/chat/completions", chat("llm", f"Say {name}."), name, SAMPLED) == 200
