import math

import pytest

from benchmarks.scaling.fleet import LATENCIES
from benchmarks.scaling.policies import AWS, LLM_D, Controller, Knobs, View, describe, fix, ours
from fakes.scaling import ONE, sample


def test_a_rate_is_taken_between_the_samples_of_its_window():
    samples = [sample(at, offered=at * at / 15) for at in range(0, 121, 15)]
    # Of 60 s that end at 120 the samples at 75 to 120 are within.
    assert View(samples, ONE).first(60).at == 75
    assert View(samples, ONE).offered_rate(60) == pytest.approx((120**2 - 75**2) / 15 / 45)
    assert View(samples[:1], ONE).offered_rate(60) == 0


def test_a_quantile_is_a_straight_line_within_its_bucket():
    counts = [0] * (len(LATENCIES) + 1)
    counts[LATENCIES.index(5)] = 90
    counts[LATENCIES.index(10)] = 10
    view = View([sample(0), sample(15, latencies=tuple(counts))], ONE)
    # Rank 95 of 100 is the fifth of the ten between 5 and 10 s.
    assert view.latency(0.95, 60) == pytest.approx(7.5)
    assert view.latency(0.45, 60) == pytest.approx(2.5 + 2.5 * 45 / 90)
    assert math.isnan(View([sample(0)], ONE).latency(0.95, 60))


def look(policy, samples, replicas=4, ready=4, now=0.0):
    return Controller(policy, ONE).look(now, samples, replicas, ready)


def test_ours_asks_for_work_backlog_and_spare():
    samples = [sample(0), sample(45, offered=90.0, backlog=240.0)]
    # 2 / 0.8 + 240 / 120 = 4.5
    assert look(ours(), samples, replicas=2) == 5
    assert look(ours(Knobs(spare=1)), samples, replicas=2) == 6
    assert look(ours(Knobs(utilization=1.0, drain_s=60.0)), samples, replicas=2) == 6


def test_the_recipe_of_aws_counts_requests_and_divides_a_latency_by_its_target():
    counts = [0] * (len(LATENCIES) + 1)
    counts[LATENCIES.index(20)] = 100
    # 130 wait: 6 by 25 each; two more in a minute are allowed, once half a minute has agreed.
    samples = [sample(0), sample(15, waiting=130)]
    controller = Controller(AWS, ONE)
    assert [controller.look(float(now), samples, 2, 2) for now in (0, 15, 30)] == [2, 2, 4]
    # The 95th percentile is 19.75 s: four replicas, however many there are.
    samples = [sample(0), sample(15, latencies=tuple(counts))]
    controller = Controller(AWS, ONE)
    assert [controller.look(float(now), samples, 2, 2) for now in (0, 15, 30)] == [2, 2, 4]


def test_llm_d_reads_tokens_that_wait_and_adds_one_in_three_minutes():
    samples = [sample(0), sample(15, input_waiting=1000)]
    controller = Controller(LLM_D, ONE)
    replicas, seen = 1, []
    for now in range(0, 360, 15):
        replicas = controller.look(float(now), samples, replicas, replicas)
        seen.append(replicas)
    assert seen == [2] * 12 + [3] * 12


def test_without_a_sample_nothing_changes_and_a_fixed_fleet_never_does():
    assert look(ours(), []) == 4
    assert look(fix(7), [sample(0)]) == 7


def test_ours_holds_its_fleet_where_the_metric_is_lost_and_the_published_ones_take_it_for_zero():
    lost = [sample(0), sample(15, backlog=math.nan, offered=math.nan)]
    assert look(ours(), lost) == 4
    assert not ours().asked[0].trigger.ignores_nulls
    assert AWS.asked[0].trigger.ignores_nulls


def test_knobs_are_told_in_words():
    assert describe(Knobs()) == "work/0.8 + backlog/120 s"
    assert describe(Knobs(0.7, 60.0, 1, 120.0, 600.0)) == (
        "work/0.7 + backlog/60 s + 1, rate over 120 s, in after 600 s"
    )
