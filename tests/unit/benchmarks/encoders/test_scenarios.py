import dataclasses
from pathlib import Path

import pytest

from benchmarks.encoders.bars import MIXED, SHORT_ALONE
from benchmarks.encoders.contenders import Load, Sample, Task
from benchmarks.encoders.results import OURS, OURS_IN_PROCESS, Point
from benchmarks.encoders.scenarios import FULL, SMOKE, Runner, Scenario, list_poisson, list_scenarios
from trireme.errors import UnavailableError


@pytest.fixture(autouse=True)
def others(monkeypatch):
    """Seconds that others used so far; nobody else is at work unless a test says so."""
    seconds = [0.0]
    monkeypatch.setattr("benchmarks.encoders.scenarios.read_others_time", lambda _: seconds[0])
    return seconds


TASKS = {name: Task(name, Path("x"), {}, {}) for name in "abc"}


class FakeContender:
    """Remembers what it was asked, and fails from the given call on."""

    what = "a fake"

    def __init__(self, name, log, fails_at=99):
        self.name, self.log, self.calls, self.fails_at = name, log, 0, fails_at

    def measure(self, task, load, seconds):
        self.calls += 1
        if self.calls >= self.fails_at:
            raise UnavailableError("it broke")
        self.log.append((self.name, task.name, load))
        return Sample(9, 10.0 * self.calls, 0.0, 1.0, 2.0, 3.0, 4.0)

    def pause(self, paused):
        self.log.append((self.name, "paused" if paused else "runs"))


def make_runner(log, plan=FULL, **fails):
    names = (OURS, "rival", OURS_IN_PROCESS)
    there = {name: FakeContender(name, log, fails.get(name, 99)) for name in names}
    return Runner(there, TASKS, plan, lambda _: None)


SCENARIO = Scenario("c, 32", "c", Load(32), (OURS, "rival", OURS_IN_PROCESS, "absent"), call=64, seconds=1.0)


def test_contenders_are_measured_in_turn_and_another_one_begins_each_round():
    log = []
    runner = make_runner(log)
    runner.run([SCENARIO])
    measured = [entry[0] for entry in log if len(entry) == 3]
    assert measured[0:3] == [OURS, "rival", OURS_IN_PROCESS]
    assert measured[3:6] == ["rival", OURS_IN_PROCESS, OURS]
    assert [(p.contender, p.round) for p in runner.points if p.contender == OURS] == [
        (OURS, i) for i in range(3)
    ]


def test_only_the_measured_one_runs():
    log = []
    make_runner(log).run([SCENARIO])
    running = 0
    for entry in log:
        running += {"runs": 1, "paused": -1}.get(entry[1], 0)
        assert running <= 1
    assert running == 0


def test_servers_get_requests_and_libraries_get_calls():
    log = []
    make_runner(log).run([SCENARIO])
    loads = {entry[0]: entry[2] for entry in log if len(entry) == 3}
    assert loads == {OURS: Load(32), "rival": Load(32), OURS_IN_PROCESS: Load(1, 64)}


def test_one_that_fails_is_noted_and_the_others_go_on():
    runner = make_runner([], rival=2)
    runner.run([SCENARIO])
    assert [(f.contender, f.scenario, f.error) for f in runner.failures] == [("rival", "c, 32", "it broke")]
    assert len([p for p in runner.points if p.contender == OURS]) == 3
    assert len([p for p in runner.points if p.contender == "rival"]) == 1


def test_a_disturbed_run_is_made_once_more_and_the_calmer_one_counts(others):
    log = []
    runner = make_runner(log)
    rival = runner._contenders["rival"]
    calm = rival.measure

    def disturbed(task, load, seconds):
        # Each further run is disturbed less, by far more than two runs' lengths may differ.
        others[0] += 1e12 / 100.0**rival.calls
        return calm(task, load, seconds)

    rival.measure = disturbed
    runner.run([SCENARIO])
    assert rival.calls == 6
    assert [p.sample.texts_per_s for p in runner.points if p.contender == "rival"] == [20.0, 40.0, 60.0]
    assert {p.other_cores for p in runner.points if p.contender == OURS} == {0.0}


def test_what_the_time_does_not_suffice_for_is_named():
    runner = make_runner([], plan=dataclasses.replace(FULL, budget_s=-1.0))
    runner.run([SCENARIO])
    assert runner.points == []
    assert runner.left_out == ["c, 32"]


def test_random_arrivals_come_at_seventy_percent_of_the_most():
    def point(task, load, rate):
        return Point("s", task, OURS, load, 0, Sample(1, rate, 0.0, 1.0, 1.0, 1.0, 1.0))

    points = [point("c", Load(32), 100.0), point("c", Load(128), 90.0), point("c", Load(4, 32), 500.0)]
    [found] = list_poisson(FULL, points)
    assert (found.name, found.task, found.load.rate) == ("c, Poisson at 70 %", "c", pytest.approx(70.0))


def test_the_smoke_plan_is_short_and_the_full_one_has_every_load():
    assert {one.name for one in list_scenarios(SMOKE)} == set(SMOKE.scenarios)
    assert {one.seconds for one in list_scenarios(SMOKE)} == {SMOKE.seconds}
    names = [one.name for one in list_scenarios(FULL)]
    assert len(names) == len(set(names))
    assert names[0] == MIXED
    assert {f"c, {count} in flight" for count in (1, 8, 32, 128)} <= set(names)
    assert SHORT_ALONE in names
