"""Kept answers as clients of all four surfaces see them: the same bytes, headers that say so, and no wrong hit."""

import http.client
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes.gateways import ANN, SECRET, Echo, FakeGateway
from fakes.memory_cache import MemoryCache
from trireme.access.keys import Key
from trireme.cache.exact import ExactTier
from trireme.gateway.caching.answers import Answers, Caching, TierRow
from trireme.gateway.caching.collections import FreshRevisions
from trireme.gateway.caching.fingerprints import Fingerprints
from trireme.gateway.caching.locks import QuestionLocks
from trireme.providers.chat import Finished, Source, Sources, Started, TextDelta, ToolDelta, ToolStart, Usage
from trireme.providers.models import ServedModel

FILE = """
[providers.p]
kind = "openai"
[models.free]
chain = ["p:m"]
exact = "all"
[models.never]
chain = ["p:m"]
exact = "off"
"""
BEN = Key("key_ben", "acme", "ben")
EVE = Key("key_eve", "acme2", "ann")
KEYS = {SECRET: ANN, "tr-ben": BEN, "tr-eve": EVE}
TURNS = [{"role": "user", "content": "hi"}]
BODIES = {
    "/v1/chat/completions": {"model": "p:m", "messages": TURNS, "temperature": 0},
    "/v1/completions": {"model": "p:m", "prompt": "hi", "temperature": 0},
    "/v1/responses": {"model": "p:m", "input": "hi", "temperature": 0},
    "/v1/messages": {"model": "p:m", "messages": TURNS, "temperature": 0, "max_tokens": 9},
}
# Ids and times of one answer.
OWN = re.compile(
    rb'"(id|response_id|item_id)": ?"[^"]*"|"(created|created_at|completed_at)": ?[0-9.]+|(?<=[a-z]_)[0-9a-f]{24,}'
)


class Revisions:
    """Of collections; a test changes them."""

    def __init__(self):
        self.of = {}

    def read(self, tenant, collection):
        return self.of.get((tenant, collection), "")


class World:
    """A gateway with an exact tier. `served` may be changed; `calls` are those that came to the provider."""

    def __init__(self, file=FILE):
        self.store = MemoryCache()
        self.revisions = Revisions()
        self.provider = Echo(answer_of)
        self.served = [
            ServedModel("llm", "chat", True, "load1"),
            ServedModel("rag", "answer", True, "load1"),
            ServedModel("unsaid", "chat", True),
        ]
        self.gateway = FakeGateway(
            self.provider, keys=KEYS, file=file, models=self.served, answers=self._open_answers
        )
        self.file = self.gateway.file

    def _open_answers(self, served, spending, metrics):
        # Each answer of the fake is as fresh as can be.
        fresh = FreshRevisions(self.revisions)
        fingerprints = Fingerprints(self.file.providers, served, fresh)
        rows = [TierRow(ExactTier(self.store), 1.0)]
        return Answers(Caching(self.file, fingerprints, spending, rows, QuestionLocks(self.store), metrics))

    @property
    def calls(self):
        return len(self.provider.calls)

    def ask(self, path="/v1/chat/completions", secret=SECRET, headers=None, **changes):
        """Header of the cache, and the body. A change to None takes the field away."""
        body = {name: value for name, value in {**BODIES[path], **changes}.items() if value is not None}
        status, said, raw = self.gateway.ask("POST", path, body, headers, secret)
        assert status == 200, raw
        return said["x-trireme-cache"], raw


def answer_of(call, model):
    yield Started(f"{model}-1")
    yield TextDelta("one ")
    yield TextDelta("two")
    if model == "rag":
        yield Sources((Source(1, "p1", "a.md", 0, 3, 0.5, 1.0, "one"),), {"prompt_tokens": 7})
    if call.tools:
        yield ToolStart(0, "call_1", "f")
        yield ToolDelta(0, "{}")
    yield Usage(7, 3, 4)
    for choice in range(call.choices):
        yield Finished("tool_use" if call.tools else "stop", choice)


@pytest.fixture
def world():
    made = World()
    with made.gateway:
        yield made


def plain(raw):
    return OWN.sub(b"*", raw)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_a_kept_answer_is_the_same_bytes_but_for_its_id_and_time(world, path, stream, first):
    """As a stream or whole, whichever of the two the kept one was."""
    header, fresh = world.ask(path, stream=stream, headers={"cache-control": "no-store"})
    assert header == "bypass"
    world.ask(path, stream=first)
    header, kept = world.ask(path, stream=stream)
    assert header.startswith("exact; age=")
    assert world.calls == 2
    assert plain(kept) == plain(fresh)
    assert b"one two" in kept or b'"two"' in kept


def test_a_kept_chat_has_a_tag_and_who_has_it_gets_no_body(world):
    body = BODIES["/v1/chat/completions"]

    def ask(**headers):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        status, said, raw = world.gateway.ask("POST", "/v1/chat/completions", body, sent)
        return status, {name.lower(): value for name, value in said.items()}, raw

    assert "etag" not in ask()[1]
    status, said, _ = ask()
    assert status == 200
    assert said["etag"].startswith('W/"')
    assert said["cache-control"].startswith("private")
    assert ask(if_none_match=said["etag"])[::2] == (412, b"")
    assert ask(if_none_match=said["etag"], x_trireme_conditional="304")[::2] == (304, b"")
    assert ask(if_none_match='"other"')[0] == 200
    # What was asked anew is a new answer.
    assert "etag" not in ask(cache_control="no-cache", if_none_match=said["etag"])[1]
    assert world.calls == 2


def test_each_answer_has_an_id_of_its_own(world):
    ids = {json.loads(world.ask()[1])["id"] for _ in range(3)}
    assert len(ids) == 3


def test_a_hit_says_who_made_the_answer_and_that_nobody_was_asked(world):
    for _ in range(2):
        _, said, _ = world.gateway.ask("POST", "/v1/chat/completions", BODIES["/v1/chat/completions"])
    assert said["x-trireme-served-by"] == "p:m"
    assert "x-trireme-attempts" not in said
    assert world.gateway.lines()[-1]["cache"] == "exact"
    assert "cache" not in world.gateway.lines()[-2]


# A change of the request -> whether a kept answer of the request without it may be served.
CHANGES = [
    ({"stream": True}, True),
    ({"stream": True, "stream_options": {"include_usage": True}}, True),
    ({"temperature": 0.0}, False),
    ({"model": "free"}, False),
    ({"messages": [{"role": "user", "content": "hi "}]}, False),
    ({"messages": [{"role": "user", "content": "Hi"}]}, False),
    ({"messages": [{"role": "user", "content": "hi", "name": "x"}]}, False),
    ({"messages": [*TURNS, *TURNS]}, False),
    ({"messages": [{"role": "system", "content": "hi"}, *TURNS]}, False),
    ({"max_tokens": 9}, False),
    ({"max_completion_tokens": 9}, False),
    ({"top_p": 0.5}, False),
    ({"presence_penalty": 0.5}, False),
    ({"frequency_penalty": 0.5}, False),
    ({"seed": 1}, False),
    ({"stop": "x"}, False),
    ({"stop": ["x"]}, False),
    ({"logprobs": True}, False),
    ({"logprobs": True, "top_logprobs": 2}, False),
    ({"response_format": {"type": "json_object"}}, False),
    ({"reasoning_effort": "low"}, False),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, False),
    ({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"}, False),
    ({"tools": [{"type": "function", "function": {"name": "f"}}], "parallel_tool_calls": False}, False),
    ({"user": "somebody"}, False),
    ({"something_new": 1}, False),
    ({"something_new": 2}, False),
    ({"prompt_cache_key": "mine"}, False),
]


def test_every_pair_of_requests_hits_where_they_mean_the_same_and_nowhere_else(world):
    assert world.ask()[0] == "miss"
    assert world.ask()[0].startswith("exact")
    seen = []
    for change, is_same in CHANGES:
        header, _ = world.ask(**change)
        assert header.startswith("exact") is is_same, change
        if not is_same:
            seen.append(change)
    # Each of them was kept by itself, and still is.
    calls = world.calls
    for change in seen:
        assert world.ask(**change)[0].startswith("exact"), change
    assert world.calls == calls


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("/v1/completions", [{"prompt": "hi "}, {"logprobs": 1}, {"max_tokens": 2}, {"suffix": "x"}]),
        ("/v1/responses", [{"input": "ho"}, {"instructions": "x"}, {"max_output_tokens": 3}]),
        ("/v1/messages", [{"system": "x"}, {"max_tokens": 8}, {"top_k": 2}, {"stop_sequences": ["x"]}]),
    ],
)
def test_other_surfaces_hit_for_the_same_request_alone(world, path, changes):
    world.ask(path)
    assert world.ask(path)[0].startswith("exact")
    for change in changes:
        assert world.ask(path, **change)[0] == "miss", change


def test_one_surfaces_answer_is_not_anothers_where_the_provider_gets_the_body_as_it_is(world):
    for path in BODIES:
        assert world.ask(path)[0] == "miss"


def test_headers_that_a_provider_gets_are_in_the_key(world):
    def ask(headers=None):
        # The newer version takes no temperature.
        return world.ask("/v1/messages", model="free", temperature=None, headers=headers)[0]

    ask()
    assert ask({"anthropic-beta": "b-1"}) == "miss"
    assert ask({"anthropic-version": "2026-10-21"}) == "miss"
    assert ask({"x-other": "1"}).startswith("exact")


def test_users_of_a_tenant_share_and_tenants_never_do(world):
    world.ask()
    assert world.ask(secret="tr-ben")[0].startswith("exact")
    assert world.ask(secret="tr-eve")[0] == "miss"
    assert world.ask(secret="tr-eve")[0].startswith("exact")


@pytest.mark.parametrize(
    "changes",
    [{"temperature": None}, {"temperature": 0.1}, {"n": 2}, {"model": "never"}, {"model": "unsaid"}],
)
def test_requests_that_are_not_eligible_go_past(world, changes):
    for _ in range(2):
        assert world.ask(**changes)[0] == "bypass"
    assert world.calls == 2


def test_a_models_row_may_let_all_its_answers_be_kept(world):
    for changes in ({"temperature": 0.9}, {"temperature": None, "n": 2}):
        assert world.ask(model="free", **changes)[0] == "miss"
        assert world.ask(model="free", **changes)[0].startswith("exact")


def test_only_if_cached_without_a_kept_answer_is_504_on_every_surface(world):
    for path, body in BODIES.items():
        said = world.gateway.ask("POST", path, body, {"cache-control": "only-if-cached"})
        assert said[0] == 504
        assert said[1]["x-trireme-cache"] == "miss"
    assert world.calls == 0


def test_several_prompts_of_one_request_are_kept_each_by_itself(world):
    path = "/v1/completions"
    world.ask(path, prompt=["hi", "ho"])
    assert world.calls == 2
    _, raw = world.ask(path, prompt=["ho", "hi", "he"])
    assert world.calls == 3
    assert len(json.loads(raw)["choices"]) == 3


def wait_until_known(world):
    """Until the gateway has asked the server again."""
    ports = world.gateway.ports
    known = ports.served.known
    while ports.served.known is known:
        threading.Event().wait(0.01)


@pytest.mark.parametrize("model", ["llm", "rag"])
def test_a_model_that_was_loaded_anew_serves_no_old_answer(world, model):
    world.ask(model=model)
    assert world.ask(model=model)[0].startswith("exact")
    world.served[:] = [ServedModel(one.name, one.ability, True, "load2") for one in world.served]
    wait_until_known(world)
    assert world.ask(model=model)[0] == "miss"
    assert world.ask(model=model)[0].startswith("exact")


def test_a_server_that_does_not_answer_lets_nothing_be_served(world):
    world.ask(model="llm")
    world.gateway.ports.served._asked_at -= 3600
    assert world.ask(model="llm")[0] == "bypass"


def test_a_collection_that_changed_serves_no_old_answer(world):
    for collection in ("default", "docs"):
        world.revisions.of["acme", collection] = f"{collection}-1"
    docs = {"model": "rag", "trireme": {"collection": "docs"}}
    world.ask(**docs)
    assert world.ask(**docs)[0].startswith("exact")
    assert world.ask(model="rag")[0] == "miss"
    # The default one by its name.
    assert world.ask(model="rag", trireme={"collection": "default"})[0].startswith("exact")
    world.revisions.of["acme", "docs"] = "docs-2"
    forget(world)
    assert world.ask(**docs)[0] == "miss"
    assert world.ask(model="rag")[0].startswith("exact")


def test_what_a_rag_request_says_of_its_answer_is_in_the_key(world):
    world.ask(model="rag")
    for ours in ({"passages": 2}, {"answer_mode": "extractive"}, {"collection": "docs"}):
        assert world.ask(model="rag", trireme=ours)[0] == "miss"


def test_a_rag_request_is_greedy_where_it_names_no_temperature(world):
    assert world.ask(model="rag", temperature=None)[0] == "miss"
    assert world.ask(model="rag", temperature=None)[0].startswith("exact")


def test_without_the_collections_revision_nothing_is_served(world):
    world.ask(model="rag")

    def fail(*_):
        from trireme.errors import UnavailableError

        raise UnavailableError("the database is away")

    world.revisions.read = fail
    forget(world)
    assert world.ask(model="rag")[0] == "bypass"


def forget(world):
    """As if a second had passed since the revisions were read."""
    world.gateway._answers._caching.fingerprints._revisions._known.clear()


def test_equal_requests_at_once_over_http_are_one_call(world):
    gate = threading.Event()

    def slow(call, model):
        import asyncio

        yield Started(model)
        yield TextDelta("one ")
        yield asyncio.to_thread(gate.wait, 60)
        yield from (TextDelta("two"), Usage(7, 3), Finished("stop"))

    world.provider._script = slow
    with ThreadPoolExecutor(24) as pool:
        asked = [pool.submit(world.ask, stream=bool(n % 2)) for n in range(24)]
        while len(world.gateway.connections()) < 24:
            gate.wait(0.01)
        gate.set()
        headers = [one.result()[0] for one in asked]
    assert world.calls == 1
    assert headers.count("miss") == 1
    assert all(header == "flight" or header.startswith(("exact", "miss")) for header in headers)


def test_hits_and_what_they_spare_are_counted(world):
    for _ in range(3):
        world.ask()
    world.ask(secret="tr-eve", temperature=1)
    _, _, page = world.gateway.ask("GET", "/metrics")
    lines = page.decode().splitlines()
    assert 'trireme_cache_requests_total{outcome="hit",tier="exact"} 2.0' in lines
    assert 'trireme_cache_requests_total{outcome="miss",tier="exact"} 1.0' in lines
    assert 'trireme_cache_requests_total{outcome="bypass",tier="none"} 1.0' in lines
    assert 'trireme_cache_tokens_total{tenant="acme",tier="exact"} 20.0' in lines
    # Of the two answers that a provider made.
    assert 'trireme_cache_tokens_total{tenant="acme",tier="prefix"} 4.0' in lines
    assert 'trireme_cache_tokens_total{tenant="acme2",tier="prefix"} 4.0' in lines
    assert 'trireme_gateway_tokens_total{kind="output",model="p:m",tenant="acme"} 3.0' in lines
    assert 'trireme_cache_seconds_count{tier="exact"} 3.0' in lines


def test_headers_in_several_lines_are_one_list(world):
    raw = json.dumps(BODIES["/v1/chat/completions"]).encode()

    def ask(*lines):
        connection = http.client.HTTPConnection("127.0.0.1", world.gateway.port, timeout=30)
        try:
            connection.putrequest("POST", "/v1/chat/completions")
            sent = (("authorization", f"Bearer {SECRET}"), ("content-length", str(len(raw))), *lines)
            for name, value in sent:
                connection.putheader(name, value)
            connection.endheaders(raw)
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.getheader("x-trireme-cache"), answer.getheader("etag")
        finally:
            connection.close()

    never = (("cache-control", "no-store"), ("cache-control", "max-age=60"))
    for _ in range(2):
        assert ask(*never)[1] == "bypass"
    assert ask()[1] == "miss"
    tag = ask()[2]
    assert ask(("if-none-match", tag), ("if-none-match", '"other"'))[0] == 412
