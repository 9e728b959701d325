"""Promises: when a scope is on, which thresholds hold, and what all gateways know of it."""

import asyncio
from dataclasses import replace

import pytest

from fakes.memory_promises import MemoryPromises
from trireme.cache.bounds import needed_checks, upper_limit
from trireme.cache.promise import (
    Check,
    Evidence,
    Promises,
    SemanticRule,
    judge,
    learn_threshold,
    pick_threshold,
    share_of,
)
from trireme.errors import InvalidInputError

RULE = SemanticRule("models.m", 0.01, 0.02, 0.5)


def checks(agreed, false, score=1.0, family="t/m"):
    return tuple(Check(RULE.scope, family, score, n >= false) for n in range(agreed + false))


def stands(agreed, false, *, is_off=False):
    return judge(Evidence(checks(agreed, false), is_off), RULE)


def test_a_scope_begins_on_with_nothing_known():
    standing = judge(Evidence(), RULE)
    assert standing.is_on
    assert (standing.checks, standing.false, standing.upper) == (0, 0, 1.0)


@pytest.mark.parametrize(
    ("agreed", "false", "is_on"),
    [
        (1, 0, True),
        (298, 0, True),
        (299, 0, True),
        (0, 1, False),
        (4, 1, False),
        (20, 1, True),
        (20, 3, False),
        (297, 1, True),
        (298, 1, False),
        (471, 1, False),
        (472, 1, True),
        (3000, 10, True),
    ],
)
def test_few_checks_are_judged_by_the_lower_limit_and_many_by_the_upper_one(agreed, false, is_on):
    assert stands(agreed, false).is_on == is_on


def test_a_scope_that_is_off_comes_back_only_with_its_upper_limit():
    assert not stands(20, 0, is_off=True).is_on
    assert not stands(298, 0, is_off=True).is_on
    assert stands(299, 0, is_off=True).is_on
    assert not stands(471, 1, is_off=True).is_on
    assert stands(472, 1, is_off=True).is_on


def test_checks_below_the_threshold_do_not_count():
    evidence = Evidence(checks(10, 0) + checks(0, 5, score=0.4))
    standing = judge(evidence, RULE)
    assert (standing.checks, standing.false) == (10, 0)


def test_a_threshold_is_learned_above_the_scores_that_fail():
    low = [(0.6 + n / 10_000, n % 5 > 0) for n in range(200)]
    high = [(0.8 + n / 10_000, True) for n in range(600)]
    learned = learn_threshold(low + high, 0.01, 0.5)
    assert 0.62 < learned <= 0.85
    passed = [ok for score, ok in low + high if score >= learned]
    assert upper_limit(passed.count(False), len(passed)) <= 0.01


def test_a_threshold_is_never_lowered_and_needs_evidence():
    assert learn_threshold([], 0.01, 0.5) == 0.5
    assert learn_threshold([(0.9, False)] * 10, 0.01, 0.5) == 0.5
    assert learn_threshold([(0.9, True)] * 400, 0.01, 0.5) == 0.5
    assert learn_threshold([(0.4, False)] * 400 + [(0.9, True)] * 300, 0.01, 0.5) == 0.5


def test_where_no_threshold_helps_the_base_stays_and_the_scope_goes_off():
    labels = [(0.5 + n / 1000, n % 10 > 0) for n in range(500)]
    assert learn_threshold(labels, 0.01, 0.5) == 0.5
    evidence = Evidence(tuple(Check(RULE.scope, "t/m", score, ok) for score, ok in labels))
    assert not judge(evidence, RULE).is_on


def test_a_raised_threshold_keeps_a_scope_on():
    evidence = Evidence(checks(500, 0, score=0.9) + checks(20, 20, score=0.6))
    standing = judge(evidence, RULE)
    assert standing.is_on
    assert standing.thresholds == {"t/m": 0.9}
    assert (standing.checks, standing.false) == (500, 0)


def test_a_family_learns_from_its_own_checks():
    evidence = Evidence(
        checks(500, 0, score=0.9) + checks(20, 20, score=0.6) + checks(500, 0, score=0.6, family="u/m")
    )
    assert judge(evidence, RULE).thresholds == {"t/m": 0.9}


def test_equal_scores_are_served_together():
    labels = [(0.9, True)] * 299 + [(0.9, False)] * 40 + [(0.95, True)] * 299
    assert learn_threshold(labels, 0.01, 0.5) == 0.95


def test_more_hits_are_checked_until_the_promise_can_be_judged():
    assert share_of(stands(10, 0), RULE) == pytest.approx(0.2)
    assert share_of(stands(299, 0), RULE) == 0.02
    assert share_of(stands(10, 0), replace(RULE, shadow_share=0.5)) == 1.0


def test_the_threshold_of_the_next_stricter_share_is_picked():
    table = {0.001: 5.0, 0.01: 3.0, 0.02: 2.0}
    assert pick_threshold(table, 0.01) == 3.0
    assert pick_threshold(table, 0.015) == 3.0
    assert pick_threshold(table, 0.5) == 2.0
    with pytest.raises(InvalidInputError, match=r"0\.001, 0\.01, 0\.02"):
        pick_threshold(table, 0.0005)


class Told(list):
    def __call__(self, standing, changed):
        self.append((standing.is_on, changed))


def run(work):
    return asyncio.run(work())


def test_nothing_is_known_before_the_store_has_answered():
    async def work():
        store = MemoryPromises()
        store.is_away = True
        promises = Promises(store, seconds=0.01)
        await promises.start()
        assert promises.standing(RULE) is None
        await asyncio.sleep(0.05)
        assert promises.standing(RULE) is None
        store.is_away = False
        await promises.refresh()
        assert promises.standing(RULE).is_on
        await promises.close()

    run(work)


def test_what_one_gateway_finds_out_another_one_knows():
    async def work():
        store = MemoryPromises()
        here, elsewhere = Promises(store), Promises(store)
        here.standing(RULE), elsewhere.standing(RULE)
        await here.refresh()
        here.record(Check(RULE.scope, "t/m", 0.9, False))
        assert not here.standing(RULE).is_on
        await here.refresh()
        await elsewhere.refresh()
        assert not elsewhere.standing(RULE).is_on
        assert store.read(RULE.scope).is_off

    run(work)


def test_a_scope_that_went_off_stays_off_over_a_restart_until_it_is_reset():
    async def work():
        store = MemoryPromises()
        first = Promises(store)
        first.standing(RULE)
        await first.refresh()
        first.record(Check(RULE.scope, "t/m", 0.9, False))
        await first.refresh()
        for _ in range(30):
            first.record(Check(RULE.scope, "t/m", 0.9, True))
        await first.close()
        second = Promises(store)
        second.standing(RULE)
        await second.refresh()
        assert not second.standing(RULE).is_on
        store.reset(RULE.scope)
        await second.refresh()
        assert second.standing(RULE).is_on

    run(work)


def test_fresh_evidence_turns_a_scope_on_again_and_every_change_is_told_once():
    async def work():
        told = Told()
        store = MemoryPromises()
        promises = Promises(store, told)
        promises.standing(RULE)
        await promises.refresh()
        promises.record(Check(RULE.scope, "t/m", 0.9, False))
        await promises.refresh()
        for _ in range(needed_checks(0.01) + 180):
            promises.record(Check(RULE.scope, "t/m", 0.9, True))
        await promises.refresh()
        await promises.refresh()
        assert promises.standing(RULE).is_on
        assert not store.read(RULE.scope).is_off
        assert [is_on for is_on, changed in told if changed] == [False, True]

    run(work)


def test_checks_wait_while_the_store_is_away_and_count_meanwhile():
    async def work():
        store = MemoryPromises()
        promises = Promises(store, seconds=0.01)
        promises.standing(RULE)
        await promises.refresh()
        await promises.start()
        store.is_away = True
        promises.record(Check(RULE.scope, "t/m", 0.9, False))
        async with asyncio.timeout(60):
            while promises.standing(RULE).is_on:
                await asyncio.sleep(0.01)
        store.is_away = False
        await promises.close()
        assert len(store.read(RULE.scope).checks) == 1

    run(work)


def test_a_rule_that_has_changed_is_judged_anew():
    async def work():
        store = MemoryPromises()
        for check in checks(19, 1):
            store.record(check)
        promises = Promises(store)
        loose = replace(RULE, max_false_hits=0.3)
        promises.standing(loose)
        await promises.refresh()
        assert promises.standing(loose).is_on
        assert promises.standing(RULE) is None
        await promises.refresh()
        assert promises.standing(RULE).checks == 20

    run(work)
