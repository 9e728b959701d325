"""What cascades cost, where budgets end, and what of their answers is kept for others."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes.cascade_gateways import (
    FILE,
    PROVIDERS,
    SURE,
    UNSURE,
    V1,
    Steps,
    gateway_of,
    last_line,
    place,
    said,
    whole,
)
from fakes.gateways import ANN, SECRET
from fakes.memory_cache import MemoryCache
from fakes.spending import INPUT, World, cap
from trireme.access.keys import Key
from trireme.cache.exact import ExactTier
from trireme.gateway.caching.answers import Answers, Caching, TierRow
from trireme.gateway.caching.fingerprints import Fingerprints
from trireme.gateway.caching.locks import QuestionLocks
from trireme.providers.chat import Findings, Finished, Started, TextDelta
from trireme.providers.models import ServedModel
from trireme.providers.port import ProviderError

CHAT = {"model": "careful", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
KEEP = FILE.replace('exact = "all"', 'on_refusal = "keep"\nexact = "all"')
# Nano-dollars: small answers use 3 and 2 tokens, big ones 5 and 2.
SMALL, BIG = 5 * 1_000, 7 * 100_000
# Of an attempt at the big one, at most.
HELD = (INPUT + 50) * 100_000


@pytest.fixture(autouse=True)
def calibration(tmp_path):
    place(tmp_path, versions=PROVIDERS)


def ask(gateway, secret=SECRET, **fields):
    status, headers, raw = gateway.ask("POST", "/v1/chat/completions", {**CHAT, **fields}, secret=secret)
    return status, {name.lower(): value for name, value in headers.items()}, raw.decode()


def rows(world):
    """Step, outcome, tokens and nano-dollars of the ledger's rows, in their order."""
    made = sorted((one.row for one in world.ledger.rows.values()), key=lambda row: row.at)
    order = {"small": 0, "middle": 1, "big": 2}
    made.sort(key=lambda row: (row.request, order[row.step]))
    return [(row.step, row.outcome, row.tokens, row.nanos) for row in made]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_kept_costs_what_it_costs(tmp_path, stream):
    world = World(cap(100_000), file=FILE)
    with gateway_of(tmp_path, Steps(), FILE, spending=world.spending) as gateway:
        status, headers, _ = ask(gateway, stream=stream)
    assert (status, headers["x-trireme-cost"]) == (200, "0.000005")
    assert rows(world) == [("small", "ok", 5, SMALL)]


def test_every_step_is_settled_and_the_answer_says_what_they_cost_together(tmp_path):
    world = World(cap(100_000), file=FILE)
    with gateway_of(tmp_path, Steps(small=UNSURE), FILE, spending=world.spending) as gateway:
        status, headers, text = ask(gateway)
    assert (status, headers["x-trireme-cost"]) == (200, "0.000705")
    assert rows(world) == [("small", "escalated", 5, SMALL), ("big", "ok", 7, BIG)]
    assert json.loads(text)["usage"]["total_tokens"] == 7


def test_a_stream_says_what_had_been_spent_when_it_began(tmp_path):
    world = World(cap(100_000), file=FILE)
    with gateway_of(tmp_path, Steps(small=UNSURE), FILE, spending=world.spending) as gateway:
        _, headers, _ = ask(gateway, stream=True)
    assert headers["x-trireme-cost"] == "0.000005"
    assert rows(world) == [("small", "escalated", 5, SMALL), ("big", "ok", 7, BIG)]


def test_where_a_price_is_not_known_no_cost_is_told(tmp_path):
    text = FILE.replace('[prices."p:big"]\ninput = 100.0\noutput = 100.0\n', "")
    world = World(cap(100_000), file=text)
    with gateway_of(tmp_path, Steps(small=UNSURE), text, spending=world.spending) as gateway:
        assert "x-trireme-cost" not in ask(gateway)[1]


def test_first_tokens_that_were_not_sure_enough_are_charged_as_far_as_they_came(tmp_path):
    text = FILE.replace('exact = "all"', 'decide_after = 2\nexact = "all"')
    place(tmp_path, versions=PROVIDERS, decide_after=2)
    world = World(cap(100_000), file=text)
    long = whole(*said("one two three four", -5.0, -0.1, -0.1, -0.1), model="small-1")
    with gateway_of(tmp_path, Steps(small=long), text, spending=world.spending) as gateway:
        ask(gateway, stream=True)
    (small, big) = rows(world)
    # Two tokens came, and nobody counted them but us; of the input it is the bound.
    assert small[:3] == ("small", "escalated", INPUT + 3)
    assert big[:2] == ("big", "ok")


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_budget_does_not_pay_for_is_refused_and_the_unsure_answer_stays_unshown(tmp_path, stream):
    world = World(cap(None, HELD - 1), file=FILE)
    provider = Steps(small=UNSURE)
    with gateway_of(tmp_path, provider, FILE, spending=world.spending) as gateway:
        status, headers, text = ask(gateway, stream=stream)
        line = last_line(gateway)
    assert (status, provider.asked) == (429, ["small"])
    assert "budget of this day" in text and "perhaps" not in text
    assert headers["x-should-retry"] == "false"
    assert line["attempts"] == ["p:small escalated"]
    assert rows(world) == [("small", "escalated", 5, SMALL)]


@pytest.mark.parametrize("stream", [False, True])
def test_the_unsure_answer_is_shown_in_place_of_a_refusal_where_the_file_says_so(tmp_path, stream):
    world = World(cap(None, HELD - 1), file=KEEP)
    with gateway_of(tmp_path, Steps(small=UNSURE), KEEP, spending=world.spending) as gateway:
        status, headers, text = ask(gateway, stream=stream)
    assert (status, headers["x-trireme-step"]) == (200, "small")
    assert headers["x-trireme-escalated"] == "big=budget"
    assert headers["x-trireme-served-by"] == "p:small"
    assert "perhaps" in text
    assert rows(world) == [("small", "escalated", 5, SMALL)]


def test_a_fault_of_the_last_step_is_no_refusal_of_a_budget(tmp_path):
    fault = [ProviderError("busy", "next", "overloaded")]
    provider = Steps(small=UNSURE, big=fault, spare=fault)
    with gateway_of(tmp_path, provider, KEEP) as gateway:
        status, _, text = ask(gateway)
    assert status == 503
    assert "perhaps" not in text


def test_where_no_step_had_an_answer_there_is_none_to_show(tmp_path):
    world = World(cap(None, HELD - 1), file=KEEP)
    provider = Steps(small=[ProviderError("slow", "next", "timeout")])
    with gateway_of(tmp_path, provider, KEEP, spending=world.spending) as gateway:
        assert ask(gateway)[0] == 429


THREE = KEEP.replace(
    '[[models.careful.steps]]\nname = "big"',
    '[[models.careful.steps]]\nname = "middle"\ntarget = "p:middle"\ncalibration = "middle.json"\n'
    '[[models.careful.steps]]\nname = "big"',
).replace('[prices."p:big"]', '[prices."p:middle"]\ninput = 1.0\noutput = 1.0\n[prices."p:big"]')


def test_of_several_unsure_answers_the_likeliest_is_shown(tmp_path):
    place(tmp_path, "middle.json", versions=(("p:middle", "middle-1"),))
    worse = whole(*said("by no means", -0.1, -9.0, -0.1), model="middle-1")
    for middle, shown in (
        (worse, "small"),
        (whole(*said("well, maybe", -0.1, -2.0), model="middle-1"), "middle"),
    ):
        world = World(cap(None, HELD - 1), file=THREE)
        provider = Steps(small=UNSURE, middle=middle)
        with gateway_of(tmp_path, provider, THREE, spending=world.spending) as gateway:
            _, headers, _ = ask(gateway)
        other = {"small": "middle", "middle": "small"}[shown]
        assert headers["x-trireme-step"] == shown
        assert headers["x-trireme-escalated"] == f"{other}=unsure, big=budget"


def test_a_small_step_that_a_budget_does_not_pay_for_leaves_the_question_to_the_next(tmp_path):
    text = FILE.replace("input = 1.0\noutput = 1.0", "input = 1000.0\noutput = 1000.0")
    world = World(cap(None, HELD + 1), file=text)
    provider = Steps()
    with gateway_of(tmp_path, provider, text, spending=world.spending) as gateway:
        status, headers, _ = ask(gateway)
    assert (status, provider.asked, headers["x-trireme-escalated"]) == (200, ["big"], "small=budget")


def test_what_the_small_step_does_not_use_of_its_hold_pays_for_the_big_one(tmp_path):
    # The holds of both at once would be above it; one after the other they fit.
    world = World(cap(None, HELD + SMALL), file=FILE)
    with gateway_of(tmp_path, Steps(small=UNSURE), FILE, spending=world.spending) as gateway:
        assert ask(gateway)[0] == 200


class Kept:
    """A gateway with an exact tier, over one store."""

    def __init__(self, folder):
        self.folder = folder
        self.store = MemoryCache()
        self.spending = None

    def gateway(self, provider, text=FILE, caps=(), revisions=None, **more):
        world = World(*caps, file=text)
        self.world = world

        def answers(served, spending, metrics):
            fingerprints = Fingerprints(world.file.providers, served, revisions)
            tiers = [TierRow(ExactTier(self.store), 1.0)]
            return Answers(
                Caching(world.file, fingerprints, spending, tiers, QuestionLocks(self.store), metrics)
            )

        return gateway_of(self.folder, provider, text, answers=answers, spending=world.spending, **more)


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path)


def twice(gateway, **fields):
    """The headers of the first answer and of the second, and both texts."""
    first, second = ask(gateway, **fields), ask(gateway, **fields)
    assert (first[0], second[0]) == (200, 200)
    texts = [json.loads(one[2])["choices"][0]["message"]["content"] for one in (first, second)]
    return first[1], second[1], texts


def test_an_answer_of_either_kind_is_kept_under_the_name_of_the_cascade(kept):
    for small, step, target in ((SURE, "small", "p:small"), (UNSURE, "big", "p:big")):
        kept.store = MemoryCache()
        provider = Steps(small=small)
        with kept.gateway(provider) as gateway:
            first, second, texts = twice(gateway)
        (hit,) = [one.row for one in kept.world.ledger.rows.values() if one.row.tier == "exact"]
        assert first["x-trireme-cache"] == "miss"
        assert second["x-trireme-cache"].startswith("exact")
        assert texts[0] == texts[1]
        # Who made it, and what that one would have cost again.
        assert (second["x-trireme-step"], second["x-trireme-served-by"]) == (step, target)
        assert (hit.served, hit.saved_nanos) == (target, {"small": SMALL, "big": BIG}[step])
        assert "x-trireme-escalated" not in second
        assert len(provider.asked) == (1 if step == "small" else 2)


def test_another_threshold_is_not_served_answers_of_the_one_before(kept, tmp_path):
    provider = Steps()
    with kept.gateway(provider) as gateway:
        twice(gateway)
    place(tmp_path, versions=PROVIDERS, threshold=0.9)
    with kept.gateway(provider) as gateway:
        first, _, _ = twice(gateway)
    assert first["x-trireme-cache"] == "miss"
    assert (first["x-trireme-step"], first["x-trireme-escalated"]) == ("big", "small=unsure")


def test_an_unsure_answer_that_was_shown_for_want_of_money_is_nobody_elses(kept):
    provider = Steps(small=UNSURE)
    with kept.gateway(provider, KEEP, [cap(None, HELD - 1)]) as gateway:
        first, second, _ = twice(gateway)
    assert (first["x-trireme-step"], second["x-trireme-step"]) == ("small", "small")
    assert second["x-trireme-cache"] == "miss"
    assert kept.store.values == {}


def test_the_answer_of_the_last_steps_fallback_is_not_kept(kept):
    provider = Steps(small=UNSURE, big=[ProviderError("busy", "next", "overloaded")])
    with kept.gateway(provider) as gateway:
        _, second, _ = twice(gateway)
    assert (second["x-trireme-cache"], second["x-trireme-served-by"]) == ("miss", "p:spare")


def test_a_call_that_a_step_cannot_take_is_kept_as_the_next_ones(kept):
    provider = Steps()
    provider.refuses["small"] = "seed: not here"
    with kept.gateway(provider) as gateway:
        _, second, _ = twice(gateway, seed=1)
    assert second["x-trireme-cache"].startswith("exact")
    assert second["x-trireme-step"] == "big"


def test_without_a_temperature_an_answer_is_kept_where_all_steps_decode_greedily(kept, tmp_path):
    place(tmp_path, features=("tokens",), versions=(("rag", V1),))
    rag = ServedModel("rag", "answer", True, "load", versions=(("rag", V1),))
    text = FILE.replace('exact = "all"\n', "").replace('target = "p:small"', 'target = "rag"')
    with kept.gateway(Steps(rag=SURE), text, models=[rag]) as gateway:
        _, second, _ = twice(gateway)
    assert second["x-trireme-cache"] == "bypass"


def test_all_who_ask_at_once_get_the_answer_of_one_climb_with_its_step(kept):
    gates = []

    async def wait():
        gates.append(1)
        # Until the others have come.
        while gateway.ports.metrics.running < 3:
            await asyncio.sleep(0.001)

    def slow():
        yield UNSURE[0]
        yield wait()
        yield from UNSURE[1:]

    provider = Steps(small=slow)
    with kept.gateway(provider) as gateway:
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda _: ask(gateway), range(3)))
    assert provider.asked == ["small", "big"]
    assert {headers["x-trireme-step"] for _, headers, _ in answers} == {"big"}
    # Who came late has found it kept.
    caches = sorted(headers["x-trireme-cache"].partition(";")[0] for _, headers, _ in answers)
    assert caches.count("miss") == 1
    assert set(caches) <= {"exact", "flight", "miss"}


def test_an_unsure_answer_that_is_shown_for_want_of_money_is_not_who_waits_for_its(kept):
    async def wait():
        # Until the other one has come.
        while gateway.ports.metrics.running < 2:
            await asyncio.sleep(0.001)

    def slow():
        yield UNSURE[0]
        if len(provider.asked) == 1:
            yield wait()
        yield from UNSURE[1:]

    keys = {SECRET: ANN, "tr-ben": Key("key_ben", ANN.tenant, "ben")}
    provider = Steps(small=slow)
    with kept.gateway(provider, KEEP, [cap(None, HELD - 1)], keys=keys) as gateway:
        with ThreadPoolExecutor(2) as pool:
            poor = pool.submit(ask, gateway)
            # Who comes first leads.
            while not provider.asked:
                time.sleep(0.001)
            rich = pool.submit(ask, gateway, "tr-ben")
            answers = poor.result(), rich.result()
    assert [headers["x-trireme-step"] for _, headers, _ in answers] == ["small", "big"]
    assert answers[1][1]["x-trireme-cache"] == "miss"


class Collections:
    """Of one revision each."""

    async def read(self, tenant, collection):
        return f"{tenant}/{collection}/1"


RAG = ServedModel("rag", "answer", True, "load", versions=(("rag", V1),), says_findings=True)
OF_RAG = FILE.replace('target = "p:small"', 'target = "rag"\nanswer_mode = "generative"')
PROMPT = ({"role": "user", "content": "passages and question"},)
FOUND = [
    Started("rag"),
    Findings((-9.0,), {"passage_score": 0.5}, PROMPT),
    TextDelta("well"),
    Finished("stop"),
]
NOTHING = [Started("rag"), Findings((-9.0,), {"passage_score": None}), TextDelta("well"), Finished("stop")]


@pytest.mark.parametrize(
    ("small", "cache"),
    [(FOUND, "exact"), (NOTHING, "exact"), ([ProviderError("busy", "next", "overloaded")], "miss")],
    ids=["found", "nothing", "failed"],
)
def test_a_big_answer_without_the_passages_that_a_failed_step_owed_it_is_not_kept(
    kept, tmp_path, small, cache
):
    place(tmp_path, versions=(("rag", V1),))
    provider = Steps(rag=small)
    with kept.gateway(provider, OF_RAG, models=[RAG], revisions=Collections()) as gateway:
        _, second, _ = twice(gateway)
    assert second["x-trireme-step"] == "big"
    assert second["x-trireme-cache"].partition(";")[0] == cache


def test_an_answer_with_passages_is_not_one_without_nor_one_of_a_step_of_another_name(kept, tmp_path):
    place(tmp_path, versions=(("rag", V1),))
    texts = [
        OF_RAG,
        OF_RAG.replace('name = "big"', 'name = "big"\npassages = false'),
        OF_RAG.replace('name = "big"', 'name = "frontier"'),
        OF_RAG.replace('name = "small"', 'name = "small"\nseconds = 7'),
    ]
    for text in texts:
        with kept.gateway(Steps(rag=FOUND), text, models=[RAG], revisions=Collections()) as gateway:
            first, second, _ = twice(gateway)
        assert first["x-trireme-cache"] == "miss"
        assert second["x-trireme-cache"].startswith("exact")


def test_steps_that_share_a_target_keep_answers_apart(kept, tmp_path):
    place(tmp_path, versions=PROVIDERS)
    place(tmp_path, "middle.json", features=("tokens",), versions=PROVIDERS)
    text = THREE.replace('"p:middle"\ncalibration', '"p:small"\ncalibration')

    provider = Steps()
    # One of the two at a time, by what alone tells them apart: the targets that are left are the same.
    provider.refuses["small"] = lambda call: "logprobs: no" if call.logprobs is not None else ""
    with kept.gateway(provider, text) as gateway:
        first, _, _ = twice(gateway)
        provider.refuses["small"] = lambda call: "logprobs: missing" if call.logprobs is None else ""
        again, _, _ = twice(gateway)
    assert (first["x-trireme-step"], first["x-trireme-cache"]) == ("middle", "miss")
    assert (again["x-trireme-step"], again["x-trireme-cache"]) == ("small", "miss")
