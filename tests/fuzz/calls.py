"""One request as it goes over the wire, and as a line of text."""

import base64
import json
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

# grpc and stream: protobuf messages. http: one body. bytes: chunks for the HTTP port; grpc_bytes: for the other.
WAYS = ("grpc", "stream", "http", "bytes", "grpc_bytes")


@dataclass(frozen=True)
class Call:
    """parts: the messages of a stream, the one body or message of others, or chunks of raw bytes.

    headers: of HTTP, or metadata of a stream. note: what was done to it, for people.
    """

    way: str
    model: str
    parts: tuple[bytes, ...]
    method: str = "POST"
    path: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    note: str = ""

    def write(self) -> str:
        """A line that `read` takes."""
        return json.dumps({**asdict(self), "parts": [_pack(part) for part in self.parts]})

    @staticmethod
    def read(line: str) -> "Call":
        """The call that `write` wrote."""
        given = json.loads(line)
        parts = tuple(_unpack(part) for part in given.pop("parts"))
        headers = tuple((name, value) for name, value in given.pop("headers"))
        return Call(**given, parts=parts, headers=headers)


@dataclass
class Asked:
    """A request to a model before it is written: what mutations change."""

    model: str
    tensors: list["Tensor"]
    version: str = ""
    id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    outputs: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Tensor:
    """values: what `shape` and `datatype` say, or what they do not. raw: bytes in place of the values."""

    name: str
    datatype: str
    shape: list[int]
    values: list[Any]
    raw: bytes | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


def _pack(data: bytes) -> str:
    return base64.b85encode(zlib.compress(data, 9)).decode()


def _unpack(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))
