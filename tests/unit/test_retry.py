"""What failed is called again, on a clock that the test moves."""

import pytest

from trireme.errors import TriremeError, UnavailableError
from trireme.retry import Pauses, retry


class Clock:
    """Time that passes only where somebody waits; `waits` has each wait."""

    def __init__(self):
        self.waits = []

    def __call__(self):
        return sum(self.waits)

    def wait(self, seconds):
        self.waits.append(seconds)


class Flaky:
    """Raises the errors one after the other, then returns "done"."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.fixture
def clock():
    return Clock()


def away(count):
    return Flaky(*(UnavailableError(f"away {n}") for n in range(count)))


def test_what_works_at_once_is_called_once_and_nobody_waits(clock):
    act = away(0)
    assert retry(act, UnavailableError, Pauses(1.0), clock.wait, clock=clock) == "done"
    assert (act.calls, clock.waits) == (1, [])


def test_pauses_double_up_to_the_longest(clock):
    assert retry(away(5), UnavailableError, Pauses(0.5, 3.0), clock.wait, clock=clock) == "done"
    assert clock.waits == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_each_failure_that_is_waited_for_is_noticed(clock):
    noticed = []
    retry(away(2), UnavailableError, Pauses(1.0), clock.wait, noticed.append, clock=clock)
    assert [str(error) for error in noticed] == ["away 0", "away 1"]


def test_the_last_error_is_raised_before_a_wait_that_would_go_beyond_the_patience(clock):
    noticed = []
    with pytest.raises(UnavailableError, match="away 3"):
        retry(away(9), UnavailableError, Pauses(1.0, 4.0, 10.0), clock.wait, noticed.append, clock=clock)
    assert clock.waits == [1.0, 2.0, 4.0]
    assert len(noticed) == 3


def test_the_error_of_the_last_attempt_is_raised(clock):
    act = away(9)
    with pytest.raises(UnavailableError, match="away 2"):
        retry(act, UnavailableError, Pauses(attempts=3), clock.wait, clock=clock)
    assert (act.calls, clock.waits) == (3, [0.0, 0.0])


def test_other_errors_are_raised_at_once(clock):
    act = Flaky(UnavailableError("away"), TriremeError("broken"))
    with pytest.raises(TriremeError, match="broken"):
        retry(act, UnavailableError, Pauses(1.0), clock.wait, clock=clock)
    assert act.calls == 2


def test_a_wait_that_raises_ends_the_attempts(clock):
    def stop(seconds):
        raise KeyboardInterrupt

    act = away(9)
    with pytest.raises(KeyboardInterrupt):
        retry(act, UnavailableError, Pauses(1.0), stop, clock=clock)
    assert act.calls == 1
