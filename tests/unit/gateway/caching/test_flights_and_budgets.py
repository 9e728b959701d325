"""Who reads along with an answer that another one's budget may cut."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes.gateways import ANN, SECRET, Echo, FakeGateway
from fakes.memory_cache import MemoryCache
from fakes.spending import World
from trireme.access.keys import Key
from trireme.budget.caps import Cap
from trireme.cache.exact import ExactTier
from trireme.gateway.caching.answers import Answers, Caching, TierRow
from trireme.gateway.caching.fingerprints import Fingerprints
from trireme.gateway.caching.locks import QuestionLocks
from trireme.providers.chat import Finished, Started, TextDelta, Usage

BEN = Key("key_ben", "acme", "ben")
BODY = {"model": "a:m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}


def ask_both(caps, most_output, body=BODY):
    """Finish reason and cache header of ann's answer and of ben's, who asks while hers is on its way; and calls."""
    money = World(*caps, file=f"most_output = {most_output}\n")
    gate = threading.Event()

    def script(call, model):
        yield Started(model)
        yield TextDelta("w ")
        yield asyncio.to_thread(gate.wait, 60)
        for _ in range(19):
            yield TextDelta("w ")
        yield Usage(5, 20)
        yield Finished("stop")

    def open_answers(served, spending, metrics):
        store = MemoryCache()
        fingerprints = Fingerprints(money.file.providers, served, None)
        rows = [TierRow(ExactTier(store), 1.0)]
        return Answers(Caching(money.file, fingerprints, spending, rows, QuestionLocks(store), metrics))

    keys = {SECRET: ANN, "tr-ben": BEN}
    running = FakeGateway(
        Echo(script), keys=keys, file=money.file, spending=money.spending, answers=open_answers
    )
    with running as gateway, ThreadPoolExecutor(2) as pool:

        def ask(secret):
            status, headers, raw = gateway.ask("POST", "/v1/chat/completions", body, None, secret)
            assert status == 200, raw
            return json.loads(raw)["choices"][0]["finish_reason"], headers["x-trireme-cache"].split(";")[0]

        first = pool.submit(ask, SECRET)
        while not gateway.provider.calls:
            gate.wait(0.01)
        second = pool.submit(ask, "tr-ben")
        while gateway.ports.metrics.running < 2:
            gate.wait(0.01)
        gate.set()
        return first.result(), second.result(), len(gateway.provider.calls)


def cap(user):
    return Cap("acme", user, "day", tokens=100_000)


def test_who_has_no_budget_does_not_get_what_anothers_budget_cut():
    assert ask_both([cap("ann")], 10) == (("length", "miss"), ("stop", "miss"), 2)


@pytest.mark.parametrize(
    ("caps", "body"),
    [([cap("ann"), cap("ben")], BODY), ([cap("ann")], {**BODY, "max_tokens": 30}), ([cap("ann")], BODY)],
)
def test_what_no_budget_cut_is_one_call_for_both(caps, body):
    (reason, first), (same, second), calls = ask_both(caps, 40, body)
    assert (reason, same, first, calls) == ("stop", "stop", "miss", 1)
    assert second in ("flight", "exact")
