"""The models of the semantic cache, and what gateway.toml says of it."""

import asyncio

import numpy as np
import pytest

from trireme.errors import SettingError
from trireme.gateway.caching.semantic_models import (
    SemanticRules,
    ServedEmbedder,
    ServedScorer,
)
from trireme.gateway.caching.semantic_setup import is_wanted
from trireme.gateway.file import parse_gateway_file
from trireme.providers.call_route import CallRoute, route_calls
from trireme.providers.models import Embedded, Reranked
from trireme.triton.call_route import metadata_of

TABLE = {0.001: 4.0, 0.01: 2.5}


class Server:
    def __init__(self, truncated=0):
        self.truncated = truncated
        self.calls = []

    async def embed(self, texts, model, input_type=None, dimensions=None, seconds=None, *, over_length=None):
        self.calls.append((texts, model, input_type))
        return Embedded(np.ones((1, 3), np.float32), np.array([4]), np.array([self.truncated]))

    async def rerank(self, query, passages, model, seconds=None, over_length=None):
        self.calls.append((query, passages, model))
        scores = np.array([1.5, np.nan, 2.5], np.float32)[: len(passages)]
        return Reranked(scores, np.array([0, 0, self.truncated])[: len(passages)])


def rules(text, table=TABLE):
    return SemanticRules(parse_gateway_file(text.encode(), "gateway.toml"), table)


def test_a_question_is_embedded_as_a_query():
    server = Server()
    vector = asyncio.run(ServedEmbedder(server, "embedding").embed("What?"))
    assert vector.shape == (3,)
    assert server.calls == [(["What?"], "embedding", "query")]


def test_index_and_thresholds_are_compared_with_this_regions_models_alone():
    sent = []

    class Noting(Server):
        async def embed(self, *args, **named):
            sent.append(metadata_of("embedding", CallRoute()))
            return await super().embed(*args, **named)

        async def rerank(self, *args, **named):
            sent.append(metadata_of("equivalence", CallRoute()))
            return await super().rerank(*args, **named)

    async def act():
        route_calls(CallRoute("high"))
        await ServedEmbedder(Noting(), "embedding").embed("What?")
        await ServedScorer(Noting()).score("What?", ["Which?"])
        # The request's own call may still go where it might.
        return metadata_of("llm", CallRoute())

    own = asyncio.run(act())
    ways = (("trireme-priority", "high"), ("trireme-residency", "near"))
    assert sent == [(("trireme-model", "embedding"), *ways), (("trireme-model", "equivalence"), *ways)]
    assert own == (("trireme-model", "llm"), ways[0])


def test_a_text_that_was_cut_off_has_no_vector():
    assert asyncio.run(ServedEmbedder(Server(1), "embedding").embed("What?")) is None


def test_scores_are_of_one_call_and_none_where_there_is_none():
    server = Server(1)
    scores = asyncio.run(ServedScorer(server, "equivalence").score("a", ["b", "c", "d"]))
    assert scores == [1.5, None, None]
    assert server.calls == [("a", ["b", "c", "d"], "equivalence")]


def test_the_tier_is_off_unless_it_is_turned_on():
    off = rules('[models.m]\nchain = ["llm"]')
    assert not off
    assert off("t", "m") is None


def test_a_model_turns_it_on_with_the_threshold_of_its_promise():
    on = rules('[models.m]\nchain = ["llm"]\n[models.m.semantic]\nmax_false_hits = 0.02')
    assert on
    rule = on("t", "m")
    assert (rule.scope, rule.max_false_hits, rule.shadow_share, rule.threshold) == (
        "models.m",
        0.02,
        0.02,
        2.5,
    )
    assert on("t", "n") is None


def test_a_tenants_table_holds_in_place_of_the_models():
    on = rules(
        '[models.m]\nchain = ["llm"]\n[models.m.semantic]\n[tenants.a.semantic]\nmax_false_hits = 0.001\n'
        "[tenants.b.semantic]\nmax_false_hits = 0.0\n[tenants.c.semantic]\nthreshold = 9.0\nshadow_share = 0.5"
    )
    assert (on("a", "m").scope, on("a", "m").threshold) == ("tenants.a", 4.0)
    assert on("a", "any").scope == "tenants.a"
    assert on("b", "m") is None
    assert (on("c", "m").threshold, on("c", "m").shadow_share) == (9.0, 0.5)
    assert on("d", "m").scope == "models.m"


def test_a_promise_without_a_threshold_stops_the_start():
    with pytest.raises(SettingError, match=r"models\.m\.semantic.*0\.001, 0\.01.*threshold"):
        rules('[models.m]\nchain = ["llm"]\n[models.m.semantic]\nmax_false_hits = 0.0001')
    with pytest.raises(SettingError, match="it has none"):
        rules('[models.m]\nchain = ["llm"]\n[models.m.semantic]', {})


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("max_false_hits = 1.0", "max_false_hits"),
        ("max_false_hits = -0.1", "max_false_hits"),
        ("shadow_share = 0.0", "shadow_share"),
        ("shadow_share = 1.5", "shadow_share"),
        ("share = 0.5", "share"),
    ],
)
def test_what_cannot_be_promised_is_named(row, named):
    for table in ('[models.m]\nchain = ["llm"]\n[models.m.semantic]', "[tenants.t.semantic]"):
        with pytest.raises(SettingError, match=named):
            parse_gateway_file(f"{table}\n{row}".encode(), "gateway.toml")


def test_the_tier_is_wanted_where_somebody_turns_it_on():
    for text, wanted in (
        ("", False),
        ('[models.m]\nchain = ["llm"]', False),
        ('[models.m]\nchain = ["llm"]\n[models.m.semantic]', True),
        ("[tenants.t.semantic]", True),
        ("[tenants.t.semantic]\nmax_false_hits = 0.0", False),
    ):
        assert is_wanted(parse_gateway_file(text.encode(), "gateway.toml")) == wanted


@pytest.mark.parametrize(
    "text", ['exact = "off"\n[models.m.semantic]', "[models.m.semantic]\n[cache]\nexact = 'off'"]
)
def test_a_semantic_cache_over_no_kept_answers_stops_the_start(text):
    with pytest.raises(SettingError, match=r"models\.m\.semantic needs models\.m\.exact"):
        parse_gateway_file(f'[models.m]\nchain = ["llm"]\n{text}'.encode(), "gateway.toml")
