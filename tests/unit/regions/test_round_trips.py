import pytest

from trireme.regions.round_trips import RoundTrips


def heard(*seconds, window=5, misses=3):
    trips = RoundTrips(window, misses)
    for one in seconds:
        trips.hear(one)
    return trips


def test_the_median_is_that_of_the_recent_probes():
    assert heard(9, 9, 9, 1, 2, 3, 4, 5).median == 3
    # One that was sent again by TCP says little of the way.
    assert heard(1, 1, 1, 1, 200).median == 1


def test_too_few_answers_say_nothing():
    assert heard().median is None
    assert heard(1, 1).median is None
    assert heard(1, None, 1, None, 1).median == 1
    assert heard(1, window=1).median == 1


def test_a_region_is_silent_after_so_many_probes_without_an_answer_in_a_row():
    assert not heard(1, 1, 1, None, None).is_silent
    assert heard(1, 1, 1, None, None, None).is_silent
    assert not heard(None, None, 1, None, None).is_silent


def test_what_was_known_of_the_way_is_forgotten_while_a_region_is_silent():
    trips = heard(9, 9, 9, None, None, None)
    assert trips.median is None
    assert not trips.has_answered
    for _ in range(2):
        trips.hear(1)
    assert trips.has_answered
    assert trips.median is None
    trips.hear(1)
    assert trips.median == 1


@pytest.mark.parametrize("answers", [(), (None,)])
def test_a_region_that_was_never_heard_has_not_answered(answers):
    assert not heard(*answers).has_answered
