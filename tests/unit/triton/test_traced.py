import pytest

from trireme.observe.trace import CURRENT, TRACE_PARAMETER, begin_trace, read_parent
from trireme.triton.traced import CANCEL_ID, note_trace
from trireme.triton.wire import BULK_ID, client_error, infer_request, stream_request

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def within():
    """Within a request of this id."""
    tokens = []

    def begin(request):
        tokens.append(CURRENT.set(begin_trace(request, f"00-{TRACE}-00f067aa0ba902b7-01")))

    yield begin
    for token in reversed(tokens):
        CURRENT.reset(token)


def test_a_request_to_a_model_has_the_id_and_the_trace_of_the_task(within):
    within("req_7")
    request = infer_request("embedding", {"text": [["a"]]})
    ((key, parent),) = note_trace(request)
    assert (request.id, key) == ("req_7", "traceparent")
    assert request.parameters[TRACE_PARAMETER].string_param == parent
    assert read_parent(parent) == (TRACE, True)


def test_outside_of_a_request_nothing_is_changed():
    request = infer_request("embedding", {"text": [["a"]]})
    before = request.SerializeToString()
    assert note_trace(request) == ()
    assert request.SerializeToString() == before


@pytest.mark.parametrize("reserved", [BULK_ID, CANCEL_ID])
def test_an_id_that_means_something_to_backends_is_not_taken_from_a_client(within, reserved):
    within(reserved)
    request = stream_request("llm", {"text_input": "a"})
    note_trace(request)
    assert request.id == ""


def test_an_id_that_a_request_has_stays(within):
    within("req_7")
    request = infer_request("embedding", {"text": [["a"]]}, bulk=True)
    note_trace(request)
    assert request.id == BULK_ID


@pytest.mark.parametrize("name", ["<id_unknown>", "bulk", "req_7.a-B"])
def test_an_error_of_triton_is_told_without_the_id(name):
    error = client_error("INVALID_ARGUMENT", f"[request id: {name}] expected 1 inputs", "host:1")
    assert str(error) == "expected 1 inputs"


def test_a_text_in_brackets_within_an_error_stays():
    error = client_error("INVALID_ARGUMENT", "not [request id: a] b", "host:1")
    assert str(error) == "not [request id: a] b"
