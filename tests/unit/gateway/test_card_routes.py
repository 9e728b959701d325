"""Cards of models over a gateway of fakes: those that a key may use, and what is known of them."""

import json

import pytest

from fakes.gateways import Echo, FakeGateway, Models
from trireme.access.keys import Key
from trireme.errors import UnavailableError
from trireme.providers.model_cards import ModelCard
from trireme.providers.models import ServedModel

ANN, LIMITED, SEARCHER = "tr-ann", "tr-limited", "tr-searcher"
KEYS = {
    ANN: Key("key_ann", "acme"),
    LIMITED: Key("key_limited", "acme", models=("rag", "assistant", "secret")),
    SEARCHER: Key("key_searcher", "acme", endpoints=("search",)),
}
FILE = """
[providers.openai]
kind = "openai"

[models.assistant]
chain = ["llm", "openai:gpt"]

[models.far]
chain = ["openai:gpt"]
"""
SERVED = [
    ServedModel("llm", "chat", True, versions=(("llm", "abc"),)),
    ServedModel("rag", "answer", False, versions=(("llm", "abc"), ("rag", "r"))),
    ServedModel("bge", "embed", True, is_far=True),
]
CARD = ModelCard(
    "generator",
    version="of the folder",
    precision="int8",
    engine="openvino",
    bytes=7,
    dimensions=8,
    max_length=9,
    source="a/b",
    revision="f" * 40,
    figures={"cosine_min": 0.9},
    quality={"squad": {"before": 0.5, "after": 0.4}},
    gate={"min_cosine": 0.8},
)


class Server(Models):
    is_away = False

    async def models(self):
        if self.is_away:
            raise UnavailableError("away")
        return self.served


@pytest.fixture
def server():
    return Server(SERVED)


@pytest.fixture
def gateway(server):
    running = FakeGateway(Echo(lambda call, model: []), keys=KEYS, file=FILE, server=server)
    running.read_card = {"llm": CARD, "rag": ModelCard("rag", steps=("embedding", "llm"))}.get
    with running:
        yield running


def cards(gateway, secret=ANN):
    status, _, raw = gateway.ask("GET", "/v1/model_cards", secret=secret)
    assert status == 200, raw
    return {one["name"]: one for one in json.loads(raw)["data"]}


def test_a_card_says_what_the_folder_says_and_what_is_loaded(gateway):
    assert cards(gateway)["llm"] == {
        "object": "model_card",
        "name": "llm",
        "ability": "chat",
        "kind": "generator",
        "is_ready": True,
        "is_far": False,
        "version": "abc",
        "precision": "int8",
        "engine": "openvino",
        "bytes": 7,
        "dimensions": 8,
        "max_length": 9,
        "source": "a/b",
        "revision": "f" * 40,
        "figures": {"cosine_min": 0.9},
        "quality": {"squad": {"before": 0.5, "after": 0.4}},
        "gate": {"min_cosine": 0.8},
        "calls": [],
    }


def test_what_nobody_knows_of_a_model_is_null(gateway):
    bge = cards(gateway)["bge"]
    assert (bge["ability"], bge["is_ready"], bge["is_far"]) == ("embed", True, True)
    assert {bge[name] for name in ("kind", "version", "precision", "bytes", "source", "max_length")} == {None}
    rag = cards(gateway)["rag"]
    assert (rag["kind"], rag["version"], rag["bytes"], rag["is_ready"]) == ("rag", "r", None, False)
    assert rag["calls"] == ["embedding", "llm"]


def test_a_name_of_the_file_says_whom_it_asks(gateway):
    found = cards(gateway)
    assert list(found) == ["assistant", "far", "llm", "rag", "bge"]
    assert (found["assistant"]["kind"], found["assistant"]["calls"]) == ("chain", ["llm", "openai:gpt"])
    assert (found["assistant"]["is_ready"], found["far"]["is_ready"]) == (True, None)


def test_a_key_sees_the_cards_of_the_models_that_it_may_use(gateway):
    assert list(cards(gateway, LIMITED)) == ["assistant", "rag"]
    assert gateway.ask("GET", "/v1/model_cards", secret=SEARCHER)[0] == 403


def test_without_triton_nobody_knows_what_is_ready(gateway, server):
    server.is_away = True
    found = cards(gateway)
    assert {one["is_ready"] for one in found.values()} == {None}
    assert found["llm"]["precision"] == "int8"


def test_a_parameter_is_refused(gateway):
    status, _, raw = gateway.ask("GET", "/v1/model_cards?model=llm", secret=ANN)
    assert (status, json.loads(raw)["error"]["param"]) == (400, "model")
