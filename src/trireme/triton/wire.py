"""Requests of the KServe v2 protocol as gRPC messages: a cancelled stream of tritonclient leaves a thread."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from trireme.errors import TriremeError

Value = str | bool | int | float

# The request id of bulk requests. Triton's priority alone does not reach a backend.
BULK_ID = "bulk"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - what a server is bound to, not we


def stream_request(
    model: str,
    inputs: Mapping[str, Value],
    key: str = "",
    parameters: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """A ModelInferRequest of single values for a decoupled model, which ends with a response that says so.

    str is sent as BYTES, int as INT32, float as FP32. `key` is the request's id.
    """
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model, id=key)
    for name, value in inputs.items():
        datatype, raw = _encode(value)
        request.inputs.add(name=name, datatype=datatype, shape=[1])
        request.raw_input_contents.append(raw)
    for name, text in parameters.items():
        request.parameters[name].string_param = text
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    return request


def is_final(response: Any) -> bool:
    """Whether a ModelInferResponse is the last of its request."""
    return bool(response.parameters["triton_final_response"].bool_param)


def outputs_of(response: Any) -> dict[str, Any]:
    """The output arrays of a ModelInferResponse by name."""
    from tritonclient.grpc import InferResult

    result = InferResult(response)
    return {output.name: result.as_numpy(output.name) for output in response.outputs}


def _encode(value: Value) -> tuple[str, bytes]:
    """Data type, and the bytes of a tensor of one value."""
    if isinstance(value, bool):
        return "BOOL", bytes([value])
    if isinstance(value, int):
        return "INT32", struct.pack("<i", value)
    if isinstance(value, float):
        return "FP32", struct.pack("<f", value)
    data = value.encode()
    return "BYTES", len(data).to_bytes(4, "little") + data


def own_address(host: str, port: int) -> str:
    """host:port at which a server bound to `host` answers its own machine."""
    host = _EVERYWHERE.get(host, host)
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def write_code(error: TriremeError) -> str:
    """The text of an error with its code in front: "[NOT_FOUND] no collection 'x'"."""
    return f"[{error.code}] {error}"


def strip_code(message: str) -> tuple[str, str]:
    """The code that `write_code` put in front, or "", and the text without it.

    Triton puts the ensemble's name before an error of one of its steps; the name stays.
    """
    found = _CODE.match(message)
    return (found["code"], (found["ensemble"] or "") + message[found.end() :]) if found else ("", message)


_CODE = re.compile(
    r"(?P<ensemble>in ensemble '[^']*', )?"
    r"\[(?P<code>INVALID_ARG|NOT_FOUND|UNAVAILABLE|UNSUPPORTED|ALREADY_EXISTS|CANCELLED|INTERNAL)\] "
)
