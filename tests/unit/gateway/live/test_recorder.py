import math

import pytest

from trireme.access.keys import Key
from trireme.budget.ledger import LedgerRow
from trireme.gateway.exchange import Exchange
from trireme.gateway.live import recorder as module
from trireme.gateway.live.recorder import Recorder
from trireme.gateway.live.slots import INTERVAL, SERIES, SLOTS

START = 1_800_000_000


class Clock:
    def __init__(self):
        self.now = float(START)

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def recorder(clock):
    return Recorder(clock)


def exchange(tenant="acme", user="ann", endpoint="chat", method="POST", **more):
    key = Key(f"key_{tenant}", tenant, user) if tenant else None
    return Exchange({"method": method}, endpoint, {}, "req_1", **{"key": key, "outcome": "ok", **more})


def row(tenant="acme", user="ann", **more):
    return LedgerRow("att", "req", tenant, user, "k", "chat", "local", "llm", "local:llm", 0, **more)


def sums(recorder, tenant="", user=""):
    """What the slots that are over add up to."""
    ring = recorder.watch(tenant, user)
    _, series = recorder.history(ring)
    recorder.leave(ring)
    return {name: sum(value for value in values if not math.isnan(value)) for name, values in series.items()}


def test_a_request_counts_for_all_for_its_tenant_and_for_its_user_and_for_nobody_else(recorder, clock):
    recorder.note(exchange(), 0.1)
    recorder.note(exchange(user="bob"), 0.1)
    recorder.note(exchange("other"), 0.1)
    clock.now += INTERVAL
    found = [
        sums(recorder, *whose)["requests"]
        for whose in [("", ""), ("acme", ""), ("acme", "ann"), ("other", "ann"), ("other", "bob")]
    ]
    assert found == [3, 2, 1, 1, 0]


@pytest.mark.parametrize(
    ("outcome", "status", "kind"),
    [
        ("ok", 200, "succeeded"),
        ("refused", 429, "refused"),
        ("error", 503, "failed"),
        ("cut", 200, "failed"),
        ("client_gone", 499, "gone"),
        ("", 0, "failed"),
    ],
)
def test_each_request_ends_in_one_of_four_ways(recorder, clock, outcome, status, kind):
    recorder.note(exchange(outcome=outcome, status=status), 0.1)
    clock.now += INTERVAL
    found = sums(recorder)
    ways = {name: found[name] for name in ("succeeded", "refused", "failed", "gone")}
    assert ways == dict.fromkeys(ways, 0) | {kind: 1}


@pytest.mark.parametrize(
    ("endpoint", "method"),
    [("usage", "GET"), ("models", "GET"), ("search", "GET"), ("documents", "POST"), ("none", "POST")],
)
def test_what_asks_no_model_is_no_request(recorder, clock, endpoint, method):
    recorder.note(exchange(endpoint=endpoint, method=method), 0.1)
    clock.now += INTERVAL
    assert sums(recorder)["requests"] == 0


def test_a_request_without_a_key_counts_for_all_alone(recorder, clock):
    recorder.note(exchange("", outcome="refused", error="UNAUTHENTICATED"), 0.1)
    clock.now += INTERVAL
    assert sums(recorder)["refused"] == 1


def test_times_are_those_of_answers_that_succeeded(recorder, clock):
    answered = exchange(stream=True, waited=2.0)
    answered.first_at = answered.started + 0.5
    recorder.note(answered, 4.0)
    recorder.note(exchange(outcome="refused"), 0.001)
    found = recorder.recent(recorder.watch("acme", ""))
    assert found["first_ms_p50"] == pytest.approx(500, rel=0.03)
    assert found["total_ms_p50"] == pytest.approx(4000, rel=0.03)
    assert found["wait_ms_p95"] == pytest.approx(2000, rel=0.03)


def test_tokens_and_dollars_are_those_of_the_ledgers_rows(recorder, clock):
    recorder.charge(row(input_tokens=100, cached_tokens=40, output_tokens=7, nanos=2_000_000_000))
    recorder.charge(row(tier="exact", cached_tokens=9, saved_nanos=500_000_000))
    clock.now += INTERVAL
    found = sums(recorder, "acme", "ann")
    assert (found["input_tokens"], found["output_tokens"]) == (100, 7)
    assert (found["dollars"], found["saved_dollars"]) == (2.0, 0.5)
    assert found["hits_prefix_tokens"] == 40


def test_a_request_that_two_tiers_were_asked_for_is_one_look_up_and_a_hit_of_one(recorder, clock):
    recorder.note(exchange(tiers_asked=["exact", "semantic"], tiers_hit=["semantic"]), 0.1)
    recorder.note(exchange(tiers_asked=["exact", "semantic"]), 0.1)
    ring = recorder.watch("acme", "")
    assert ring.tally == {("lookup", "exact"): 2, ("lookup", "semantic"): 2, ("hit", "semantic"): 1}
    clock.now += INTERVAL
    found = sums(recorder, "acme")
    assert (found["cache_lookups"], found["cache_hits"]) == (2, 1)
    assert (found["hits_exact"], found["hits_semantic"]) == (0, 1)


def test_errors_are_counted_by_class_and_forgotten_after_an_hour(recorder, clock):
    recorder.note(exchange(outcome="refused", error="NOT_FOUND"), 0.1)
    recorder.note(exchange(outcome="cut"), 0.1)
    ring = recorder.watch("acme", "")
    assert ring.tally == {("error", "NOT_FOUND"): 1, ("error", "cut"): 1}
    clock.now += INTERVAL * (SLOTS - 1)
    recorder.recent(ring)
    assert ring.tally[("error", "cut")] == 1
    clock.now += INTERVAL
    recorder.recent(ring)
    assert not ring.tally


def test_more_kinds_of_errors_than_there_is_place_for_are_other(recorder):
    for number in range(module.MOST_TALLIED + 5):
        recorder.note(exchange(outcome="error", error=f"kind{number}"), 0.1)
    ring = recorder.watch("acme", "")
    assert len(ring.tally) == module.MOST_TALLIED + 1
    assert ring.tally[("error", "other")] == 5


def test_the_history_is_an_hour_of_slots_that_are_over_with_nothing_known_before_the_start(recorder, clock):
    clock.now += 3 * INTERVAL
    recorder.note(exchange(), 0.1)
    clock.now += 2 * INTERVAL
    at, series = recorder.history(recorder.watch("acme", ""))
    assert at == [START + (place - 355) * INTERVAL for place in range(SLOTS)]
    assert list(series) == list(SERIES)
    assert all(math.isnan(value) for value in series["requests"][:355])
    assert series["requests"][355:] == [0, 0, 0, 1, 0]
    assert math.isnan(series["total_ms_p50"][-1])


def test_slots_older_than_an_hour_are_gone(recorder, clock):
    for _ in range(SLOTS + 50):
        recorder.note(exchange(), 0.1)
        clock.now += INTERVAL
    ring = recorder.watch("acme", "")
    assert sums(recorder, "acme")["requests"] == SLOTS
    assert len(ring._closed) <= SLOTS + 1
    assert len(ring._recent) == module.RECENT


def test_a_point_is_the_slot_that_ended(recorder, clock):
    recorder.note(exchange(), 0.1)
    ring, index = recorder.watch("acme", ""), recorder.index
    clock.now += INTERVAL
    assert recorder.point(ring, index)["requests"] == 1
    assert recorder.point(ring, index + 1)["requests"] == 0


def test_rates_are_of_the_last_minute_and_of_less_where_less_is_known(recorder, clock):
    clock.now += 5
    for _ in range(20):
        recorder.note(exchange(), 0.1)
    recorder.charge(row(input_tokens=90, output_tokens=10))
    ring = recorder.watch("acme", "")
    found = recorder.recent(ring)
    assert (found["requests_per_second"], found["tokens_per_second"]) == (4.0, 20.0)
    assert found["output_tokens_per_second"] == 2.0
    clock.now += 60
    assert recorder.recent(ring)["requests_per_second"] == pytest.approx(20 / 65, abs=0.001)
    clock.now += 10
    assert recorder.recent(ring)["requests_per_second"] == 0.0


def test_a_clock_that_goes_back_loses_nothing(recorder, clock):
    clock.now += INTERVAL
    recorder.note(exchange(), 0.1)
    clock.now -= 2 * INTERVAL
    recorder.note(exchange(), 0.1)
    clock.now += 4 * INTERVAL
    assert sums(recorder, "acme")["requests"] == 2


def test_tenants_beyond_those_there_is_place_for_are_recorded_from_when_they_are_watched(
    recorder, clock, monkeypatch
):
    monkeypatch.setattr(module, "MOST", 2)
    for tenant in ("a", "b", "c"):
        recorder.note(exchange(tenant, ""), 0.1)
    clock.now += 2.5 * INTERVAL
    recorder.note(exchange("c", ""), 0.1)
    ring = recorder.watch("c", "")
    assert ring.since == clock.now
    recorder.note(exchange("c", ""), 0.1)
    clock.now += 2 * INTERVAL
    _, series = recorder.history(ring)
    # The slot in which it began is known in part.
    assert [math.isnan(value) for value in series["requests"][-3:]] == [True, True, False]
    recorder.leave(ring)
    assert sums(recorder)["requests"] == 5
    assert sums(recorder, "a")["requests"] == 1


def test_a_watched_tenant_beyond_the_places_has_none_once_nobody_watches(recorder, clock, monkeypatch):
    monkeypatch.setattr(module, "MOST", 1)
    recorder.note(exchange("a", ""), 0.1)
    first, second = recorder.watch("b", ""), recorder.watch("b", "")
    assert first is second
    recorder.leave(first)
    recorder.note(exchange("b", ""), 0.1)
    assert recorder.watch("b", "") is first
    recorder.leave(first)
    recorder.leave(second)
    clock.now += 3
    assert recorder.watch("b", "").since >= clock.now - 3


def test_a_tenant_that_is_silent_for_an_hour_gives_its_place(recorder, clock, monkeypatch):
    monkeypatch.setattr(module, "MOST", 1)
    recorder.note(exchange("a", ""), 0.1)
    clock.now += (SLOTS + 1) * INTERVAL
    recorder.note(exchange("b", ""), 0.1)
    clock.now += INTERVAL
    assert sums(recorder, "b")["requests"] == 1


def test_users_take_no_places_of_tenants(recorder, clock, monkeypatch):
    monkeypatch.setattr(module, "MOST", 2)
    for user in ("a", "b", "c", "d"):
        recorder.note(exchange("acme", user), 0.1)
    recorder.note(exchange("other", "e"), 0.1)
    clock.now += INTERVAL
    assert sums(recorder, "acme")["requests"] == 4
    assert sums(recorder, "other")["requests"] == 1
