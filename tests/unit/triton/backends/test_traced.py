import json
from types import SimpleNamespace

import pytest

from fakes.fake_pb import Logger
from trireme.triton.backends.metrics import ModelMetrics
from trireme.triton.backends.reply import Replies
from trireme.triton.backends.traced import Asked, read_asked
from trireme.triton.wire import BULK_ID

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-00f067aa0ba902b7-{flags}" for flags in ("01", "00"))


def request(name="req_1", **parameters):
    text = json.dumps(parameters) if parameters else ""
    return SimpleNamespace(request_id=lambda: name, parameters=lambda: text)


def test_a_request_is_known_by_tritons_id_and_its_trace():
    assert read_asked(request(trireme_traceparent=SAMPLED)) == Asked("req_1", SAMPLED)
    assert read_asked(request()) == Asked("req_1")


def test_where_tritons_id_is_another_a_parameter_says_whose_it_is():
    found = read_asked(request("0123abcd", trireme_request="req_1", trireme_traceparent=UNSAMPLED))
    assert found == Asked("req_1", UNSAMPLED)


def test_what_a_backend_asks_for_a_request_names_it():
    for asked in (Asked("req_1", SAMPLED), Asked("req_1", SAMPLED, wants_lines=True)):
        assert read_asked(request("0123abcd", **asked.parameters)) == asked


def test_where_spans_are_kept_what_a_backend_asks_for_a_sampled_request_is_its_child():
    asked = read_asked(request(trireme_traceparent=SAMPLED), is_recording=True)
    told = asked.parameters["trireme_traceparent"]
    assert told == f"00-{TRACE}-{asked.span}-01" != SAMPLED
    part = asked.child()
    assert part.parent == told
    assert part.span not in (asked.span, "")
    span = part.ended("embed", "internal", (1, 2))
    assert (span.trace, span.span, span.parent) == (TRACE, part.span, asked.span)


@pytest.mark.parametrize("parent", [UNSAMPLED, "", "nonsense"])
def test_a_request_that_is_not_sampled_is_not_recorded(parent):
    asked = read_asked(request(trireme_traceparent=parent), is_recording=True)
    assert asked.span == ""
    assert asked.child() is asked


@pytest.mark.parametrize("name", ["", BULK_ID, "two words", "line\nbreak", "x" * 129])
def test_an_id_that_names_no_request_or_could_forge_a_line_is_none(name):
    assert read_asked(request(name, trireme_traceparent=SAMPLED)) == Asked()


def test_a_trace_that_is_none_and_parameters_that_are_no_json_are_left_out():
    assert read_asked(request(trireme_traceparent="nonsense")) == Asked("req_1")
    broken = SimpleNamespace(request_id=lambda: "req_1", parameters=lambda: "{trireme_traceparent")
    assert read_asked(broken) == Asked("req_1")


def test_a_request_without_an_id_and_one_of_no_text_are_nobodys():
    def undecodable():
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid")

    assert read_asked(object()) == Asked()
    assert read_asked(SimpleNamespace(request_id=undecodable, parameters=lambda: "")) == Asked()


@pytest.mark.parametrize(
    ("asked", "outcome", "is_long", "is_told"),
    [
        (Asked("req_1", SAMPLED, wants_lines=True), "ok", False, True),
        (Asked("req_1", SAMPLED), "ok", False, False),
        (Asked("req_1", UNSAMPLED), "ok", False, False),
        (Asked("req_1", UNSAMPLED), "UNAVAILABLE", False, True),
        (Asked("req_1"), "stop", True, True),
        (Asked(), "INTERNAL", True, False),
    ],
)
def test_what_failed_what_wants_a_line_and_what_took_seconds_has_a_line(pb, asked, outcome, is_long, is_told):
    replies = Replies(pb, "m", ModelMetrics(pb, "m"), lambda seconds: None)
    replies.note(asked, outcome, 0.25, is_long=is_long)
    trace = f" trace {TRACE}" if asked.parent else ""
    assert Logger.infos == ([f"request req_1{trace} model m: {outcome}, 0.2500 s"] if is_told else [])
