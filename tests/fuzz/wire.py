"""Requests as bytes: protobuf messages, and JSON with or without binary tensors."""

import json
from random import Random
from typing import Any

from tritonclient.grpc import service_pb2

from fuzz.calls import Asked, Call, Tensor
from fuzz.mutations import encode

MOST_INT64 = 2**63 - 1


def to_message(random: Random, asked: Asked) -> bytes:
    """A ModelInferRequest; now and then damaged after it was written."""
    message = service_pb2.ModelInferRequest(
        model_name=_name(asked.model), model_version=_name(asked.version), id=_name(asked.id)
    )
    for key, value in asked.parameters.items():
        _set(message.parameters[key], value)
    in_contents = random.random() < 0.1
    for one in asked.tensors:
        tensor = message.inputs.add(
            name=_name(one.name), datatype=_name(one.datatype), shape=_int64s(one.shape)
        )
        for key, value in one.parameters.items():
            _set(tensor.parameters[key], value)
        if in_contents:
            _fill_contents(tensor.contents, one)
        if not in_contents or random.random() < 0.1:
            message.raw_input_contents.append(encode(one))
    if random.random() < 0.02:
        del message.raw_input_contents[random.randint(0, len(message.raw_input_contents)) :]
    for name, parameters in asked.outputs:
        output = message.outputs.add(name=name)
        for key, value in parameters.items():
            _set(output.parameters[key], value)
    return (
        damage(random, message.SerializeToString()) if random.random() < 0.04 else message.SerializeToString()
    )


def _fill_contents(contents: Any, one: Tensor) -> None:
    kinds = {"BYTES": contents.bytes_contents, "INT32": contents.int_contents, "FP32": contents.fp32_contents}
    kinds["BOOL"] = contents.bool_contents
    if one.raw is None and one.datatype in kinds:
        kinds[one.datatype].extend(one.values)
    else:
        contents.uint64_contents.extend([1, 2, 3])


def damage(random: Random, data: bytes) -> bytes:
    """`data` cut, with some bytes changed, or with a piece twice."""
    changed = bytearray(data)
    kind = random.randrange(3)
    if kind == 0 or not changed:
        return bytes(changed[: random.randint(0, len(changed))])
    for _ in range(random.randint(1, 8)):
        place = random.randrange(min(len(changed), 300))
        if kind == 1:
            changed[place] = random.getrandbits(8)
        else:
            changed[place:place] = changed[place : place + random.randint(1, 20)]
    return bytes(changed)


def _set(parameter: Any, value: Any) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        if value > MOST_INT64:
            parameter.uint64_param = value
        else:
            parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value


def _int64s(shape: list[int]) -> list[int]:
    return [max(min(size, MOST_INT64), -(2**63)) for size in shape]


def _name(text: str) -> str:
    return text.encode(errors="replace").decode()


def to_http(random: Random, asked: Asked) -> Call:
    """POST .../infer, JSON alone or with binary tensors behind it."""
    binary = random.random() < 0.5
    body: dict[str, Any] = {"inputs": [], **({"id": asked.id} if asked.id else {})}
    tail = b""
    for one in asked.tensors:
        tensor: dict[str, Any] = {"name": one.name, "shape": one.shape, "datatype": one.datatype}
        parameters = dict(one.parameters)
        if binary or one.raw is not None:
            raw = encode(one)
            parameters.setdefault("binary_data_size", len(raw))
            tail += raw
        else:
            tensor["data"] = _json_values(random, one)
        if parameters:
            tensor["parameters"] = parameters
        body["inputs"].append(tensor)
    if asked.outputs:
        body["outputs"] = [{"name": name, "parameters": parameters} for name, parameters in asked.outputs]
    if asked.parameters:
        body["parameters"] = asked.parameters
    head = json.dumps(body).encode()
    if random.random() < 0.06:
        head = damage(random, head)
    headers = [("Content-Type", "application/json")]
    if tail or random.random() < 0.03:
        size = (
            len(head)
            if random.random() < 0.93
            else random.choice((0, 1, -1, 2**31, 2**63, "x", len(head) + 1))
        )
        headers.append(("Inference-Header-Content-Length", str(size)))
    return Call("http", asked.model, (head + tail,), path=_path(asked, "infer"), headers=tuple(headers))


def to_generate(random: Random, asked: Asked) -> Call:
    """POST .../generate or generate_stream with one JSON value for each input."""
    body: dict[str, Any] = {}
    for one in asked.tensors:
        values = _json_values(random, one)
        body[one.name] = values[0] if len(values) == 1 and random.random() < 0.9 else values
    body |= asked.parameters
    text = json.dumps(body).encode()
    if random.random() < 0.06:
        text = damage(random, text)
    verb = "generate_stream" if random.random() < 0.5 else "generate"
    return Call("http", asked.model, (text,), path=_path(asked, verb))


def _json_values(random: Random, one: Tensor) -> list[Any]:
    values: list[Any] = [v.decode(errors="replace") if isinstance(v, bytes) else v for v in one.values]
    if random.random() < 0.05:
        values = [random.choice((None, {}, [], [[1]], 10**400, 1.5, "x", True, 2**63))]
    if random.random() < 0.02:
        for _ in range(random.choice((2, 50))):
            values = [values]
    return values


def _path(asked: Asked, verb: str) -> str:
    # A longer line is no HTTP for Triton: it closes the connection.
    letters = asked.model[:1000]
    safe = "".join(one if one.isalnum() or one in "_./%" else f"%{ord(one) % 256:02X}" for one in letters)
    version = f"/versions/{asked.version}" if asked.version.isdecimal() else ""
    return f"/v2/models/{safe}{version}/{verb}"
