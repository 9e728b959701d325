"""A rolling restart over replicas that a person can predict: the order of its steps, and what stops it."""

import threading

import pytest

from trireme.agent.drain import DrainReport
from trireme.errors import UnavailableError
from trireme.fleet.roll import Roll, RollTiming

IMPATIENT = RollTiming(seen=0.0, others=0.0, back=0.0)


class Fake:
    """One replica; `told` has what was done with all of them, in order."""

    def __init__(self, name, told):
        self.name, self.key, self.told = name, (f"127.0.0.1{name}", 8003), told
        self.is_held, self.report, self.comes_back, self.seen = False, DrainReport(True, 1.0, False), True, ""
        self.failure = None

    def tell(self, what):
        self.told.append(f"{what} {self.name}")

    def hold(self):
        self.is_held = True
        self.tell("hold")

    def let_go(self):
        self.is_held = False
        self.tell("let go")

    def drain(self, seconds):
        assert self.is_held
        self.tell("drain")
        if isinstance(self.report, Exception):
            raise self.report
        return self.report

    def start_anew(self):
        assert self.is_held
        self.tell("start")
        if self.failure:
            raise self.failure

    def forget_drain(self):
        self.tell("forget")

    def has_come_back(self):
        return self.comes_back

    def is_ready(self):
        return not self.is_held


@pytest.fixture
def told():
    return []


@pytest.fixture
def replicas(told):
    return [Fake("1", told), Fake("2", told)]


def roll_of(replicas, told, chosen=None, timing=IMPATIENT):
    """A restart, which has ended or is waiting where `timing` lets it."""
    notices = []
    roll = Roll(
        replicas,
        replicas if chosen is None else chosen,
        lambda: {one.key: one.seen or ("draining" if one.is_held else "healthy") for one in replicas},
        drain_seconds=7,
        publish=lambda: told.append("publish"),
        notice=notices.append,
        timing=timing,
    )
    roll.notices = notices
    return roll


def steps(name):
    return [f"hold {name}", "publish", f"drain {name}", f"start {name}", f"let go {name}", "publish"]


def test_replicas_are_restarted_one_after_the_other(replicas, told):
    roll = roll_of(replicas, told)
    roll.run()
    assert told == [*steps("1"), *steps("2")]
    assert (roll.state.outcome, roll.state.restarted) == ("done", ("1", "2"))
    assert [notice[:23] for notice in roll.notices] == ["Replica 1 was restarted", "Replica 2 was restarted"]


def test_only_those_that_are_chosen_are_restarted(replicas, told):
    roll_of(replicas, told, chosen=replicas[1:]).run()
    assert told == steps("2")


def test_none_leaves_while_another_is_not_ready(replicas, told):
    replicas[1].seen = "unhealthy"
    roll = roll_of(replicas, told)
    roll.run()
    assert told == []
    assert roll.state.error == "replica 2 is not ready, so replica 1 was not restarted"


def test_a_server_is_not_ended_before_envoy_has_seen_that_it_is_draining(replicas, told):
    replicas[0].seen = "healthy"
    roll = roll_of(replicas, told)
    roll.run()
    assert told == ["hold 1", "publish", "let go 1", "publish"]
    assert "Envoy does not say" in roll.state.error


def test_calls_that_do_not_end_are_not_cut_off(replicas, told):
    replicas[0].report = DrainReport(False, 7.0, False, pending=1, waiting=1, running=2)
    roll = roll_of(replicas, told)
    roll.run()
    assert "start 1" not in told
    assert told[-3:] == ["forget 1", "let go 1", "publish"]
    assert "replica 1: 4 calls had not ended after 7 s" in roll.state.error
    assert "--drain-seconds" in roll.state.error


def test_an_agent_that_does_not_answer_stops_it(replicas, told):
    replicas[0].report = UnavailableError("no agent answers")
    roll = roll_of(replicas, told)
    roll.run()
    assert "start 1" not in told
    assert roll.state.error == "replica 1: no agent answers"


@pytest.mark.parametrize("how", ["is slow", "ends"])
def test_a_replica_that_does_not_come_back_stops_it_and_the_others_are_left_alone(replicas, told, how):
    if how == "ends":
        replicas[0].failure = UnavailableError("tritonserver stopped while starting: no weights")
    else:
        replicas[0].comes_back = False
    roll = roll_of(replicas, told)
    roll.run()
    assert (roll.state.outcome, roll.state.restarted) == ("failed", ())
    assert ("no weights" if how == "ends" else "was not ready 0 s after its start") in roll.state.error
    # Whoever looks after it goes on trying.
    assert told[-2:] == ["let go 1", "publish"]
    assert not any("2" in one for one in told)
    assert roll.notices == [f"The restart stopped: {roll.state.error}."]


def test_it_ends_soon_when_the_fleet_is_stopped(replicas, told):
    reached, release = threading.Event(), threading.Event()

    def drain(seconds):
        reached.set()
        release.wait(60)
        return DrainReport(True, 1.0, False)

    replicas[0].drain = drain
    roll = roll_of(replicas, told, timing=RollTiming())
    roll.start()
    assert reached.wait(60)
    roll.cancel()
    roll.join(60)
    release.set()
    assert not roll.is_alive()
    assert "start 1" not in told
    assert roll.state.error == "replica 1: the stack was stopped"
    assert roll.notices == []
