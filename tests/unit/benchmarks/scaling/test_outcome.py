import pytest

from benchmarks.scaling.fleet import Served, Timing
from benchmarks.scaling.load import Load, Request
from benchmarks.scaling.outcome import (
    compare,
    count_turns,
    count_turns_by_step,
    cut_blocks,
    judge,
    pick_initial,
    replay,
)
from benchmarks.scaling.policies import fix, ours
from fakes.scaling import ONE


def test_a_turn_is_a_move_against_the_last_one():
    assert count_turns([(0, 1), (15, 3), (30, 5), (45, 4), (60, 4), (75, 2), (90, 6)]) == 2
    assert count_turns([(0, 1), (15, 3)]) == 0


def test_turns_are_counted_within_each_step():
    counts = [(0, 2), (110, 5), (200, 4), (310, 2), (320, 3), (330, 2)]
    # After the step at 100: up, down. After the one at 300: down, up, down.
    assert count_turns_by_step(counts, (100.0, 300.0)) == 2
    assert count_turns_by_step(counts[:4], (100.0, 300.0)) == 1


def load(count, seconds, judged_from=0.0):
    times = [seconds * k / count for k in range(count)]
    return Load("made up", tuple(Request(at, 10, 0) for at in times), seconds, (), judged_from)


def test_blocks_hold_every_late_answer_and_every_second_that_is_paid():
    one = load(1200, 1200)
    waits = tuple(3.0 if 100 <= at < 350 else 0.0 for at in range(1200))
    served = Served(waits, ((0.0, 1),), ((0.0, 1300.0), (90.0, 130.0)), 1300.0, ())
    late, paid = cut_blocks(one, served)
    assert sum(late) == 250 and late[:3] == (0, 20, 60)
    # Twenty minutes are cut by the minute; what comes after them is the last block's.
    assert len(paid) == 20 and paid[1:3] == (90.0, 70.0) and paid[-1] == 160.0
    assert sum(paid) == 1340


def test_what_comes_before_the_judged_part_counts_in_nothing():
    one = load(1200, 1200, judged_from=600.0)
    waits = tuple(3.0 if at < 650 else 0.0 for at in range(1200))
    served = Served(waits, ((0.0, 1), (500.0, 9), (700.0, 2)), ((0.0, 1200.0), (500.0, 700.0)), 1200.0, ())
    found = judge(fix(1), ONE, one, served, 3.6)
    assert (found.requests, found.late) == (600, pytest.approx(50 / 600))
    assert found.replica_s == 700 and found.cost == pytest.approx(0.7)
    # What was wanted at the beginning of the part is its first count.
    assert found.peak == 9


def test_a_replay_is_the_same_each_time_and_costs_what_its_replicas_live():
    one = load(900, 600)
    first, served = replay(ours(), ONE, one, Timing(), 3.6)
    assert replay(ours(), ONE, one, Timing(), 3.6)[0] == first
    assert first.replica_s == pytest.approx(sum(ends - begins for begins, ends in served.lives), abs=1)
    # 1.5 seconds of work a second.
    assert pick_initial(ONE, one) == 2
    assert first.work_share == pytest.approx(900 / first.replica_s, rel=1e-3)


def test_a_ratio_of_blocks_that_are_alike_has_no_interval():
    found = compare([2, 4, 6], [4, 8, 12], 1)
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_a_ratio_has_an_interval_around_it():
    found = compare([0, 9, 1, 2, 0, 8], [5, 5, 5, 5, 5, 5], 1)
    assert found.low < found.mean < found.high
    assert compare([1.0], [0.0], 1).mean is None
    assert compare([0.0], [0.0], 1).mean == 0
