"""What the fuzzer found, and what others did: each is sent again in every run.

A name says what once went wrong. `expected` is how the answer begins, or "" where it is not an error.
"""

import gzip
import json
from dataclasses import dataclass, replace
from random import Random

from fuzz.calls import Asked, Call, Tensor
from fuzz.make import STREAM, STRICT, UNARY
from fuzz.wire import to_http, to_message


@dataclass(frozen=True)
class Regression:
    """expected: a code that one of the errors has, or "" for a good answer, or "any"."""

    name: str
    call: Call
    expected: str


class _Plain(Random):
    """Never decides to damage anything."""

    def random(self) -> float:
        return 0.99


PLAIN = _Plain(0)


def strings(name: str, *values: bytes, shape: list[int] | None = None) -> Tensor:
    return Tensor(name, "BYTES", shape or [1, len(values)], list(values))


def over_grpc(asked: Asked) -> Call:
    return Call("grpc", asked.model, (to_message(PLAIN, asked),), path=UNARY)


def over_stream(*asked: Asked) -> Call:
    return Call("stream", asked[0].model, tuple(to_message(PLAIN, one) for one in asked), path=STREAM)


def over_http(asked: Asked) -> Call:
    return to_http(PLAIN, asked)


def over_http_json(asked: Asked) -> Call:
    """All values within the JSON."""
    inputs = [
        {
            "name": one.name,
            "shape": one.shape,
            "datatype": one.datatype,
            "data": [value.decode() if isinstance(value, bytes) else value for value in one.values],
        }
        for one in asked.tensors
    ]
    return body(asked.model, json.dumps({"inputs": inputs}).encode())


def body(model: str, data: bytes, verb: str = "infer") -> Call:
    return Call("http", model, (data,), path=f"/v2/models/{model}/{verb}")


def embedding(raw: bytes | None = None, **parameters: object) -> Asked:
    text = strings("text", b"oars")
    text.raw = raw
    return Asked("embedding", [text], parameters=dict(parameters))


def ingest(metadata: bytes, **names: bytes) -> Asked:
    columns = {"document_id": b"regression", "text": b"oars", "metadata": metadata, **names}
    return Asked("ingest", [strings(name, value) for name, value in columns.items()])


def llm(parameters: dict, stream: bool = True) -> Asked:
    tensors = [
        strings("text_input", b"one two three", shape=[1]),
        Tensor("stream", "BOOL", [1], [stream]),
        strings("sampling_parameters", json.dumps(parameters).encode(), shape=[1]),
    ]
    return Asked("llm", tensors)


def sort(top_k: int, *scores: float, text: bytes = b"a") -> Asked:
    columns = [strings(name, *[text] * len(scores)) for name in ("id", "text", "metadata")]
    numbers = [
        Tensor("score", "FP32", [1, len(scores)], list(scores)),
        Tensor("top_k", "INT32", [1, 1], [top_k]),
    ]
    return Asked("search__sort", [*columns, *numbers])


def _json() -> list[Regression]:
    found = []
    for verb in ("infer", "generate", "generate_stream"):
        for depth in (200_000, 1_000_000):
            name = f"{depth} nested lists to {verb} ended tritonserver"
            found.append(Regression(name, body("embedding", b"[" * depth, verb), "500"))
    deep = b'{"a":' * 200_000
    found.append(Regression("200000 nested objects ended tritonserver", body("llm", deep, "generate"), "500"))
    chunks = body("embedding", b"1\r\n \r\n" * 600_000 + b"0\r\n\r\n")
    chunks = replace(chunks, headers=(("Transfer-Encoding", "chunked"),))
    found.append(Regression("a body in 600000 chunks ended tritonserver", chunks, "500"))
    packed = body("embedding", gzip.compress(b" " * 3_000_000))
    packed = replace(packed, headers=(("Content-Encoding", "gzip"),))
    found.append(Regression("a compressed body that is no JSON stayed in memory", packed, "501"))
    inside = b'{"text_input":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    found.append(Regression("a deep value ended tritonserver", body("llm", inside, "generate"), "any"))
    return found


def _texts() -> list[Regression]:
    longer = b"\x05\x00\x00\x00oars"
    most = b"\xff\xff\xff\xffoars"
    return [
        Regression(
            "a string longer than its bytes failed its batch", over_grpc(embedding(longer)), "INVALID"
        ),
        Regression("a string of 4 GB failed its batch", over_stream(embedding(most)), "any"),
        Regression("an error on a stream had no code", over_stream(embedding(b"\x00" * 4)), "[INVALID_ARG]"),
        Regression(
            "an error of a step had no code",
            over_stream(Asked("search", [strings("query", b"")])),
            "[INVALID_ARG]",
        ),
        Regression(
            "an unknown collection on a stream had no code",
            over_stream(Asked("search", [strings("query", b"a"), strings("collection", b"nowhere")])),
            "[NOT_FOUND]",
        ),
    ]


def _claimed() -> list[Regression]:
    """JSON that claims more values than it holds: room was made for all of them."""
    found = []
    for shape in ([1, 2**33], [1, 2**61], [2**63 - 1, 2], [2**64 - 1, 5]):
        asked = sort(1, 0.5)
        asked.tensors[3].shape = shape
        found.append(Regression(f"shape {shape} over HTTP ended tritonserver", over_http_json(asked), "any"))
    return found


def _tensors() -> list[Regression]:
    classes = sort(1, 0.5)
    classes.outputs.append(("text", {"classification": 1}))
    bad = sort(0, 0.5)
    nothing = sort(1)
    for one in nothing.tensors[:4]:
        one.shape = [0, 0]
    del nothing.tensors[4]
    no_ids = Asked("ingest", [strings("document_id", shape=[0, 0]), strings("text", shape=[0, 0])])
    return [
        Regression("classes of strings over gRPC ended tritonserver", over_grpc(classes), "INVALID_ARGUMENT"),
        Regression("classes of strings over HTTP ended tritonserver", over_http(classes), "400"),
        Regression("a batch of no rows hung search__sort", over_grpc(nothing), "INVALID_ARGUMENT"),
        Regression("a batch of no rows hung search__sort on a stream", over_stream(nothing), "[INVALID_ARG]"),
        Regression("a batch of no rows hung ingest", over_grpc(no_ids), "INVALID_ARGUMENT"),
        Regression(
            "an error of a strict stream ended tritonserver", replace(over_stream(bad), headers=STRICT), "any"
        ),
        Regression("no passages are no fault", over_grpc(sort(1)), ""),
    ]


def _metadata() -> list[Regression]:
    bad = {
        "half a surrogate pair": b'{"a": "\\ud800"}',
        "half a surrogate pair in a key": b'{"\\udfff": 1}',
        "half a surrogate pair in source": b'{"source": "\\ud800"}',
        "not a number": b'{"a": NaN}',
        "infinity": b'{"a": 1e999}',
        "minus infinity": b'{"a": -Infinity}',
        "5000 levels": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    }
    found = [
        Regression(f"metadata with {name} was an internal error", over_grpc(ingest(text)), "INVALID_ARGUMENT")
        for name, text in bad.items()
    ]
    jobs = Asked("ingest", [strings("job_id", b"1"), strings("tenant", b"\x00")])
    found.append(Regression("a tenant with NUL was an internal error", over_grpc(jobs), "INVALID_ARGUMENT"))
    return found


def _locked() -> list[Regression]:
    region = json.dumps({"key": "/x", "byte_size": 64}).encode()
    own = {
        "/v2/logging": b'{"log_file": "/dev/null"}',
        "/v2/trace/setting": b'{"trace_file": "/dev/null"}',
        "/v2/systemsharedmemory/region/x/register": region,
    }
    unload = Call("http", "", (b"{}",), path="/v2/repository/models/embedding/unload")
    return [
        Regression("nobody unloads a model", unload, "is not allowed"),
        *(
            Regression(f"anybody could post to {path}", Call("http", "", (data,), path=path), "403")
            for path, data in own.items()
        ),
    ]


def _sampling() -> list[Regression]:
    """Once ended the engine of all."""
    found = []
    for key, value in (
        ("top_p", 1e-300),
        ("repetition_penalty", 1e-46),
        ("temperature", 1e-300),
        ("min_p", 1e-300),
    ):
        call = over_stream(llm({"max_tokens": 2, key: value}))
        found.append(Regression(f"{key} {value} ended the engine", call, "any"))
    return found


def _parameters() -> list[Regression]:
    from tritonclient.grpc import service_pb2

    found = []
    for asked in (embedding(), llm({"max_tokens": 1}), sort(1, 0.5)):
        message = service_pb2.ModelInferRequest.FromString(to_message(PLAIN, asked))
        message.parameters["name"].string_param = "ab"
        # Protobuf's own library writes no string that is not UTF-8.
        broken = message.SerializeToString().replace(b"ab", b"\xd7b", 1)
        call = Call("stream", asked.model, (broken,), path=STREAM)
        found.append(Regression(f"a parameter of {asked.model} that is not UTF-8", call, "any"))
    return found


def _ids() -> list[Regression]:
    """Over HTTP Triton lets any bytes pass; the backend's own message told where its code lies."""
    found = []
    for asked in (embedding(), llm({"max_tokens": 1}, stream=False), sort(1, 0.5), ingest(b"{}")):
        plain = over_http_json(asked)
        for field in (b'"id": "a\xd7"', b'"parameters": {"name": "a\xd7"}'):
            damaged = replace(plain, parts=(plain.parts[0][:-1] + b", " + field + b"}",))
            name = f"{field.split(b':')[0].decode()} of {asked.model} over HTTP that is not UTF-8"
            found.append(Regression(name, damaged, "any"))
    return found


REGRESSIONS = (
    *_ids(),
    *_json(),
    *_texts(),
    *_claimed(),
    *_tensors(),
    *_metadata(),
    *_locked(),
    *_sampling(),
    *_parameters(),
)
