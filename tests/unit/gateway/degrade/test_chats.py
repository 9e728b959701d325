"""A policy as clients see it: each step in the answer and in the metrics, and what the upstream is asked."""

import asyncio
import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes.gateways import ANN, SECRET, Echo, FakeGateway
from fakes.memory_cache import MemoryCache
from fakes.providers import Clock
from trireme.access.keys import Key
from trireme.cache.exact import ExactTier
from trireme.gateway.caching.answers import Answers, Caching, TierRow
from trireme.gateway.caching.fingerprints import Fingerprints
from trireme.providers.chat import Finished, Source, Sources, Started, TextDelta, Usage
from trireme.providers.models import ServedModel
from trireme.types import Hit

FILE = """
[tenants.crowd]
priority = "batch"
[providers.p]
kind = "openai"
[models.small]
chain = ["p:small"]
[models.mine]
chain = ["p:m"]
exact = "all"
[degrade.rag]
running = 1
waiting = 8
fewer_candidates = 1.0
candidates = 6
no_reranking = 2.0
extractive = 3.0
smaller_model = 5.0
smaller = "small"
refuse = {batch = 6.0, normal = 7.0, high = 8.0}
calm_seconds = 1.0
[models.free]
chain = ["p:m"]
exact = "all"
[degrade.free]
smaller_model = 5.0
smaller = "small"
behind = ["m"]
[degrade.mine]
behind = ["m"]
stale = 4.0
stale_seconds = 100.0
refuse = {batch = 6.0, normal = 7.0, high = 8.0}
[degrade.search]
fewer_candidates = 1.0
candidates = 6
no_reranking = 2.0
refuse = {batch = 3.0}
[degrade.old_search]
no_reranking = 2.0
[cache]
seconds = 60.0
"""
KEYS = {
    SECRET: ANN,
    "tr-high": Key("key_high", "acme", "eve", priority="high"),
    "tr-crowd": Key("key_crowd", "crowd", priority="high"),
    "tr-one": Key("key_one", "acme", models=("rag",)),
}
ASKED = [{"role": "user", "content": "what is a trireme?"}]
SOURCE = Source(1, "a#0", "a", 0, 3, 1.0, 1.0, "An o")


class Server:
    """What is served, and one passage for each search."""

    def __init__(self):
        self.searched = []

    async def models(self):
        return [
            ServedModel("rag", "answer", True, "d", takes_rerank_depth=True),
            ServedModel("old_rag", "answer", True),
            ServedModel("search", "search", True, takes_rerank_depth=True),
            ServedModel("old_search", "search", True),
        ]

    async def search(self, call):
        self.searched.append(call)
        return [Hit("a#0", "An oar.", "{}", 0.5)]

    async def close(self):
        return None


class Backlogs:
    def __init__(self):
        self.said = {}

    async def read(self):
        return self.said

    async def close(self):
        return None


def answered(call, model):
    return [
        Started(f"{model}-1"),
        TextDelta(f"by {model}"),
        Sources((SOURCE,), {"a": 1}),
        Usage(3, 2),
        Finished("stop"),
    ]


class World:
    """A gateway whose backlogs the test sets. `asked`: the calls that came to the provider."""

    def __init__(self, script=answered, file=FILE):
        self.clock, self.now, self.backlogs, self.server = Clock(), Clock(), Backlogs(), Server()
        self.store = MemoryCache(self.now)
        self.provider = Echo(script)
        self.gateway = FakeGateway(
            self.provider,
            keys=KEYS,
            file=file,
            server=self.server,
            backlogs=self.backlogs,
            degrade_clock=self.clock,
            answers=self._answers,
        )

    def _answers(self, served, spending, metrics):
        file = self.gateway.file
        caching = Caching(
            file,
            Fingerprints(file.providers, served, None),
            spending,
            [TierRow(ExactTier(self.store, clock=self.now, now=self.now), 1.0)],
            now=self.now,
        )
        return Answers(caching)

    def hear(self, **said):
        """The gateway reads these seconds of waiting work."""
        self.backlogs.said = said
        self.gateway.run(self.gateway.ports.degrade.look())

    def chat(self, model="rag", secret=SECRET, headers=None, **more):
        body = {"model": model, "messages": ASKED, **more}
        return self.gateway.ask("POST", "/v1/chat/completions", body, headers, secret)

    @property
    def asked(self):
        return self.provider.calls

    def metric(self, name, **labels):
        """The value of one sample of /metrics; 0 where there is none."""
        _, _, page = self.gateway.ask("GET", "/metrics")
        wanted = "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"
        lines = dict(line.rsplit(" ", 1) for line in page.decode().splitlines() if not line.startswith("#"))
        return float(lines.get(name + wanted, 0))


@pytest.fixture
def world():
    made = World()
    with made.gateway:
        yield made


def test_each_step_is_taken_in_order_and_said_in_the_answer_and_in_the_metrics(world):
    steps = []
    expected = [
        (0.0, None, 200, None, None),
        (1.0, "fewer_candidates", 200, 6, None),
        (2.0, "no_reranking", 200, 0, None),
        (3.0, "extractive", 200, 0, "extractive"),
    ]
    for seconds, step, status, depth, mode in expected:
        world.hear(rag=seconds)
        steps += [step] if step else []
        answer = world.chat()
        assert answer[0] == status
        assert answer[1].get("x-trireme-degraded", "") == ", ".join(steps)
        call = world.asked[-1]
        assert (call.rerank_depth, call.eased_mode, call.answer_mode) == (depth, mode, None)
        details = json.loads(answer[2])["trireme"]["details"]
        assert details == ({"a": 1, "degraded": steps} if steps else {"a": 1})
    counts = [
        world.metric("trireme_gateway_degraded_total", model="rag", step=step)
        for step in ("fewer_candidates", "no_reranking", "extractive")
    ]
    assert counts == [3, 2, 1]
    assert world.metric("trireme_gateway_degrade_level", model="rag") == 3
    assert world.metric("trireme_gateway_backlog_seconds", model="rag") == 3.0


def test_a_streamed_answer_says_the_steps_in_its_header_and_with_its_sources(world):
    world.hear(rag=2.0)
    status, headers, raw = world.chat(stream=True)
    assert (status, headers["x-trireme-degraded"]) == (200, "fewer_candidates, no_reranking")
    frames = [json.loads(line[6:]) for line in raw.decode().splitlines() if line.startswith("data: {")]
    [ours] = [frame["trireme"] for frame in frames if "trireme" in frame]
    assert ours["details"]["degraded"] == ["fewer_candidates", "no_reranking"]


def test_steps_are_reversed_one_by_one_once_nothing_waits(world):
    world.hear(rag=3.0)
    seen = []
    for _ in range(5):
        world.hear(rag=0.0)
        seen.append(world.chat()[1].get("x-trireme-degraded", ""))
        world.clock.move(1.0)
    three, two = "fewer_candidates, no_reranking, extractive", "fewer_candidates, no_reranking"
    assert seen == [three, two, "fewer_candidates", "", ""]
    assert world.metric("trireme_gateway_degrade_level", model="rag") == 0


def test_a_smaller_model_is_asked_also_for_a_key_that_may_use_no_other(world):
    world.hear(rag=5.0)
    status, headers, raw = world.chat(secret="tr-one")
    assert status == 200
    assert headers["x-trireme-served-by"] == "p:small"
    # It reads no passages, so that nothing is said of them.
    assert headers["x-trireme-degraded"] == "smaller_model"
    assert json.loads(raw)["choices"][0]["message"]["content"] == "by small"
    assert (world.asked[-1].rerank_depth, world.asked[-1].eased_mode) == (None, None)


def test_a_model_whose_configuration_does_not_take_a_depth_is_asked_for_none(world):
    world.hear(old_search=2.0)
    status, headers, _ = world.gateway.ask("POST", "/v1/search", {"query": "oars", "model": "old_search"})
    assert status == 200
    assert "x-trireme-degraded" not in headers
    assert world.server.searched[-1].rerank_depth is None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/search", {"query": "oars", "rerank": False}),
        ("/v1/vector_stores/default/search", {"query": "oars", "ranking_options": {"ranker": "none"}}),
    ],
)
def test_a_search_that_wants_no_reranking_has_none_and_lacks_nothing_under_load(world, path, body):
    for seconds in (0.0, 2.0):
        world.hear(search=seconds)
        status, headers, raw = world.gateway.ask("POST", path, body)
        assert status == 200
        assert "x-trireme-degraded" not in headers
        assert "degraded" not in json.loads(raw)
    assert [call.rerank_depth for call in world.server.searched] == [0, 0]


def test_a_search_whose_configuration_does_not_take_a_depth_cannot_leave_reranking_out(world):
    asked = {"query": "oars", "model": "old_search", "rerank": False}
    status, _, raw = world.gateway.ask("POST", "/v1/search", asked)
    assert (status, json.loads(raw)["error"]["param"]) == (400, "rerank")
    assert world.server.searched == []


def test_a_search_reranks_fewer_passages_and_then_none_and_says_so(world):
    answers = []
    for seconds in (0.0, 1.0, 2.0):
        world.hear(search=seconds)
        status, headers, raw = world.gateway.ask("POST", "/v1/search", {"query": "oars"})
        assert status == 200
        answers.append((headers.get("x-trireme-degraded"), json.loads(raw).get("degraded")))
    assert answers == [
        (None, None),
        ("fewer_candidates", ["fewer_candidates"]),
        ("fewer_candidates, no_reranking", ["fewer_candidates", "no_reranking"]),
    ]
    assert [call.rerank_depth for call in world.server.searched] == [None, 6, 0]
    assert world.metric("trireme_gateway_degraded_total", model="search", step="no_reranking") == 1


def test_a_kept_answer_past_its_age_is_served_under_load_alone_and_marked(world):
    assert world.chat("mine")[0] == 200
    world.now.move(61)
    _, headers, _ = world.chat("mine")
    assert (headers["x-trireme-cache"], len(world.asked)) == ("miss", 2)
    world.now.move(61)
    world.hear(m=4.0)
    _, headers, raw = world.chat("mine")
    assert headers["x-trireme-degraded"] == "stale"
    assert headers["x-trireme-cache"] == "exact; age=61"
    assert json.loads(raw)["choices"][0]["message"]["content"] == "by m"
    assert len(world.asked) == 2
    assert world.metric("trireme_gateway_degraded_total", model="mine", step="stale") == 1
    # Under more load still: what is kept is there for those too who would be refused.
    world.hear(m=100.0)
    assert world.chat("mine")[0] == 200
    assert world.chat("mine", headers={"cache-control": "max-age=30"})[0] == 503
    world.now.move(100)
    assert world.chat("mine")[0] == 503
    assert len(world.asked) == 2


def test_an_answer_with_something_left_out_is_kept_for_nobody_and_a_whole_one_is_served_before_it(world):
    world.hear(m=5.0)
    for _ in range(2):
        _, headers, _ = world.chat("free")
        assert (headers["x-trireme-cache"], headers["x-trireme-degraded"]) == ("miss", "smaller_model")
    assert world.store.values == {}
    world.hear(m=0.0)
    world.clock.move(10)
    world.hear(m=0.0)
    assert "x-trireme-degraded" not in world.chat("free")[1]
    world.hear(m=5.0)
    _, headers, raw = world.chat("free")
    assert "x-trireme-degraded" not in headers
    assert json.loads(raw)["choices"][0]["message"]["content"] == "by m"
    assert len(world.asked) == 3


def test_the_lowest_priority_is_refused_first_with_retry_after_and_the_upstream_is_not_asked(world):
    seen = []
    for seconds in (5.5, 6.0, 7.0, 8.0):
        world.hear(rag=seconds)
        seen.append([world.chat(secret=secret)[0] for secret in ("tr-crowd", SECRET, "tr-high")])
    assert seen == [[200, 200, 200], [503, 200, 200], [503, 503, 200], [503, 503, 503]]
    assert len(world.asked) == 6
    status, headers, raw = world.chat()
    assert (status, headers["retry-after"]) == (503, "8")
    assert "x-should-retry" not in headers
    assert "8.0 s of work wait for model 'rag'" in json.loads(raw)["error"]["message"]
    shed = [
        world.metric("trireme_gateway_shed_total", model="rag", priority=priority, reason="backlog")
        for priority in ("batch", "normal", "high")
    ]
    assert shed == [3, 3, 1]


def test_a_request_may_say_that_it_is_batch(world):
    world.hear(rag=6.0)
    assert world.chat()[0] == 200
    assert world.chat(headers={"x-trireme-priority": "batch"})[0] == 503
    assert world.chat(secret="tr-crowd", headers={"x-trireme-priority": "high"})[0] == 503
    status, _, raw = world.chat(headers={"x-trireme-priority": "urgent"})
    assert (status, json.loads(raw)["error"]["param"]) == (400, "x-trireme-priority")


def test_a_search_of_batch_priority_is_refused_while_others_are_answered(world):
    world.hear(search=3.0)
    status, headers, raw = world.gateway.ask("POST", "/v1/search", {"query": "oars"}, secret="tr-crowd")
    assert (status, headers["retry-after"]) == (503, "3")
    assert "of priority batch are refused" in json.loads(raw)["error"]["message"]
    assert world.server.searched == []
    assert world.gateway.ask("POST", "/v1/search", {"query": "oars"})[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/chat/completions", {"messages": ASKED}, 503),
        ("/v1/responses", {"input": "hi"}, 503),
        ("/v1/messages", {"messages": ASKED, "max_tokens": 9}, 529),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_every_format_of_chats_is_refused_with_retry_after_before_anything_is_streamed(
    world, path, body, expected, stream
):
    world.hear(rag=9.0)
    body = {"model": "rag", "stream": stream, **body}
    status, headers, raw = world.gateway.ask("POST", path, body)
    assert (status, headers["retry-after"]) == (expected, "9")
    assert "wait for model" in json.loads(raw)["error"]["message"]
    assert world.asked == []


class Held:
    """A script whose answers wait until the test lets them go; `begun` is set when the first one has begun."""

    def __init__(self):
        self.begun, self._go = threading.Event(), threading.Event()

    def __call__(self, call, model):
        self.begun.set()
        return [Started(model), self._wait(), TextDelta("x"), Usage(1, 1), Finished("stop")]

    async def _wait(self):
        await asyncio.to_thread(self._go.wait, 30)

    def let_go(self):
        self._go.set()


@pytest.fixture
def held():
    script = Held()
    # Nothing but the line refuses, however slow the machine is.
    made = World(script, "[degrade.rag]\nrunning = 1\nwaiting = 8")
    # Deadlines are of the clock by which requests came.
    made.gateway._degrade_clock = None
    with made.gateway, ThreadPoolExecutor(9) as pool:
        made.first = pool.submit(made.chat)
        assert script.begun.wait(30)
        made.pool, made.script = pool, script
        try:
            yield made
        finally:
            script.let_go()


@pytest.mark.parametrize("name", ["x-trireme-timeout", "x-stainless-read-timeout", "x-stainless-timeout"])
def test_a_request_whose_deadline_passes_in_line_is_told_so_and_never_reaches_the_upstream(held, name):
    for stream in (False, True):
        status, _, raw = held.chat(headers={name: "0.05"}, stream=stream)
        assert status in (503, 504)
        assert "error" in json.loads(raw)
    held.script.let_go()
    assert held.first.result()[0] == 200
    assert held.chat()[0] == 200
    assert len(held.asked) == 2


def test_a_request_whose_client_has_gone_while_it_waited_never_reaches_the_upstream(held):
    connection = http.client.HTTPConnection("127.0.0.1", held.gateway.port, timeout=30)
    body = json.dumps({"model": "rag", "messages": ASKED})
    connection.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {SECRET}"})
    line = held.gateway.ports.degrade._routes["rag"].line
    until(lambda: line.waiting == 1)
    connection.close()
    until(lambda: line.waiting == 0)
    held.script.let_go()
    assert held.first.result()[0] == 200
    assert held.chat()[0] == 200
    assert len(held.asked) == 2


def test_more_than_may_wait_are_refused_while_the_others_are_answered_in_their_turn(held):
    line = held.gateway.ports.degrade._routes["rag"].line
    waiting = [held.pool.submit(held.chat) for _ in range(8)]
    until(lambda: line.waiting == 8)
    status, headers, _ = held.chat()
    assert status == 503
    assert int(headers["retry-after"]) >= 1
    held.script.let_go()
    assert [one.result()[0] for one in waiting] == [200] * 8
    assert len(held.asked) == 9


def until(is_so):
    """Blocks until it is so."""
    wait = threading.Event()
    for _ in range(3000):
        if is_so():
            return
        wait.wait(0.01)
    raise AssertionError("it did not come to pass")


@pytest.fixture(scope="module")
def on_time():
    """A gateway whose deadlines are of the clock by which requests come."""
    made = World(file="[degrade.rag]\nrunning = 1\nwaiting = 8")
    made.gateway._degrade_clock = None
    with made.gateway:
        yield made


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("said", "statuses"),
    [
        ({"x-trireme-timeout": "1e308"}, {200}),
        ({"x-trireme-timeout": "1e-320"}, {503, 504}),
        ({"x-trireme-timeout": "-0.0"}, {400}),
        ({"x-trireme-timeout": "nan"}, {400}),
        ({"x-trireme-timeout": "\u00b2"}, {400}),
        ({"x-trireme-timeout": "9" * 4000}, {400}),
        ({"x-stainless-timeout": "1e308", "x-envoy-expected-rq-timeout-ms": "1e308"}, {200}),
        ({"x-stainless-timeout": "\u00bd", "x-envoy-expected-rq-timeout-ms": "-1"}, {200}),
        ({"x-trireme-priority": "\u00e9" * 4000}, {400}),
        ({"x-trireme-priority": ""}, {400}),
        ({"x-trireme-priority": "HIGH"}, {200}),
    ],
)
def test_whatever_the_headers_say_the_line_is_empty_afterwards(on_time, said, statuses, stream):
    status, _, raw = on_time.chat(headers=said, stream=stream)
    assert status in statuses
    assert b"Traceback" not in raw
    line = on_time.gateway.ports.degrade._routes["rag"].line
    until(lambda: (line.running, line.waiting) == (0, 0))
    assert on_time.chat()[0] == 200


def test_a_priority_that_a_header_raises_is_that_of_the_key(world):
    world.hear(rag=7.0)
    assert world.chat(headers={"x-trireme-priority": "high"})[0] == 503
    assert world.chat(secret="tr-crowd", headers={"x-trireme-priority": "high"})[0] == 503
    assert world.chat(secret="tr-high", headers={"x-trireme-priority": "high"})[0] == 200


def test_a_model_that_is_named_with_its_provider_is_refused_as_its_route_is(world):
    world.hear(rag=9.0)
    for model in ("rag", "local:rag"):
        assert world.chat(model=model)[0] == 503
    assert world.asked == []
