"""The rate, and the signals made of totals, on clocks that tests turn."""

import random

import pytest

from trireme.observe.work import (
    KEPT_WINDOWS,
    FrontQueue,
    SignalLedger,
    Waiting,
    WorkMeter,
    WorkRate,
    WorkTotals,
)

NOTHING = Waiting()


def busy(rate, per_second, runs, seconds=0.1):
    """`runs` full runs at a true rate."""
    for _ in range(runs):
        rate.add(per_second * seconds, seconds)


def test_a_rate_that_was_never_measured_is_zero():
    assert (WorkRate().value, WorkRate().windows) == (0.0, 0)


def test_the_rate_is_known_before_the_first_window_is_full():
    rate = WorkRate()
    rate.add(10, 0.02)
    assert (rate.value, rate.windows) == (pytest.approx(500), 0)


def test_the_rate_of_runs_of_any_size_is_their_sum_by_their_time():
    rate, sizes = WorkRate(), random.Random(7)
    for _ in range(500):
        tokens = sizes.randint(1, 512)
        # What a run costs beside its tokens: a true rate of 1000 for those of the mean size.
        rate.add(tokens, tokens / 1000)
    assert rate.value == pytest.approx(1000)


def test_idle_time_does_not_count_since_only_full_runs_are_told():
    rate = WorkRate()
    for _ in range(50):
        busy(rate, 200, 4)
        # Hours go by here; nobody tells of them.
    assert rate.value == pytest.approx(200)


def test_a_stall_and_a_first_run_that_compiles_move_the_rate_little():
    rate = WorkRate()
    rate.add(10, 30.0)
    busy(rate, 100, 40)
    rate.add(10, 300.0)
    busy(rate, 100, 40)
    assert rate.value == pytest.approx(100)


def test_a_machine_that_got_slower_is_seen_after_half_of_the_windows():
    rate = WorkRate(window_seconds=0.1, window_runs=1)
    busy(rate, 100, KEPT_WINDOWS)
    busy(rate, 60, KEPT_WINDOWS // 2)
    assert rate.value == pytest.approx(100)
    busy(rate, 60, 1)
    assert rate.value == pytest.approx(60)


def test_what_the_warm_up_measured_counts_however_short_it_was_and_is_outvoted_later():
    rate = WorkRate()
    rate.add(5, 0.01)
    rate.settle()
    assert (rate.value, rate.windows) == (pytest.approx(500), 1)
    busy(rate, 100, 8)
    assert rate.value == pytest.approx(100)


def test_windows_without_any_work_are_no_rate():
    rate = WorkRate()
    for _ in range(20):
        rate.add(0, 1.0)
    assert (rate.value, rate.windows) == (0.0, 0)


def look(ledger, meter, rate=10.0, waiting=NOTHING, front=None):
    return ledger.look(meter.totals(), rate, waiting, front)


def test_offered_work_has_what_was_refused_and_bulk_in_it_and_each_apart():
    ledger, meter = SignalLedger(), WorkMeter()
    meter.offer(50)
    meter.offer(30, is_refused=True)
    meter.offer(20, is_bulk=True)
    signals = look(ledger, meter)
    assert (signals.offered_seconds, signals.rejected_seconds, signals.bulk_seconds) == (10.0, 3.0, 2.0)
    assert look(ledger, meter).offered_seconds == 0.0


def test_the_backlog_is_what_waits_by_the_rate_of_all_instances():
    signals = look(SignalLedger(instances=4), WorkMeter(), 10.0, Waiting(3, 120))
    assert (signals.backlog_seconds, signals.queue_depth, signals.capacity) == (3.0, 3, 10.0)


def test_until_the_rate_is_known_nothing_is_told_and_nothing_is_lost():
    ledger, meter = SignalLedger(), WorkMeter()
    meter.offer(40)
    first = look(ledger, meter, 0.0, Waiting(1, 40))
    assert (first.offered_seconds, first.backlog_seconds, first.capacity) == (0.0, None, None)
    assert look(ledger, meter, 10.0).offered_seconds == 4.0


def test_what_was_before_the_start_is_not_told():
    ledger, meter = SignalLedger(), WorkMeter()
    meter.offer(70)
    meter.wait(5.0, 2)
    ledger.start(meter.totals(), FrontQueue(refused=9, wait_seconds=3.0))
    meter.offer(10)
    meter.wait(1.0)
    signals = look(ledger, meter, 10.0, front=FrontQueue(refused=9, wait_seconds=3.0))
    assert (signals.offered_seconds, signals.rejected_seconds) == (1.0, 0.0)
    assert (signals.wait_seconds, signals.waits) == (1.0, 1)


def test_a_counter_never_falls_and_its_sum_is_the_truth_once_cheaper_requests_have_been_made_good():
    ledger, meter = SignalLedger(), WorkMeter()
    meter.offer(100)
    told = look(ledger, meter).offered_seconds
    meter.correct(-60)
    assert look(ledger, meter).offered_seconds == 0.0
    meter.offer(50)
    assert look(ledger, meter).offered_seconds == 0.0
    meter.offer(30)
    told += look(ledger, meter).offered_seconds
    assert told == (100 - 60 + 50 + 30) / 10


def test_requests_in_the_servers_queue_have_arrived_and_are_not_counted_twice_when_they_are_handed_over():
    ledger, meter = SignalLedger(), WorkMeter()
    meter.offer(12, requests=4)
    waiting = Waiting(4, 12)
    signals = look(ledger, meter, 1.0, waiting, FrontQueue(waiting=6))
    # Four requests of 3 in our own queue, six of about as much before it.
    assert (signals.offered_seconds, signals.backlog_seconds, signals.queue_depth) == (30.0, 30.0, 10)
    meter.offer(18, requests=6)
    signals = look(ledger, meter, 1.0, Waiting(10, 30), FrontQueue())
    assert (signals.offered_seconds, signals.backlog_seconds, signals.queue_depth) == (0.0, 30.0, 10)


def test_instances_each_speak_for_their_share_of_the_servers_queue():
    told = [0.0, 0.0, 0.0]
    for _ in range(4):
        ledger, meter = SignalLedger(instances=4), WorkMeter()
        meter.offer(10)
        signals = look(ledger, meter, 5.0, Waiting(1, 10), FrontQueue(waiting=8, wait_seconds=2.0))
        told[0] += signals.queue_depth
        told[1] += signals.backlog_seconds
        told[2] += signals.wait_seconds
    # 12 requests of 10 by a rate of 4 x 5.
    assert told == [12, 6.0, 2.0]


def test_what_the_servers_queue_refused_is_offered_and_refused_and_what_left_it_is_offered():
    ledger, meter = SignalLedger(), WorkMeter()
    meter.offer(10)
    look(ledger, meter, 1.0, front=FrontQueue())
    signals = look(ledger, meter, 1.0, front=FrontQueue(refused=3, gone=2))
    assert (signals.offered_seconds, signals.rejected_seconds) == (50.0, 30.0)
    assert look(ledger, meter, 1.0, front=FrontQueue(refused=3, gone=2)).offered_seconds == 0.0


def test_a_queue_that_is_not_asked_is_empty():
    ledger, meter = SignalLedger(), WorkMeter()
    meter.offer(10)
    assert look(ledger, meter, 1.0, front=FrontQueue(waiting=5)).queue_depth == 5
    assert look(ledger, meter, 1.0, front=None).queue_depth == 0


def test_over_a_random_day_the_sum_of_looks_is_what_was_offered():
    """Requests wait before the server, are handed over or refused; looks come at any time."""
    chance = random.Random(17)
    ledger, meter = SignalLedger(), WorkMeter()
    ahead = refused = 0
    told = told_refused = 0.0
    for _ in range(3000):
        act = chance.random()
        if act < 0.5:
            ahead += 1
        elif act < 0.6:
            refused += 1
        elif act < 0.95 and ahead:
            ahead -= 1
            meter.offer(8.0)
        else:
            signals = look(ledger, meter, 4.0, front=FrontQueue(waiting=ahead, refused=refused))
            told += signals.offered_seconds
            told_refused += signals.rejected_seconds
    signals = look(ledger, meter, 4.0, front=FrontQueue(waiting=ahead, refused=refused))
    taken = meter.totals().requests
    # Before the first was handed over nobody knew a cost: the very first refusals may be missing.
    assert told + signals.offered_seconds == pytest.approx((taken + ahead + refused) * 8 / 4, rel=0.01)
    assert told_refused + signals.rejected_seconds == pytest.approx(refused * 8 / 4, rel=0.02)


def test_totals_say_all_that_was_counted():
    meter = WorkMeter()
    meter.offer(3, requests=2, is_refused=True)
    meter.wait(0.5, 2)
    assert meter.totals() == WorkTotals(3, 3, 0, 2, 0.5, 2)
