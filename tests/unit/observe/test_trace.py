import pytest

from trireme.observe.trace import CURRENT, begin_trace, call_headers, is_id, read_parent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", (TRACE, True)),
        (f"00-{TRACE}-{SPAN}-00", (TRACE, False)),
        (f" 00-{TRACE}-{SPAN}-03 ", (TRACE, True)),
        # A later version may have more behind the four parts that are known.
        (f"cc-{TRACE}-{SPAN}-01", (TRACE, True)),
        (f"cc-{TRACE}-{SPAN}-01-what-comes", (TRACE, True)),
    ],
)
def test_a_traceparent_is_read_as_w3c_says(text, expected):
    assert read_parent(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no trace",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"cc-{TRACE}-{SPAN}-01-" + "x" * 600,
    ],
)
def test_what_is_no_traceparent_begins_a_trace(text):
    assert read_parent(text) is None
    trace = begin_trace("req_1", text)
    assert read_parent(trace.child()) == (trace.trace, False)


def test_each_call_is_a_span_of_its_own_of_the_callers_trace():
    trace = begin_trace("req_1", f"00-{TRACE}-{SPAN}-01")
    calls = {trace.child() for _ in range(10)}
    assert len(calls) == 10
    assert all(read_parent(call) == (TRACE, True) for call in calls)
    assert not any(SPAN in call for call in calls)


def test_headers_are_those_of_the_running_task_and_none_outside_of_a_request():
    assert call_headers() == {}
    trace = begin_trace("req_1", f"00-{TRACE}-{SPAN}-01")
    token = CURRENT.set(trace)
    try:
        headers = call_headers()
    finally:
        CURRENT.reset(token)
    assert headers["x-request-id"] == "req_1"
    assert read_parent(headers["traceparent"]) == (TRACE, True)


@pytest.mark.parametrize(
    ("text", "expected"), [("req_1.a-B", True), ("", False), ("a b", False), ("a\n", False)]
)
def test_an_id_is_letters_digits_and_few_signs(text, expected):
    assert is_id(text) == expected
