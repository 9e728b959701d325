"""Streamed requests over gRPC, to a server that a person can predict."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import grpc
import pytest
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from fakes.grpc_server import config_of
from trireme.errors import InvalidInputError, TriremeError, UnavailableError
from trireme.triton.backends import own_port
from trireme.triton.backends.own_port import OwnPort
from trireme.triton.wire import own_address

SECONDS = 60


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers the first request of a stream as `script` says; keeps what it was sent."""

    def __init__(self, script):
        self.script, self.requests, self.cancelled = script, [], threading.Event()
        self.closed = threading.Event()
        self.config_questions = []

    def ServerLive(self, request, context):  # noqa: N802 - the protocol's name
        return messages.ServerLiveResponse(live=True)

    def ModelConfig(self, request, context):  # noqa: N802 - the protocol's name
        self.config_questions.append(request.name)
        if request.name == "none":
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown model")
        return messages.ModelConfigResponse(config=config_of(request.name, inputs=["messages", "tools"]))

    def ModelStreamInfer(self, requests, context):  # noqa: N802 - the protocol's name
        context.add_callback(self.closed.set)
        first = next(requests)
        self.requests.append(first)

        def listen():
            # The stream may break, which is what some tests want.
            with suppress(Exception):
                for request in requests:
                    self.requests.append(request)
                    self.cancelled.set()

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        yield from self.script(self, first)
        listener.join(SECONDS)


@contextmanager
def serving(script):
    server = grpc.server(ThreadPoolExecutor(4))
    servicer = Server(script)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    opened = OwnPort(f"127.0.0.1:{port}")
    try:
        yield opened, servicer, server
    finally:
        opened.close()
        server.stop(0).wait()


def said(request, text="", *, final=False, error="", key=None):
    answer = messages.ModelStreamInferResponse(error_message=error)
    response = answer.infer_response
    response.id = request.id if key is None else key
    response.parameters["triton_final_response"].bool_param = final
    if text:
        response.outputs.add(name="text_output", datatype="BYTES", shape=[1])
        response.raw_output_contents.append(len(text).to_bytes(4, "little") + text.encode())
    return answer


def texts(call):
    return [outputs["text_output"][0].decode() for outputs in call.responses()]


def test_responses_come_one_by_one_and_end_with_the_last():
    def script(server, request):
        yield said(request, "a")
        yield said(request, "b")
        yield said(request, final=True)

    with serving(script) as (port, server, _):
        assert texts(port.call("llm", {"text_input": "oars", "stream": True})) == ["a", "b"]
        [request] = server.requests
        assert [(tensor.name, tensor.datatype) for tensor in request.inputs] == [
            ("text_input", "BYTES"),
            ("stream", "BOOL"),
        ]
        assert list(request.raw_input_contents) == [b"\x04\0\0\0oars", b"\1"]
        assert not server.cancelled.is_set()


@pytest.mark.parametrize(
    ("message", "kind", "match"),
    [
        ("[UNAVAILABLE] the LLM engine failed", UnavailableError, "^model llm: the LLM engine failed$"),
        ("[INVALID_ARG] max_tokens must be 1", InvalidInputError, "^model llm: max_tokens must be 1$"),
        ("Stub process 'llm_0' is not healthy.", UnavailableError, "^model llm: its process ended"),
        ("unheard of", TriremeError, "^model llm: unheard of$"),
    ],
)
def test_an_error_after_the_first_token_is_typed_and_names_the_model(message, kind, match):
    def script(server, request):
        yield said(request, "a")
        yield said(request, error=f"[request id: {request.id}] {message}", final=True)

    with serving(script) as (port, _, _server):
        responses = port.call("llm", {"text_input": "x"}).responses()
        next(responses)
        with pytest.raises(TriremeError, match=match) as raised:
            next(responses)
        assert type(raised.value) is kind


def test_a_server_that_dies_after_the_first_token_is_an_error():
    is_held = threading.Event()

    def script(server, request):
        yield said(request, "a")
        is_held.wait(SECONDS)

    with serving(script) as (port, _, server):
        responses = port.call("llm", {"text_input": "x"}).responses()
        next(responses)
        server.stop(0)
        with pytest.raises(UnavailableError, match="model llm cannot be asked at"):
            next(responses)
        is_held.set()


def test_no_server_is_an_error_that_names_the_setting():
    port = OwnPort("127.0.0.1:1")
    assert not port.is_ready()
    with pytest.raises(UnavailableError, match="TRIREME_GRPC_PORT"):
        texts(port.call("llm", {"text_input": "x"}))
    port.close()


def test_ending_asks_the_model_once_and_takes_its_word_on_it():
    def script(server, request):
        yield said(request, "a")
        assert server.cancelled.wait(SECONDS)
        yield said(request, "cancel taken", final=True, key=own_port.CANCEL_ID)
        yield said(request, "b", final=True)

    with serving(script) as (port, server, _):
        call = port.call("llm", {"text_input": "x"})
        responses = call.responses()
        next(responses)
        call.end()
        call.end()
        assert [outputs["text_output"][0] for outputs in responses] == [b"b"]
        first, cancel = server.requests
        assert len(first.id) == 32
        assert cancel.parameters["cancel"].string_param == first.id


def test_a_model_that_does_not_end_a_request_is_left(monkeypatch):
    monkeypatch.setattr(own_port, "CANCEL_SECONDS", 0.2)

    def script(server, request):
        yield said(request, "a")
        server.closed.wait(SECONDS)

    with serving(script) as (port, server, _):
        responses = port.call("llm", {"text_input": "x"}).responses()
        next(responses)
        began = time.monotonic()
        responses.close()
        assert time.monotonic() - began < SECONDS / 2
        assert server.closed.wait(SECONDS)


def test_a_model_that_falls_silent_is_an_error_and_not_a_short_answer(monkeypatch):
    monkeypatch.setattr(own_port, "SILENT_SECONDS", 0.1)

    def script(server, request):
        yield said(request, "a")
        assert server.cancelled.wait(SECONDS)
        yield said(request, "cancelled", final=True)

    with serving(script) as (port, _, _server):
        call = port.call("llm", {"text_input": "x"})
        responses = call.responses()
        next(responses)
        while not call.is_silent():
            time.sleep(0.01)
        call.end()
        with pytest.raises(UnavailableError, match="model llm sent nothing for"):
            next(responses)


def test_a_server_that_answers_is_ready():
    with serving(lambda server, request: iter(())) as (port, _, _server):
        assert port.is_ready()


def test_what_a_model_takes_is_asked_once_for_a_while(monkeypatch):
    with serving(lambda server, request: iter(())) as (port, servicer, _server):
        assert [port.inputs_of("llm") for _ in range(2)] == [{"messages", "tools"}] * 2
        assert servicer.config_questions == ["llm"]
        monkeypatch.setattr(own_port, "INPUTS_SECONDS", 0.0)
        for model in ("old", "old"):
            port.inputs_of(model)
        assert servicer.config_questions == ["llm", "old", "old"]


def test_of_a_model_that_is_not_there_no_inputs_are_known_and_none_are_kept():
    with serving(lambda server, request: iter(())) as (port, servicer, _server):
        assert [port.inputs_of("none") for _ in range(2)] == [frozenset()] * 2
        assert servicer.config_questions == ["none", "none"]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:8001"),
        ("0.0.0.0", "127.0.0.1:8001"),  # noqa: S104 - an address to read
        ("::", "[::1]:8001"),
        ("::1", "[::1]:8001"),
        ("localhost", "localhost:8001"),
    ],
)
def test_a_server_bound_everywhere_is_asked_on_loopback(host, address):
    assert own_address(host, 8001) == address
