import pytest

from trireme.errors import InvalidInputError
from trireme.gateway.degrade.wants import read_deadlines, read_priority


def test_our_own_header_is_of_the_whole_answer_streamed_or_not():
    found = read_deadlines({"x-trireme-timeout": "2.5"}, 100.0)
    assert found.begin() == found.end(is_stream=True) == found.end(is_stream=False) == 102.5


@pytest.mark.parametrize("name", ["x-stainless-read-timeout", "x-stainless-timeout"])
def test_the_read_timeout_of_an_sdk_bounds_a_stream_until_its_first_byte_alone(name):
    found = read_deadlines({name: "30"}, 100.0)
    assert found.begin() == found.end(is_stream=False) == 130.0
    assert found.end(is_stream=True) is None


def test_of_several_the_shortest_holds():
    headers = {"x-trireme-timeout": "9", "x-stainless-read-timeout": "5", "x-stainless-timeout": "4"}
    found = read_deadlines(headers | {"x-envoy-expected-rq-timeout-ms": "7000"}, 0.0)
    assert (found.begin(), found.end(is_stream=True)) == (4.0, 7.0)


@pytest.mark.parametrize("said", ["", "None", "NOT_GIVEN", "-1", "0", "nan", "inf", "5 s"])
def test_a_hint_that_is_no_number_of_seconds_is_passed_over(said):
    headers = dict.fromkeys(("x-stainless-read-timeout", "x-stainless-timeout"), said)
    assert read_deadlines(headers | {"x-envoy-expected-rq-timeout-ms": said}, 0.0).begin() is None


@pytest.mark.parametrize("said", ["", "soon", "0", "-1", "nan", "inf"])
def test_a_timeout_of_ours_that_is_none_is_refused(said):
    with pytest.raises(InvalidInputError, match="x-trireme-timeout must be seconds above 0") as caught:
        read_deadlines({"x-trireme-timeout": said}, 0.0)
    assert caught.value.param == "x-trireme-timeout"


def test_without_a_header_the_priority_is_the_least_that_is_allowed():
    assert read_priority({}, "high", "normal") == "normal"
    assert read_priority({}, "batch", "high") == "batch"


def test_a_request_may_ask_for_less_than_its_key_allows_and_never_for_more():
    assert read_priority({"x-trireme-priority": "batch"}, "normal") == "batch"
    assert read_priority({"x-trireme-priority": " High "}, "normal") == "normal"
    assert read_priority({"x-trireme-priority": "high"}, "high") == "high"


def test_an_unknown_priority_is_refused():
    with pytest.raises(InvalidInputError, match="one of batch, normal, high, got 'urgent'"):
        read_priority({"x-trireme-priority": "urgent"}, "high")
