import threading

from trireme.cost.rounds import Rounds
from trireme.errors import UnavailableError


def test_a_round_runs_at_the_start_and_at_the_end_however_long_the_pause():
    ran = []
    began = threading.Event()
    rounds = Rounds([lambda: ran.append(1), began.set], seconds=3600.0)
    rounds.start()
    # Its thread may come late, and find its end there already.
    assert began.wait(60)
    rounds.close()
    rounds.close()
    assert len(ran) == 2


def test_rounds_go_on_and_a_step_that_fails_stops_neither_the_others_nor_the_next():
    done = threading.Event()
    ran = []

    def away():
        raise UnavailableError("the database does not answer")

    def broken():
        raise ZeroDivisionError

    def count():
        ran.append(1)
        if len(ran) == 3:
            done.set()

    rounds = Rounds([away, broken, count], seconds=0.001)
    rounds.start()
    assert done.wait(60)
    rounds.close()


def test_rounds_that_never_began_can_be_closed():
    Rounds([]).close()
