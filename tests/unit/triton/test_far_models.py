"""What is served while near servers are silent, by what a balancer says that a person can predict."""

import asyncio
import threading

import pytest

from fakes.grpc_server import config_of, serving
from trireme.errors import UnavailableError
from trireme.triton import far_models
from trireme.triton.async_client import AsyncTritonClient
from trireme.triton.call_route import CallRoute, route_calls
from trireme.triton.far_models import FarModels, NearOrFarModels
from trireme.triton.served_models import ServedModel

AWAY = UnavailableError("no tritonserver answers here")
NEAR = ServedModel("embedding", "text_encoder", True, inputs=("text",), digest="d", version="v")
FAR = ServedModel("embedding", "text_encoder", True, inputs=("text",), is_far=True)


@pytest.fixture
def server():
    with serving() as (scripted, url):
        scripted.url = url
        yield scripted


def run(server, act, names=("embedding",)):
    """`act` with the models of the server, by a client of its own."""

    async def whole():
        async with AsyncTritonClient(server.url, 10.0) as client:
            return await act(FarModels(client, names))

    return asyncio.run(whole())


def ensemble(name, step):
    config = config_of(name, platform="ensemble", inputs=["query"])
    config.ensemble_scheduling.step.add(model_name=step)
    return config


def test_models_are_those_that_are_named_that_one_server_lists_and_that_they_call(server):
    server.configs = {
        "embedding": config_of("embedding", backend="text_encoder", inputs=["text"]),
        "search": ensemble("search", "embedding"),
        "late": ensemble("late", "llm"),
    }
    server.ready = {"embedding", "search", "late"}
    found = run(server, lambda far: far.read(), names=("none",))
    assert found == [
        FAR,
        # A step of it is not there.
        ServedModel("late", "search", False, inputs=("query",), steps=("llm",), is_far=True),
        ServedModel("search", "search", True, inputs=("query",), steps=("embedding",), is_far=True),
    ]


def test_a_model_that_is_not_ready_there_is_not_ready(server):
    server.configs = {"llm": config_of("llm", backend="generator", outputs=["text"])}
    (found,) = run(server, lambda far: far.read())
    assert (found.name, found.is_ready, found.digest, found.version) == ("llm", False, "", "")


def test_questions_are_nobodys_and_say_for_which_model_they_are(server):
    server.configs = {"embedding": config_of("embedding", backend="text_encoder", inputs=["text"])}

    async def act(far):
        # Whose request asks must not decide what all others see.
        route_calls(CallRoute("batch", stays_near=True))
        return await asyncio.create_task(far.read())

    run(server, act)
    (route,) = server.routes
    assert route["trireme-model"] == "embedding"
    assert not {"trireme-residency", "trireme-priority"} & route.keys()


class Client:
    """Says what `said` has, by name: whether it is ready, or an error."""

    def __init__(self, **said):
        self.said = said

    async def read_names(self, seconds):
        raise AWAY

    async def read_facts(self, model, seconds):
        if isinstance(self.said[model], Exception):
            raise self.said[model]
        return far_models.ModelFacts(model, "generator", (), 0)

    async def read_ready(self, model, seconds):
        if isinstance(self.said[model], Exception):
            raise self.said[model]
        return self.said[model]


def test_a_model_that_is_refused_was_there_and_is_not_ready_and_nobody_at_all_is_an_error():
    client = Client(a=True, b=True, never=AWAY)

    async def act():
        far = FarModels(client, client.said)
        before = [(one.name, one.is_ready) for one in await far.read()]
        client.said["b"] = AWAY
        after = [(one.name, one.is_ready) for one in await far.read()]
        client.said["a"] = AWAY
        with pytest.raises(UnavailableError):
            await far.read()
        return before, after

    assert asyncio.run(act()) == ([("a", True), ("b", True)], [("a", True), ("b", False)])


class Far:
    """In place of FarModels: these models, or an error."""

    def __init__(self, *models, error=None):
        self.models, self.error, self.asked = models, error, []

    def may_miss(self, near):
        return not {model.name for model in self.models} <= set(near)

    async def read(self, but=()):
        self.asked.append(set(but))
        if self.error is not None:
            raise self.error
        return [model for model in self.models if model.name not in but]


def answers(*said):
    """Near servers that say these one after the other."""
    left = iter(said)

    def read():
        one = next(left)
        if isinstance(one, Exception):
            raise one
        return one

    return read


def read_times(times, near, far):
    async def act():
        models = NearOrFarModels(near, far)
        return [await models.read() for _ in range(times)]

    return asyncio.run(act())


def test_another_region_is_asked_while_near_servers_are_silent_and_no_longer():
    far = Far(FAR)
    assert read_times(3, answers([NEAR], AWAY, [NEAR]), far) == [[NEAR], [FAR], [NEAR]]
    assert far.asked == [set()]


def test_models_that_no_near_server_has_are_asked_for_now_and_then(monkeypatch):
    llm = ServedModel("llm", "generator", True, is_far=True)
    far = Far(FAR, llm)
    assert read_times(2, answers([NEAR], [NEAR]), far) == [[NEAR, llm]] * 2
    assert far.asked == [{"embedding"}]
    monkeypatch.setattr(far_models, "MISSING_SECONDS", 0.0)
    read_times(2, answers([NEAR], [NEAR]), far)
    assert far.asked == [{"embedding"}] * 3
    far.error = AWAY
    assert read_times(1, answers([NEAR]), far) == [[NEAR]]


def test_where_nobody_answers_the_error_is_that_of_near_servers():
    with pytest.raises(UnavailableError, match="answers here"):
        read_times(1, answers(AWAY), Far(error=UnavailableError("nobody")))


def test_an_answer_to_a_question_of_long_ago_is_not_taken_for_a_new_one(monkeypatch):
    monkeypatch.setattr(far_models, "NEAR_SECONDS", 0.01)
    monkeypatch.setattr(far_models, "SILENT_SECONDS", 0.01)
    hangs, begun = threading.Event(), []
    new = [ServedModel("embedding", "text_encoder", True, digest="new")]

    def near():
        begun.append(1)
        if len(begun) == 1:
            assert hangs.wait(30)
            return [NEAR]
        return new

    async def act():
        models = NearOrFarModels(near, Far(FAR))
        silent = [await models.read(), await models.read()]
        assert len(begun) == 1
        hangs.set()
        await asyncio.wait([models._near])
        monkeypatch.setattr(far_models, "NEAR_SECONDS", 30.0)
        return [*silent, await models.read()]

    assert asyncio.run(act()) == [[FAR], [FAR], new]
