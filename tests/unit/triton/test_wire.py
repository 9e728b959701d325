import numpy as np
import pytest
from tritonclient.grpc import InferInput, service_pb2

from trireme.errors import (
    DeadlineError,
    InvalidInputError,
    NotFoundError,
    PromptTooLongError,
    TriremeError,
    UnavailableError,
)
from trireme.triton.wire import (
    NoServerError,
    client_error,
    infer_request,
    is_final,
    outputs_of,
    read_code,
    route_of,
    step_error,
    stream_request,
    write_code,
)


@pytest.mark.parametrize(
    ("value", "datatype", "kind"),
    [
        ("trirème", "BYTES", object),
        (True, "BOOL", np.bool_),
        (-7, "INT32", np.int32),
        (0.5, "FP32", np.float32),
    ],
)
def test_a_value_is_encoded_as_tritonclient_does(value, datatype, kind):
    theirs = InferInput("x", [1], datatype)
    theirs.set_data_from_numpy(np.array([value.encode() if isinstance(value, str) else value], dtype=kind))
    request = stream_request("llm", {"x": value}, "key", {"cancel": "other"})
    assert request.inputs[0] == theirs._get_tensor()
    assert request.raw_input_contents[0] == theirs._get_content()
    assert (request.model_name, request.id) == ("llm", "key")
    assert request.parameters["cancel"].string_param == "other"
    assert request.parameters["triton_enable_empty_final_response"].bool_param


def test_a_response_is_read_back():
    response = service_pb2.ModelInferResponse()
    assert not is_final(response)
    response.parameters["triton_final_response"].bool_param = True
    assert is_final(response)
    assert outputs_of(response) == {}
    response.outputs.add(name="n", datatype="UINT32", shape=[1])
    response.raw_output_contents.append(b"\x07\0\0\0")
    assert outputs_of(response)["n"].tolist() == [7]


def test_a_code_that_was_written_is_read_again():
    assert read_code(write_code(NotFoundError("no collection 'x'"))) == ("NOT_FOUND", "", "no collection 'x'")


@pytest.mark.parametrize(
    "message, code, text",
    [
        (
            "in ensemble 'search', [INVALID_ARG] text is empty",
            "INVALID_ARG",
            "in ensemble 'search', text is empty",
        ),
        ("unexpected shape for input 'text'", "", "unexpected shape for input 'text'"),
        ("[REQUEST] of somebody", "", "[REQUEST] of somebody"),
        ("text is [INVALID_ARG] in the middle", "", "text is [INVALID_ARG] in the middle"),
    ],
)
def test_only_a_code_in_front_or_behind_the_ensemble_is_one(message, code, text):
    assert read_code(message) == (code, "", text)


def test_a_reason_stands_behind_the_code_and_comes_back_as_its_error():
    text = write_code(PromptTooLongError("99 tokens"))
    assert text == "[INVALID_ARG] [PROMPT_TOO_LONG] 99 tokens"
    assert read_code(text) == ("INVALID_ARG", "PROMPT_TOO_LONG", "99 tokens")
    error = step_error("llm", text)
    assert (type(error), str(error)) == (PromptTooLongError, "model llm: 99 tokens")


@pytest.mark.parametrize(
    ("rows", "datatype"), [([["a", "ü"], ["", "b"]], "BYTES"), ([[1], [2]], "INT32"), ([[0.5, 1.0]], "FP32")]
)
def test_rows_are_encoded_as_tritonclient_does(rows, datatype):
    kinds = {"BYTES": object, "INT32": np.int32, "FP32": np.float32}
    plain = [[v.encode() if isinstance(v, str) else v for v in row] for row in rows]
    theirs = InferInput("x", [len(rows), len(rows[0])], datatype)
    theirs.set_data_from_numpy(np.array(plain, dtype=kinds[datatype]).reshape(len(rows), -1))
    request = infer_request("embedding", {"x": rows})
    assert request.inputs[0] == theirs._get_tensor()
    assert request.raw_input_contents[0] == theirs._get_content()


def test_parameters_go_beside_the_tensors_of_both_kinds_of_requests():
    given = {"trireme_user": "trirème", "count_tokens": True, "half": "a\ud800b"}
    for request in (
        infer_request("m", {"x": [[1]]}, parameters=given),
        stream_request("m", {"x": 1}, parameters=given),
    ):
        assert request.parameters["trireme_user"].string_param == "trirème"
        assert request.parameters["count_tokens"].bool_param
        assert request.parameters["half"].string_param == "a?b"


def test_what_no_tensor_can_hold_is_refused():
    for number in (2**31, -(2**31) - 1):
        with pytest.raises(InvalidInputError, match="too large a number"):
            infer_request("m", {"x": [[number]]})
        with pytest.raises(InvalidInputError, match="too large a number"):
            stream_request("m", {"x": number})
    with pytest.raises(InvalidInputError, match="half of a surrogate pair at character 1"):
        stream_request("m", {"x": "a\ud800"})
    with pytest.raises(InvalidInputError, match="half of a surrogate pair at character 0"):
        infer_request("m", {"x": [["\udfff"]]})


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        ("UNAVAILABLE", "failed to connect to all addresses", NoServerError),
        ("UNAVAILABLE", "Socket closed", UnavailableError),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", DeadlineError),
        ("INTERNAL", "stub is not healthy", UnavailableError),
        ("INVALID_ARGUMENT", "[UNAVAILABLE] the queue is full", UnavailableError),
        # In a stream's message, which has no status.
        ("", "[request id: <id_unknown>] Exceeds maximum queue size", UnavailableError),
        ("", "Request timeout expired", UnavailableError),
        ("", "in ensemble 'rag', Stub process 'llm' is not healthy.", UnavailableError),
        (
            "",
            "Server is stopping, scheduler for model has stopped accepting new inference requests",
            UnavailableError,
        ),
        ("", "Request for unknown model: 'llm' has no available versions", UnavailableError),
        ("", "[UNAVAILABLE] the queue is full", UnavailableError),
        ("", "[INTERNAL] a fault", TriremeError),
    ],
)
def test_faults_of_the_server_are_told_apart(status, message, kind):
    assert type(client_error(status, message, "127.0.0.1:1")) is kind


def test_a_balancer_is_told_which_model_is_asked_unless_no_header_can_hold_its_name():
    assert route_of("embedding") == (("trireme-model", "embedding"),)
    for name in ("", "trirème", "a\nb", " a", "a" * 300):
        assert route_of(name) == ()


def test_a_stream_that_a_balancer_cut_off_may_be_asked_again():
    said = "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))"
    for status in ("UNKNOWN", "INTERNAL"):
        error = client_error(status, said, "a:1")
        assert type(error) is UnavailableError
        assert "did not answer" in str(error)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("INTERNAL", "Received RST_STREAM with error code 2"),
        ("UNKNOWN", "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))"),
        ("UNAVAILABLE", "Socket closed"),
        ("UNAVAILABLE", "failed to connect to all addresses"),
        ("CANCELLED", "CANCELLED"),
    ],
)
def test_a_server_that_is_lost_after_the_first_part_is_told_as_that(status, said):
    error = client_error(status, said, "a:1", has_begun=True)
    assert type(error) is UnavailableError
    assert str(error) == f"the server at a:1 was lost after the answer had begun ({said}); ask again"


def test_what_a_model_or_a_deadline_ends_after_the_first_part_is_no_loss_of_the_server():
    assert (
        type(client_error("DEADLINE_EXCEEDED", "Deadline Exceeded", "a:1", has_begun=True)) is DeadlineError
    )
    error = client_error("UNAVAILABLE", "[UNAVAILABLE] the queue is full", "a:1", has_begun=True)
    assert str(error) == "the queue is full"


def test_a_request_that_a_balancer_lost_may_have_left_us():
    said = "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
    assert type(client_error("UNAVAILABLE", said, "a:1")) is UnavailableError
    assert type(client_error("UNAVAILABLE", "failed to connect to all addresses", "a:1")) is NoServerError
