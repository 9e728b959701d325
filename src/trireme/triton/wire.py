"""The KServe v2 protocol as gRPC messages, and what our models say in it: pure, for clients in and outside."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from trireme.errors import (
    DeadlineError,
    InvalidInputError,
    NotFoundError,
    OverLengthError,
    PromptTooLongError,
    TriremeError,
    UnavailableError,
    UnsupportedError,
)

Value = str | bool | int | float
# Of a request, beside its tensors.
Parameter = str | bool
# Rows of str (STRING), int (INT32) or float (FP32), all of one length.
Rows = Mapping[str, list[list[Any]]]
Outputs = dict[str, Any]

# The request id of bulk requests. Triton's priority alone does not reach a backend.
BULK_ID = "bulk"
# What Triton writes before an error of its own.
_REQUEST_ID = re.compile(r"\A\[request id: [^\]\s]*\] ")
# Of the two priorities of a text encoder: behind every request that says nothing.
BULK_PRIORITY = 2
# gRPC metadata of a call: a balancer in front of several servers reads in it which model is asked.
MODEL_KEY = "trireme-model"
LONGEST_MODEL_NAME = 256
# An answer may hold many vectors. A server that was started again is found again within a second.
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - what a server is bound to, not we

# The one table of errors: our models' codes, and the statuses of gRPC that Triton makes of them.
_ERRORS: dict[str, type[TriremeError]] = {
    "INVALID_ARG": InvalidInputError,
    "INVALID_ARGUMENT": InvalidInputError,
    "NOT_FOUND": NotFoundError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineError,
    "UNSUPPORTED": UnsupportedError,
    "UNIMPLEMENTED": UnsupportedError,
}
_REASONS: dict[str, type[TriremeError]] = {
    error.reason: error for error in (PromptTooLongError, OverLengthError)
}
_CODE = re.compile(
    r"(?P<ensemble>in ensemble '[^']*', )?"
    r"\[(?P<code>INVALID_ARG|NOT_FOUND|UNAVAILABLE|UNSUPPORTED|ALREADY_EXISTS|CANCELLED|INTERNAL)\] "
    r"(?:\[(?P<reason>PROMPT_TOO_LONG|OVER_LENGTH)\] )?"
)
# Triton calls these internal errors, or not found: it has no status of its own for them, only these words.
_NOT_LOADED = "is not ready."
_STUB_GONE = "is not healthy"
_PASSING = (_STUB_GONE, "has no available versions", "server is stopping", "Server is stopping")
# Of its own queue, a status in a call and words alone in a stream.
_FULL = ("Exceeds maximum queue size", "Request timeout expired")
# gRPC has one status for a server that is not there and one that went away; it says which in words.
_NOT_CONNECTED = "onnect"
# Envoy's words for a server that refused, and for one that ended with the request in its hands.
_BEHIND_BALANCER = "upstream connect error"
# gRPC's for a stream that a balancer ended because its server had: it has no status for it.
_CUT_OFF = "RST_STREAM"
_LOST = ("UNAVAILABLE", "CANCELLED")
_INT32 = range(-(2**31), 2**31)


class NoServerError(UnavailableError):
    """Nobody answers at the address: no request left us."""


def own_address(host: str, port: int) -> str:
    """host:port at which a server bound to `host` answers its own machine."""
    host = _EVERYWHERE.get(host, host)
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def route_of(model: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call of `model`; none for a name that no header can hold, which no server has either."""
    is_header = model.isascii() and model.isprintable() and model == model.strip()
    return ((MODEL_KEY, model),) if model and is_header and len(model) <= LONGEST_MODEL_NAME else ()


def infer_request(
    model: str,
    inputs: Rows,
    *,
    bulk: bool = False,
    parameters: Mapping[str, Parameter] = MappingProxyType({}),
    outputs: Sequence[str] = (),
) -> Any:
    """A ModelInferRequest of rows. bulk: it runs after all interactive requests, and is not counted as one.

    outputs: names of those wanted; none: all that the model has.

    Raises InvalidInputError for what no tensor can hold: half of a surrogate pair, a number beyond INT32.
    """
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model, id=BULK_ID if bulk else "")
    for name, rows in inputs.items():
        datatype, shape, raw = _encode_rows(rows)
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(raw)
    for name in outputs:
        request.outputs.add(name=name)
    if bulk:
        request.parameters["priority"].uint64_param = BULK_PRIORITY
    _set_parameters(request, parameters)
    return request


def stream_request(
    model: str,
    inputs: Mapping[str, Value],
    key: str = "",
    parameters: Mapping[str, Parameter] = MappingProxyType({}),
) -> Any:
    """A ModelInferRequest of single values for a decoupled model, which ends with a response that says so.

    str is sent as BYTES, int as INT32, float as FP32. `key` is the request's id. Raises as `infer_request`.
    """
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model, id=key)
    for name, value in inputs.items():
        datatype, raw = _encode(value)
        request.inputs.add(name=name, datatype=datatype, shape=[1])
        request.raw_input_contents.append(raw)
    _set_parameters(request, parameters)
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    return request


def is_final(response: Any) -> bool:
    """Whether a ModelInferResponse is the last of its request."""
    return bool(response.parameters["triton_final_response"].bool_param)


def outputs_of(response: Any) -> Outputs:
    """The output arrays of a ModelInferResponse by name."""
    from tritonclient.grpc import InferResult

    result = InferResult(response)
    return {output.name: result.as_numpy(output.name) for output in response.outputs}


def answer_of(response: Any) -> Outputs:
    """As `outputs_of`, of a request that is answered once. Raises InvalidInputError for an empty answer."""
    outputs = outputs_of(response)
    if not outputs:
        raise InvalidInputError(
            "the response cache of the server kept an error of this very request as an empty answer;"
            " change the request, or turn the cache off (TRIREME_RESPONSE_CACHE_BYTES=0)"
        )
    return outputs


def client_error(status: str, message: str, url: str, *, has_begun: bool = False) -> TriremeError:
    """The typed error of a client of the server at `url`. status: the name of gRPC's, "" for what a message of a
    stream says. has_begun: a part of the answer was there."""
    message = _REQUEST_ID.sub("", message)
    code, reason, said = read_code(message)
    if not code and has_begun and (status in _LOST or _CUT_OFF in said):
        return UnavailableError(
            f"the server at {url} was lost after the answer had begun ({said}); ask again"
        )
    if not code and (fault := _server_fault(status, said, url)):
        return fault
    return _find_error(code or status, reason)(said)


def call_error(error: Any, url: str, *, has_begun: bool = False) -> TriremeError:
    """As `client_error`, of a grpc.RpcError."""
    return client_error(error.code().name, error.details() or "", url, has_begun=has_begun)


def stream_error(message: Any, url: str) -> TriremeError:
    """As `client_error`, of a ModelStreamInferResponse that carries an error."""
    said = message.error_message.removeprefix(f"[request id: {message.infer_response.id}] ")
    return client_error("", said, url)


def step_error(model: str, message: str) -> TriremeError:
    """The typed error that `model` of our own server answered with, its name in front."""
    code, reason, said = read_code(message)
    if not code and said.endswith(_NOT_LOADED):
        return UnavailableError(f"model {model} is not loaded; trireme ready says which models answer")
    if _STUB_GONE in said:
        return UnavailableError(f"model {model}: its process ended; try again once it is started")
    return _find_error(code, reason)(f"model {model}: {said}")


def write_code(error: TriremeError) -> str:
    """The text of an error, its code and its reason, if any, in front: "[NOT_FOUND] no collection 'x'"."""
    reason = f"[{error.reason}] " if error.reason else ""
    return f"[{error.code}] {reason}{error}"


def read_code(message: str) -> tuple[str, str, str]:
    """Code and reason that `write_code` put in front, "" where there is none, and the text without them.

    Triton puts the ensemble's name before an error of one of its steps; the name stays.
    """
    found = _CODE.match(message)
    if not found:
        return "", "", message
    return found["code"], found["reason"] or "", (found["ensemble"] or "") + message[found.end() :]


def _find_error(code: str, reason: str) -> type[TriremeError]:
    return _REASONS.get(reason) or _ERRORS.get(code, TriremeError)


def _server_fault(status: str, message: str, url: str) -> UnavailableError | None:
    """The error where it is the server and not the request that is at fault."""
    is_balanced = message.startswith(_BEHIND_BALANCER)
    if status == "UNAVAILABLE" and _NOT_CONNECTED in message and not is_balanced:
        return NoServerError(f"no server answers at {url}; start one with: make serve")
    if any(said in message for said in _FULL):
        return UnavailableError(f"the server at {url} has no room in its queue ({message}); try again")
    if status in ("UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED") or _CUT_OFF in message:
        kind = DeadlineError if status == "DEADLINE_EXCEEDED" else UnavailableError
        return kind(f"the server at {url} did not answer ({message}); try again")
    if any(said in message for said in _PASSING):
        return UnavailableError(
            f"the server at {url} lost a process ({message}); try again once it is started"
        )
    return None


def _set_parameters(request: Any, parameters: Mapping[str, Parameter]) -> None:
    for name, value in parameters.items():
        if isinstance(value, bool):
            request.parameters[name].bool_param = value
        else:
            request.parameters[name].string_param = _without_halves(value)


def _encode(value: Value) -> tuple[str, bytes]:
    """Data type, and the bytes of a tensor of one value."""
    if isinstance(value, bool):
        return "BOOL", bytes([value])
    if isinstance(value, int):
        return "INT32", struct.pack("<i", _check_number(value))
    if isinstance(value, float):
        return "FP32", struct.pack("<f", value)
    return "BYTES", _encode_text(value)


def _encode_rows(rows: list[list[Any]]) -> tuple[str, list[int], bytes]:
    """Data type, shape and bytes of a tensor [rows, n]."""
    first = rows[0][0] if rows[0] else ""
    shape = [len(rows), len(rows[0])]
    if isinstance(first, str):
        return "BYTES", shape, b"".join(_encode_text(value) for row in rows for value in row)
    if isinstance(first, int):
        return "INT32", shape, np.array([[_check_number(n) for n in row] for row in rows], np.int32).tobytes()
    return "FP32", shape, np.array(rows, np.float32).tobytes()


def _check_number(number: int) -> int:
    if number not in _INT32:
        raise InvalidInputError(f"{str(number)[:20]} is too large a number; send one below {_INT32.stop}")
    return number


def _encode_text(text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"a text has half of a surrogate pair at character {error.start}; send valid Unicode"
        ) from None
    return len(data).to_bytes(4, "little") + data


def _without_halves(text: str) -> str:
    """What a request says beside its tensors is for logs: half of a surrogate pair must not fail it."""
    return text.encode("utf-8", "replace").decode()
