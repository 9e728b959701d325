"""What the agent believes of its server, look by look, on a clock that the tests move."""

import pytest

from trireme.agent.options import AgentOptions
from trireme.agent.replica import Replica
from trireme.triton.load import Load
from trireme.triton.probe import ServerLook

OPTIONS = AgentOptions(poll=0.5, misses=2, canary=10.0, hung=30.0)
AWAY = ServerLook("server_away", "no server answers")
SILENT = ServerLook("server_silent", "the server does not answer in time")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def replica(clock):
    return Replica(OPTIONS, clock)


def load(*, pending=0, waiting=0, running=0, answered=0.0):
    return Load(pending, waiting, running, answered, 0.0, {}, is_measured=False)


def looked(*models, not_ready=(), loads=(), answered=(), has=None):
    return ServerLook(
        models=models,
        not_ready=dict.fromkeys(not_ready, "it is LOADING"),
        loads={model: (name,) for model, name in loads},
        answered=dict(answered),
        load=has or load(),
    )


def warm(replica, *models):
    replica.see(looked(*models))
    for model, turn in replica.due():
        replica.hear(model, turn, "answered")


def kinds(replica):
    return [fault.kind for fault in replica.faults()]


def test_a_server_that_was_not_asked_yet_is_not_ready(replica):
    assert kinds(replica) == ["starting"]


def test_a_model_is_cold_until_it_has_answered_once(replica):
    replica.see(looked("a", "b"))
    assert kinds(replica) == ["model_cold", "model_cold"]
    due = dict(replica.due())
    assert set(due) == {"a", "b"}
    replica.hear("a", due["a"], "answered")
    assert [fault.model for fault in replica.faults()] == ["b"]
    replica.hear("b", due["b"], "answered")
    assert replica.is_ready


def test_a_question_that_is_out_is_not_sent_twice_and_the_next_one_waits(replica, clock):
    replica.see(looked("a"))
    [(model, turn)] = replica.due()
    assert replica.due() == []
    replica.hear(model, turn, "answered")
    assert replica.due() == []
    clock.now += OPTIONS.canary
    assert [model for model, _ in replica.due()] == ["a"]


def test_a_server_without_models_is_not_ready(replica):
    replica.see(looked())
    assert kinds(replica) == ["no_models"]


def test_a_refused_connection_is_believed_at_once_and_silence_the_second_time(replica):
    warm(replica, "a")
    replica.see(SILENT)
    assert replica.is_ready
    replica.see(SILENT)
    assert kinds(replica) == ["server_silent"]
    warm(replica, "a")
    assert replica.is_ready
    replica.see(AWAY)
    assert kinds(replica) == ["server_away"]


def test_two_silences_with_an_answer_between_them_are_none(replica):
    warm(replica, "a")
    for look in (SILENT, looked("a"), SILENT):
        replica.see(look)
    assert replica.is_ready


def test_a_server_that_comes_back_has_to_answer_again(replica):
    warm(replica, "a")
    replica.see(AWAY)
    replica.see(looked("a"))
    assert kinds(replica) == ["model_cold"]


def test_a_model_that_is_loaded_anew_has_to_answer_again_and_old_answers_do_not_count(replica, clock):
    warm(replica, "a")
    replica.see(looked("a", loads=[("a", "first")]))
    clock.now += OPTIONS.canary
    [(model, turn)] = replica.due()
    replica.see(looked("a", loads=[("a", "second")]))
    replica.hear(model, turn, "answered")
    assert kinds(replica) == ["model_cold"]
    warm(replica, "a")
    assert replica.is_ready


def test_a_model_that_is_not_ready_says_why_and_is_not_asked(replica):
    warm(replica, "a", "b")
    replica.see(looked("a", "b", not_ready=["b"]))
    [fault] = replica.faults()
    assert (fault.kind, fault.model) == ("model_not_ready", "b")
    assert "LOADING" in fault.text
    assert replica.due() == []
    # It was away: it has to answer again.
    replica.see(looked("a", "b"))
    assert kinds(replica) == ["model_cold"]


def test_a_model_that_answers_nobody_is_silent_and_one_that_answers_others_is_busy(replica, clock):
    warm(replica, "a", "b")
    clock.now += OPTIONS.canary
    replica.see(looked("a", "b", answered={"a": 1, "b": 1}))
    due = dict(replica.due())
    clock.now += OPTIONS.hung
    replica.see(looked("a", "b", answered={"a": 1, "b": 5}))
    for model, turn in due.items():
        replica.hear(model, turn, "owed")
    assert [(fault.kind, fault.model) for fault in replica.faults()] == [("model_silent", "a")]
    # It is asked again at once, and one answer is enough.
    [(model, turn)] = replica.due()
    assert model == "a"
    # The first question is over: its late answer is of no turn.
    replica.hear("a", due["a"], "answered")
    assert kinds(replica) == ["model_silent"]
    replica.hear(model, turn, "answered")
    assert replica.is_ready


def test_a_mark_is_there_for_good_and_nothing_is_asked_any_more(replica, clock):
    warm(replica, "a")
    replica.mark()
    first = replica.marked_at
    clock.now += 60
    replica.mark()
    replica.see(looked("a"))
    assert kinds(replica) == ["draining"]
    assert replica.marked_at == first
    assert replica.due() == []


def test_quiet_is_counted_from_the_look_that_first_saw_no_change(replica, clock):
    replica.see(looked("a", has=load(pending=1, answered=3)))
    clock.now += 1
    replica.see(looked("a", has=load(answered=4)))
    clock.now += 1
    # One ended meanwhile: it was not quiet then.
    assert replica.quiet_seconds() == 0.0
    replica.see(looked("a", has=load(answered=4)))
    clock.now += 1
    assert replica.quiet_seconds() == 1.0
    replica.see(looked("a", has=load(running=1, answered=4)))
    assert replica.quiet_seconds() == 0.0


def test_a_server_that_is_gone_is_quiet_and_has_no_load(replica, clock):
    replica.see(looked("a", has=load(running=3)))
    replica.see(AWAY)
    clock.now += 2
    replica.see(AWAY)
    assert replica.load is None
    assert replica.quiet_seconds() == 2.0


def test_of_a_silent_server_the_last_load_holds(replica, clock):
    replica.see(looked("a", has=load(running=3)))
    for _ in range(3):
        replica.see(SILENT)
        clock.now += 1
    assert replica.load.running == 3
    assert replica.quiet_seconds() == 0.0


def test_looks_are_counted_by_what_they_found_and_faults_have_a_time(replica):
    for look in (SILENT, AWAY, looked("a")):
        replica.see(look)
    assert replica.polls == {"server_silent": 1, "server_away": 1, "ok": 1}
    assert {"server_away", "model_cold"} <= set(replica.faulty_at)
    assert replica.faulty_at["model_cold"] == replica.polled_at


def test_a_model_whose_process_ended_is_gone_until_it_answers(replica, clock):
    warm(replica, "a")
    clock.now += OPTIONS.canary
    [(model, turn)] = replica.due()
    replica.hear(model, turn, "gone")
    assert kinds(replica) == ["model_gone"]
    [(model, turn)] = replica.due()
    replica.hear(model, turn, "answered")
    assert replica.is_ready


def test_a_model_whose_process_ended_is_not_believed_when_its_server_breaks_off_the_question(replica, clock):
    warm(replica, "a")
    clock.now += OPTIONS.canary
    [(model, turn)] = replica.due()
    replica.hear(model, turn, "gone")
    [(model, turn)] = replica.due()
    # As a question ends whose server is killed, before a look has seen that it is away.
    replica.hear(model, turn, "owed")
    assert kinds(replica) == ["model_gone"]
    [(model, turn)] = replica.due()
    replica.see(looked("a", answered={"a": 1.0}))
    replica.hear(model, turn, "owed")
    assert replica.is_ready, "it answered others meanwhile"
