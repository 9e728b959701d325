"""When a store is left alone."""

from fakes.providers import Clock
from trireme.cache.rest import MOST_LATE, REST_SECONDS, Rest
from trireme.errors import UnavailableError


def test_a_store_that_is_away_is_left_alone_at_once_and_for_so_long():
    clock = Clock()
    rest = Rest(clock=clock)
    assert not rest.is_on()
    rest.note_failure(UnavailableError("away"))
    assert rest.is_on()
    clock.move(REST_SECONDS)
    assert not rest.is_on()


def test_a_store_that_is_late_is_left_alone_after_several_times_in_a_row():
    rest = Rest(clock=Clock())
    for _ in range(5):
        for _ in range(MOST_LATE - 1):
            rest.note_failure(TimeoutError())
        assert not rest.is_on()
        rest.note_answer()
    for _ in range(MOST_LATE):
        rest.note_failure(TimeoutError())
    assert rest.is_on()
