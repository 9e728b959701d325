"""What would answer a call: known for sure, or nothing is served."""

import asyncio
import dataclasses

import pytest

from fakes.providers import ScriptedProvider, target_of
from trireme.errors import UnavailableError
from trireme.gateway.caching.fingerprints import Fingerprints
from trireme.gateway.cascades.plan import CascadePlan
from trireme.gateway.chains import Chain
from trireme.gateway.file import ProviderRow
from trireme.providers.chat import ChatCall
from trireme.providers.models import ServedModel

ROWS = {
    "local": ProviderRow("triton"),
    "far": ProviderRow("triton", "h:1"),
    "up": ProviderRow("openai", "https://u"),
}
CALL = ChatCall("openai", "m", tenant="t", default_collection="default")


class Served:
    known = None
    age = 0.0

    def __init__(self, *models):
        self.known = {model.name: model for model in models}


class Revisions:
    def __init__(self):
        self.error = None

    async def read(self, tenant, collection):
        if self.error:
            raise self.error
        return f"{tenant}/{collection}/1"


def chain_of(*labels, provider=None):
    provider = provider or ScriptedProvider()
    pairs = [label.split(":") for label in labels]
    return Chain(tuple(target_of(provider, name=name, model=model) for name, model in pairs), ())


@pytest.fixture
def served():
    return Served(
        ServedModel("llm", "chat", True, "d1"),
        ServedModel("rag", "answer", True, "d2"),
        ServedModel("old", "chat", True),
    )


def read(served, chain, call=CALL, revisions=None, rows=None):
    return asyncio.run(Fingerprints(rows or ROWS, served, revisions).read(call, chain))


def test_each_step_of_the_chain_is_told_by_where_it_is_and_what_is_loaded(served):
    found = read(served, chain_of("local:llm", "up:gpt"))
    assert found.targets == (
        ("local", "triton", "", "llm", "d1"),
        ("up", "openai", "https://u", "gpt", "named by its answers"),
    )
    assert (found.takes_body, found.collection) == (False, ())


@pytest.mark.parametrize("label", ["local:old", "local:none", "far:llm"])
def test_a_model_of_tritons_whose_load_nobody_tells_has_none(served, label):
    assert read(served, chain_of(label)) is None
    # As a later step it does not answer what is kept.
    assert read(served, chain_of("up:gpt", label)) is not None


def test_a_local_provider_at_another_address_is_not_this_machines(served):
    rows = {**ROWS, "local": ProviderRow("triton", "h:2")}
    assert read(served, chain_of("local:llm"), rows=rows) is None


@pytest.mark.parametrize("age", [2.1, float("inf")])
def test_what_was_read_too_long_ago_is_not_known(served, age):
    served.age = age
    assert read(served, chain_of("local:llm")) is None


def test_before_the_server_ever_answered_nothing_is_known(served):
    served.known = None
    assert read(served, chain_of("local:llm")) is None


def test_the_collection_of_an_answer_is_the_one_that_is_read(served):
    chain = chain_of("local:rag")
    assert read(served, chain, revisions=Revisions()).collection == ("default", "t/default/1")
    docs = dataclasses.replace(CALL, collection="docs")
    assert read(served, chain, docs, Revisions()).collection == ("docs", "t/docs/1")
    assert read(served, chain_of("local:llm"), docs, Revisions()).collection == ()


def test_without_the_revision_of_its_collection_an_answer_has_none(served):
    revisions = Revisions()
    revisions.error = UnavailableError("away")
    assert read(served, chain_of("local:rag"), revisions=revisions) is None
    assert read(served, chain_of("local:rag")) is None


def test_a_provider_of_the_calls_surface_gets_its_body(served):
    provider = ScriptedProvider()
    provider.surfaces = ("openai",)
    assert read(served, chain_of("up:gpt", provider=provider)).takes_body
    other = dataclasses.replace(CALL, surface="responses")
    assert not read(served, chain_of("up:gpt", provider=provider), other).takes_body


def test_only_models_that_answer_from_passages_are_greedy_by_themselves(served):
    fingerprints = Fingerprints(ROWS, served)
    labels = ("local:rag", "local:llm", "up:rag", "far:rag")
    assert [fingerprints.is_greedy(chain_of(label)) for label in labels] == [
        True,
        False,
        False,
        False,
    ]


def cascade_of(*labels, providers=None):
    """A chain whose targets are steps; providers: of some labels."""
    pairs = [label.split(":") for label in labels]
    targets = tuple(
        target_of((providers or {}).get(label, ScriptedProvider()), name=name, model=model)
        for label, (name, model) in zip(labels, pairs, strict=True)
    )
    return Chain(targets, plan=CascadePlan("m", ()))


def test_of_a_cascade_every_step_answers_what_is_kept(served):
    fingerprints = Fingerprints(ROWS, served)
    assert fingerprints.is_greedy(cascade_of("local:rag", "local:rag"))
    assert not fingerprints.is_greedy(cascade_of("local:rag", "up:gpt"))
    # Whichever step reads the collection, or is sent the body.
    provider = ScriptedProvider()
    provider.surfaces = ("openai",)
    chain = cascade_of("local:rag", "up:gpt", providers={"up:gpt": provider})
    for found in (
        read(served, chain, revisions=Revisions()),
        read(served, dataclasses.replace(chain, targets=chain.targets[::-1]), revisions=Revisions()),
    ):
        assert found.collection == ("default", "t/default/1")
        assert found.takes_body
    assert read(served, cascade_of("up:gpt", "local:old")) is None


def test_answers_of_a_model_and_of_each_adapter_are_kept_apart(served):
    base = served.known["llm"]
    served.known |= {name: dataclasses.replace(base, name=name) for name in ("llm:law", "llm:art")}
    chains = [
        Chain((target_of(ScriptedProvider(), name="local", model=name),), ())
        for name in served.known
        if name.startswith("llm")
    ]
    found = [read(served, chain).targets for chain in chains]
    assert len({*found}) == 3
