"""One request through gateway, tritonserver and worker is one trace at a collector, in the right tree."""

import contextlib
import http.client
import json
import re
import secrets

import pytest
from gateways import gateway_over
from prometheus_client.parser import text_string_to_metric_families
from rag_stack import REPOSITORY, place_repository
from rich.console import Console
from stacks import ROOT, settings_on_free_ports, wait_until

from fakes.collectors import collecting, traces_of
from fakes.upstreams import serving
from trireme.indexing import ingest_path
from trireme.observe import metrics as names
from trireme.stack import Stack
from trireme.triton import server
from trireme.triton.metrics import read_metrics

CANARY = "canary-8150"
# Kinds of OTLP.
INTERNAL, SERVER, CLIENT, CONSUMER = 1, 2, 3, 5


@pytest.fixture(scope="module")
def collector():
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def tritons_own():
    """Where tritonserver sends spans of its own."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def stack(collector, tritons_own, tmp_path_factory, corpus):
    """The chain of answers and searches, with the fake engine, which makes no time of its own."""
    plain = server.server_command
    options = [
        f"opentelemetry,url={traces_of(tritons_own)}",
        "mode=opentelemetry",
        "level=TIMESTAMPS",
        "rate=1",
    ]
    more = [word for option in options for word in ("--trace-config", option)]
    repository = place_repository(tmp_path_factory.mktemp("models"), {})
    for model in ("search", "search__sort"):
        (repository / model).symlink_to(REPOSITORY / model)
    folder = tmp_path_factory.mktemp("data")
    settings = settings_on_free_ports(folder, model_repository=repository, otlp_url=traces_of(collector))
    with contextlib.ExitStack() as opened:
        patch = opened.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(server, "server_command", lambda *given: [*plain(*given), *more])
        running = opened.enter_context(Stack(settings))
        ingest_path(settings, corpus, running.database_url, Console(quiet=True))
        running.start_worker()
        yield running


@pytest.fixture(scope="module")
def gateway(stack, tmp_path_factory):
    with serving() as upstream, gateway_over(stack, upstream, tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def post(gateway):
    key = gateway.new_key("--tenant", "default")
    address = gateway.url.removeprefix("http://")

    def ask(path, body, **headers):
        given = {"authorization": f"Bearer {key}", "content-type": "application/json", **headers}
        with contextlib.closing(http.client.HTTPConnection(address, timeout=240)) as connection:
            connection.request("POST", path, json.dumps(body), given)
            answer = connection.getresponse()
            return answer.status, answer.read()

    return ask


class Tree:
    """The spans of one trace, once those `wanted` are there."""

    def __init__(self, collector, trace, *wanted):
        def is_whole(seen):
            there = [span.name for span in seen.spans if span.trace == trace]
            return all(there.count(name) >= wanted.count(name) for name in wanted)

        collector.wait_until(is_whole)
        self.spans = [span for span in collector.spans if span.trace == trace]
        self._by_id = {span.span: span for span in self.spans}
        assert len(self._by_id) == len(self.spans), "a span came twice"

    def named(self, name):
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def path(self, span):
        """Its name and those of its parents, the outermost first."""
        above = self._by_id.get(span.parent)
        return [*(self.path(above) if above else []), span.name]

    def paths(self):
        return {" > ".join(self.path(span)) for span in self.spans}


def tree_of_docs():
    """The paths of the spans that docs/traces.md shows."""
    text = (ROOT / "docs" / "traces.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- begin: tree -->\n```\n(.+?)```", text, re.S)[1]
    above, found = [], set()
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        # What follows says which process sends it.
        above[depth:] = [re.split(r"  +", line.strip())[0]]
        found.add(" > ".join(above))
    return found


def new_trace():
    trace = secrets.token_hex(16)
    return trace, f"00-{trace}-{secrets.token_hex(8)}-01"


def chat(model, text, **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 8, **more}


def test_an_answer_is_one_trace_from_the_gateway_to_the_llms_queue(collector, post):
    trace, parent = new_trace()
    body = chat(
        "rag", f"How many banks of oars had a trireme? {CANARY}", trireme={"answer_mode": "generative"}
    )
    assert post("/v1/chat/completions", body, traceparent=parent, **{"x-request-id": "otlp-rag-1"})[0] == 200
    expected = tree_of_docs()
    request = min(expected, key=len)
    tree = Tree(collector, trace, *(path.rpartition(" > ")[2] for path in expected))
    assert tree.paths() == expected
    assert tree.named(request).parent == parent.split("-")[2]
    assert tree.named("rag").attributes["trireme.answer_mode"] == "generative"
    assert tree.named("llm").attributes["gen_ai.usage.output_tokens"] >= 1
    assert {span.attributes.get("trireme.request") for span in tree.spans} <= {"otlp-rag-1", None}
    kinds = {"POST /v1/chat/completions": SERVER, "chat rag": CLIENT, "rag": SERVER, "embed": INTERNAL}
    assert {name: tree.named(name).kind for name in kinds} == kinds
    services = {"chat rag": "trireme-gateway", "rag": "trireme-server", "llm": "trireme-server"}
    assert {name: tree.named(name).service for name in services} == services
    assert not any(span.error for span in tree.spans)


def test_the_stages_follow_each_other_within_their_answer(collector, post):
    trace, parent = new_trace()
    body = chat("rag", "How many banks of oars had a trireme?", trireme={"answer_mode": "auto"})
    assert post("/v1/chat/completions", body, traceparent=parent)[0] == 200
    tree = Tree(collector, trace, "POST /v1/chat/completions", "rag", "sentences")
    rag = tree.named("rag")
    stages = [tree.named(name) for name in ("embed", "retrieve", "rerank", "sentences")]
    assert {stage.parent for stage in stages} == {rag.span}
    # All of one process, so of one clock.
    times = [moment for stage in stages for moment in (stage.began, stage.ended)]
    assert times == sorted(times)
    assert sum(stage.seconds for stage in stages) <= rag.seconds


def test_the_llms_queue_prefill_and_decode_are_its_whole_time(collector, post):
    trace, parent = new_trace()
    assert (
        post("/v1/chat/completions", chat("llm", "Count to five, and then on to ten."), traceparent=parent)[0]
        == 200
    )
    tree = Tree(collector, trace, "llm", "queue", "prefill", "decode", "chat llm")
    llm = tree.named("llm")
    parts = [tree.named(name) for name in ("queue", "prefill", "decode")]
    assert {part.parent for part in parts} == {llm.span}
    assert [one.ended for one in parts[:2]] == [one.began for one in parts[1:]]
    assert sum(part.seconds for part in parts) == pytest.approx(llm.seconds, abs=0.05)
    call = tree.named("chat llm")
    used = {
        name: call.attributes[name] for name in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    }
    assert used == {name: llm.attributes[name] for name in used}
    assert call.attributes["gen_ai.provider.name"] == "triton"


def test_a_search_is_a_span_of_each_model_of_its_ensemble(collector, post):
    trace, parent = new_trace()
    assert post("/v1/search", {"query": f"oars {CANARY}", "top_k": 2}, traceparent=parent)[0] == 200
    steps = ("embedding", "search__retrieve", "reranker", "search__sort")
    tree = Tree(collector, trace, "POST /v1/search", "retrieval search", *steps)
    call = tree.named("retrieval search")
    assert {tree.named(step).parent for step in steps} == {call.span}


def test_a_document_is_indexed_within_the_trace_of_its_upload_and_named_in_the_workers_log(
    collector, stack, post
):
    trace, parent = new_trace()
    body = {"document_id": "a paper", "text": f"A paper about sails. {CANARY}"}
    headers = {"traceparent": parent, "x-request-id": "otlp-upload-1"}
    assert post("/v1/documents", body, **headers)[0] == 202
    tree = Tree(collector, trace, "POST /v1/documents", "index document")
    indexed = tree.named("index document")
    assert tree.path(indexed) == ["POST /v1/documents", "index document"]
    assert (indexed.kind, indexed.service) == (CONSUMER, "trireme-worker")
    assert indexed.attributes["trireme.outcome"] == "stored"
    log = stack.settings.data_dir / "logs" / "worker.log"
    line = f'request otlp-upload-1 trace {trace} job {indexed.attributes["trireme.job"]} document "a paper": stored'
    wait_until(lambda: line in log.read_text())


def test_tritonservers_own_spans_join_the_trace_below_the_gateways_call(collector, tritons_own, post):
    trace, parent = new_trace()
    assert post("/v1/embeddings", {"model": "embedding", "input": "its own"}, traceparent=parent)[0] == 200
    call = Tree(collector, trace, "embeddings embedding").named("embeddings embedding")
    tritons_own.wait_until(lambda seen: any(span.parent == call.span for span in seen.spans))
    assert {span.service for span in tritons_own.spans} == {"triton-inference-server"}


def test_a_request_that_brings_no_trace_begins_one(collector, post):
    before = len(collector.spans)
    assert (
        post("/v1/embeddings", {"model": "embedding", "input": "fine"}, **{"x-request-id": "otlp-new-1"})[0]
        == 200
    )
    collector.wait_until(
        lambda seen: any(
            span.attributes.get("trireme.request") == "otlp-new-1" for span in seen.spans[before:]
        )
    )
    span = next(one for one in collector.spans if one.attributes.get("trireme.request") == "otlp-new-1")
    tree = Tree(collector, span.trace, "POST /v1/embeddings", "embeddings embedding", "embedding")
    assert tree.paths() == {
        "POST /v1/embeddings",
        "POST /v1/embeddings > embeddings embedding",
        "POST /v1/embeddings > embeddings embedding > embedding",
    }


def test_one_that_asks_not_to_be_recorded_leaves_none(collector, post):
    trace = secrets.token_hex(16)
    parent = f"00-{trace}-{secrets.token_hex(8)}-00"
    body = {"model": "embedding", "input": "fine"}
    assert post("/v1/embeddings", body, traceparent=parent)[0] == 200
    later, sampled = new_trace()
    assert post("/v1/embeddings", body, traceparent=sampled)[0] == 200
    Tree(collector, later, "POST /v1/embeddings", "embeddings embedding", "embedding")
    assert not [span for span in collector.spans if span.trace == trace]


def spans_of_models(stack, outcome):
    """How many spans of models' processes ended so, by their own count."""
    page = read_metrics(stack.settings.host, stack.settings.metrics_port)
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == names.MODEL_SPANS.name and sample.labels["outcome"] == outcome
    )


@pytest.mark.parametrize("mode", ["hang", "503", "garbage"])
def test_a_collector_that_takes_nothing_costs_no_request(collector, stack, post, mode):
    lost = spans_of_models(stack, "failed")
    collector.released.clear()
    collector.mode = mode
    try:
        for number in range(20):
            body = {"model": "embedding", "input": f"{mode} {number}"}
            assert post("/v1/embeddings", body)[0] == 200
        if mode == "garbage":
            # Nobody took them: the metric says so.
            wait_until(lambda: spans_of_models(stack, "failed") > lost)
    finally:
        collector.mode = "ok"
        collector.released.set()
    trace, parent = new_trace()
    assert post("/v1/embeddings", {"model": "embedding", "input": mode}, traceparent=parent)[0] == 200
    Tree(collector, trace, "POST /v1/embeddings", "embeddings embedding", "embedding")
    assert spans_of_models(stack, "sent") > 0


def test_no_span_holds_a_prompt_a_document_or_a_key(collector):
    said = json.dumps([[span.name, span.attributes] for span in collector.spans])
    assert "otlp-rag-1" in said
    assert CANARY not in said
    assert "tr-" not in said
    assert CANARY not in json.dumps(collector.headers)
