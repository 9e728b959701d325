"""The semantic tier as clients see it: who is served what, what is checked, and that it turns itself off."""

import time
from io import StringIO

import numpy as np
import pytest

from fakes.gateways import ANN, SECRET, Echo, FakeGateway
from fakes.memory_cache import MemoryCache
from fakes.memory_promises import MemoryPromises
from fakes.memory_semantic import MemorySemanticIndex
from trireme.access.keys import Key
from trireme.cache.exact import ExactTier
from trireme.cache.promise import Check
from trireme.cache.semantic import SemanticLimits
from trireme.errors import NotFoundError
from trireme.gateway.caching.answers import Answers, Caching, TierRow
from trireme.gateway.caching.fingerprints import Fingerprints
from trireme.gateway.caching.semantic_setup import SemanticStores, new_semantic
from trireme.gateway.log import Log
from trireme.providers.chat import Finished, Started, TextDelta, Usage
from trireme.providers.models import Embedded, Reranked, ServedModel

FILE = """
[providers.p]
kind = "openai"
[models.m]
chain = ["p:m"]
[models.m.semantic]
shadow_share = 0.000001
[models.plain]
chain = ["p:m"]
"""
EVE = Key("key_eve", "acme2", "eve")
ASKED = "What is the tallest tower in Paris?"
AGAIN = "Which tower in Paris is the tallest?"


class Server:
    """Embeds all texts alike, and scores pairs of the tower at 3."""

    def __init__(self):
        self.fault = None

    async def models(self):
        return [ServedModel("llm", "chat", True, "load1")]

    async def embed(self, texts, model, input_type=None, dimensions=None, seconds=None, *, over_length=None):
        if self.fault:
            raise self.fault
        vector = np.array([[1.0, 0.0]], np.float32)
        return Embedded(vector, np.array([4]), np.array([0]))

    async def rerank(self, query, passages, model, seconds=None, over_length=None):
        scores = [3.0 if "tower" in query and "tower" in passage else -3.0 for passage in passages]
        return Reranked(np.array(scores, np.float32), np.zeros(len(passages)))

    async def close(self):
        return None


class World:
    def __init__(self, file=FILE):
        self.store, self.index, self.checks = MemoryCache(), MemorySemanticIndex(2), MemoryPromises()
        self.server, self.log = Server(), StringIO()
        self.answer = "The Eiffel Tower."
        self.provider = Echo(self._answer)
        self.gateway = FakeGateway(
            self.provider,
            keys={SECRET: ANN, "tr-eve": EVE},
            file=file,
            server=self.server,
            answers=self._open_answers,
        )

    def _answer(self, call, model):
        yield Started("m-1")
        yield TextDelta(self.answer)
        yield Usage(7, 3)
        yield Finished("stop")

    def _open_answers(self, served, spending, metrics):
        file = self.gateway.file
        stores = SemanticStores(lambda: self.index, lambda: self.checks, "embedding", {0.01: 2.0})
        limits = SemanticLimits(seconds=60.0)
        log = Log(self.log)
        tier, shadow = new_semantic(
            file, stores, self.server, self.store, metrics=metrics, log=log, limits=limits
        )
        rows = [TierRow(ExactTier(self.store), 1.0), TierRow(tier, 5.0)]

        class Started(Answers):
            async def start(self):
                await tier.start()
                await super().start()

        return Started(
            Caching(
                file, Fingerprints(file.providers, served, None), spending, rows, tally=metrics, shadow=shadow
            )
        )

    @property
    def calls(self):
        return len(self.provider.calls)

    def ask(self, text, secret=SECRET, headers=None, **changes):
        body = {"model": "m", "messages": [{"role": "user", "content": text}], "temperature": 0, **changes}
        status, said, raw = self.gateway.ask("POST", "/v1/chat/completions", body, headers, secret)
        assert status == 200, raw
        return said["x-trireme-cache"], raw

    def warm(self, text=ASKED, **changes):
        """Ask until the tier knows how its promise stands and has kept the answer."""
        self.ask("How do penguins stay warm?", headers={"cache-control": "no-store"})
        until(lambda: self.gateway.ports and self.ask("Why is the sea salty so much?") and self._knows())
        self.ask(text, **changes)
        until(lambda: any(kept.text == text for kept, _ in list(self.index._kept.values())))

    def _knows(self):
        return 'trireme_semantic_is_on{scope="models.m"}' in self.metrics()

    def metrics(self):
        return self.gateway.ports.metrics.render([]).decode()


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def world():
    made = World()
    with made.gateway:
        yield made


def test_a_question_in_other_words_is_answered_from_the_cache_and_says_so(world):
    world.warm()
    calls = world.calls
    said, raw = world.ask(AGAIN)
    assert said.startswith("semantic; sim=1.000; score=3; age=")
    assert b"The Eiffel Tower." in raw
    assert world.calls == calls
    assert 'trireme_semantic_lookups_total{outcome="hit"} 1.0' in world.metrics()


@pytest.mark.parametrize(
    ("secret", "changes"),
    [
        ("tr-eve", {}),
        (SECRET, {"model": "plain"}),
        (SECRET, {"max_tokens": 5}),
        (SECRET, {"top_p": 0.5}),
        (SECRET, {"seed": 1}),
    ],
)
def test_another_tenant_model_or_parameter_is_asked_anew(world, secret, changes):
    world.warm()
    calls = world.calls
    said, _ = world.ask(AGAIN, secret, **changes)
    assert said.startswith("miss")
    assert world.calls == calls + 1


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": AGAIN}],
        [
            {"role": "user", "content": ASKED},
            {"role": "assistant", "content": "Eiffel."},
            {"role": "user", "content": AGAIN},
        ],
        [{"role": "user", "content": "What is my tallest tower in Paris?"}],
        [{"role": "user", "content": "What is the 2nd tallest tower in Paris?"}],
        [{"role": "user", "content": "What is the tallest tower in Rome?"}],
    ],
)
def test_another_prompt_turn_or_meaning_is_asked_anew(world, messages):
    world.warm()
    calls = world.calls
    said, _ = world.ask("", messages=messages)
    assert said.startswith("miss")
    assert world.calls == calls + 1


def test_a_stream_gets_what_was_kept_whole(world):
    world.warm()
    said, raw = world.ask(AGAIN, stream=True)
    assert said.startswith("semantic")
    assert raw.endswith(b"data: [DONE]\n\n")


def test_a_request_may_refuse_a_kept_answer(world):
    world.warm()
    calls = world.calls
    assert world.ask(AGAIN, headers={"cache-control": "no-cache"})[0] == "bypass"
    assert world.calls == calls + 1


def test_without_its_models_the_gateway_answers_as_ever(world):
    world.warm()
    world.server.fault = NotFoundError("no model embedding")
    assert world.ask("Who built the tallest tower in Paris?")[0] == "miss"
    assert 'outcome="failed"' in world.metrics()


def test_every_checked_hit_asks_upstream_and_the_client_does_not_wait():
    world = World(FILE.replace("0.000001", "1.0"))
    with world.gateway:
        world.warm()
        calls = world.calls
        assert world.ask(AGAIN)[0].startswith("semantic")
        until(lambda: world.calls == calls + 1)
        until(lambda: any(world.checks.read("models.m").checks))
        assert world.checks.read("models.m").checks == (Check("models.m", "acme/m", 3.0, True),)


def test_a_false_hit_turns_the_cache_off_and_says_so():
    world = World(FILE.replace("0.000001", "1.0"))
    with world.gateway:
        world.warm()
        world.answer = "The Montparnasse Tower, of 1973."
        assert world.ask(AGAIN)[0].startswith("semantic")
        until(lambda: 'trireme_semantic_is_on{scope="models.m"} 0.0' in world.metrics())
        said, raw = world.ask("Tell me which tower in Paris is the tallest")
        assert said == "miss; semantic=off"
        assert b"Montparnasse" in raw
        until(lambda: "semantic cache of models.m is off: 1 of 1 checks differed" in world.log.getvalue())
        until(lambda: world.checks.read("models.m").is_off)
