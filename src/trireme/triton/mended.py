"""Mends of tritonserver 2.51 as the nvidia-pytriton wheel carries it, made in our copies of its files.

Any client could end or hang the server by one request, no option prevents it, and no later server comes as a wheel.
A file that is not exactly that build is copied as it is: other builds have other addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mend:
    """Bytes at `offset` of the file with this digest, and what stands there instead. Both have one length."""

    digest: str
    offset: int
    before: bytes
    after: bytes


_SERVER = "01f1d4a777fea48f8e62a3df0403bcbd858c7a0be203e032a795032555f3e3f4"
_PYTHON_BACKEND = "08a47eb9cb120475442abebf283a910cf06053bc1322711aeb34f4d42f038cba"

MENDS = (
    # TopkClassifications divides by the size of an element, 0 for strings, before it looks at the data type: a
    # request with `classification` for an output of strings ends the process. The look comes first here.
    Mend(
        _SERVER,
        0x14FBA1,
        bytes.fromhex("31d2 89c1 4c89e8 48f7f1 83fd0c 0f87fc230000"),
        bytes.fromhex("83fd0c 0f8706240000 31d2 89c1 4c89e8 48f7f1"),
    ),
    # A gRPC stream with this header makes an error of a model free what the stream still uses: some fifty such
    # errors end the process. No header has the name that stands here then.
    Mend(_SERVER, 0xABCEB1, b"triton_grpc_error\0", b"\0riton_grpc_error\0"),
    # GetElementCount, which only ParseJsonTritonIO calls: room is made by the shape that a JSON body claims before
    # its values are looked at, and the process ends where there is none. Here 2^24 elements and more count as
    # none, which Triton refuses when it compares them with the shape.
    Mend(_SERVER, 0x180BEE, bytes.fromhex("7441"), bytes.fromhex("744b")),
    Mend(
        _SERVER,
        0x180C2A,
        bytes.fromhex("4989c8 4c89c0 c3 4531c0 ebf7 662e0f1f84000000"),
        bytes.fromhex("4989c8 31c0 49f7c0000000ff 490f44c0 c3 31c0 c3"),
    ),
    # A compressed body that holds no JSON is kept for ever as it was decompressed, and 300 KB may become gigabytes.
    # GetRequestCompressionType knows neither deflate nor gzip here, and DecompressBuffer asks it instead of
    # a copy of its code: such requests are refused.
    Mend(_SERVER, 0x2E2777, bytes.fromhex("0f85eb000000"), bytes.fromhex("e9ec000000 90")),
    Mend(_SERVER, 0x2DFC78, bytes.fromhex("b803000000"), bytes.fromhex("b800000000")),
    Mend(_SERVER, 0x2DFD40, bytes.fromhex("b802000000"), bytes.fromhex("b800000000")),
    # ProcessRequests leaves without an answer where a batch has no rows: the client waits for ever. Here the model
    # gets them, and refuses them.
    Mend(
        _PYTHON_BACKEND,
        0x46D38,
        bytes.fromhex("74ca"),
        bytes.fromhex("9090"),
    ),
)


def read_mended(source: Path, mends: Sequence[Mend] = MENDS) -> bytes:
    """The file's bytes with the mends that are for it; as they are where there is none."""
    content = source.read_bytes()
    digest = sha256(content).hexdigest()
    for mend in mends:
        if mend.digest == digest:
            end = mend.offset + len(mend.before)
            if content[mend.offset : end] != mend.before:
                raise ValueError(f"the mend of {source.name} names bytes that are not there")
            content = content[: mend.offset] + mend.after + content[end:]
    return content
