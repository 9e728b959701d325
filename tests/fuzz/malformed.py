"""What is no request: broken HTTP, bodies that end early, other endpoints, bytes of another protocol."""

import gzip
import json
import zlib
from random import Random

from fuzz.calls import Call
from fuzz.values import BAD_JSON, DEEP, STRANGE, any_json
from fuzz.wire import damage

# What answers about the server and changes nothing.
READING = (
    "/v2",
    "/v2/",
    "/",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/embedding",
    "/v2/models/embedding/ready",
    "/v2/models/embedding/config",
    "/v2/models/embedding/stats",
    "/v2/models/stats",
    "/v2/models/embedding/versions/1",
    "/v2/models/embedding/versions/9/ready",
    "/v2/models/nothing/config",
    "/v2/repository/index",
    "/v2/models/%00/ready",
    "/v2/models/" + "a" * 1000,
    "/v2/" + "../" * 50 + "etc/passwd",
    "/v2/models//infer",
    "/metrics",
    "/v2?x=" + "y" * 500,
)
# What a client may not change.
CHANGING = (
    "/v2/repository/models/embedding/load",
    "/v2/repository/models/embedding/unload",
    "/v2/logging",
    "/v2/trace/setting",
    "/v2/models/embedding/trace/setting",
    "/v2/systemsharedmemory/status",
    "/v2/systemsharedmemory/region/x/register",
    "/v2/systemsharedmemory/unregister",
    "/v2/cudasharedmemory/region/x/register",
)
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "X" * 300)


def other_body(random: Random, model: str) -> Call:
    """A body that is no request, to an endpoint that wants one."""
    verb = random.choice(("infer", "infer", "generate", "generate_stream"))
    kind = random.random()
    if kind < 0.25:
        body = random.choice(DEEP)
    elif kind < 0.4:
        depth = random.choice((10, 500, 5000))
        body = b'{"inputs":' + b"[" * depth + b"]" * random.choice((0, depth)) + b"}"
    elif kind < 0.7:
        body = random.choice((*BAD_JSON, *STRANGE))
    elif kind < 0.9:
        body = json.dumps({"inputs": any_json(random, 3), "text_input": any_json(random, 2)}).encode()
    else:
        body = bytes(random.getrandbits(8) for _ in range(random.randint(0, 2000)))
    headers: tuple[tuple[str, str], ...] = ()
    if random.random() < 0.2:
        encoding = random.choice(("gzip", "deflate", "br", "identity", "gzip, deflate"))
        packed = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)(body)
        body = damage(random, packed) if random.random() < 0.5 else packed
        headers = (("Content-Encoding", encoding),)
    return Call("http", model, (body,), path=f"/v2/models/{model}/{verb}", headers=headers, note="other body")


def other_endpoint(random: Random) -> Call:
    """Any other endpoint by any method."""
    path = random.choice(READING if random.random() < 0.7 else CHANGING)
    body = random.choice((b"", b"{}", b"[]", *BAD_JSON, DEEP[2]))
    return Call("http", "", (body,), method=random.choice(METHODS), path=path, note="other endpoint")


def broken_http(random: Random, model: str) -> Call:
    """Bytes for the HTTP port that are nearly a request."""
    body = json.dumps(
        {"inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]}]}
    ).encode()
    line = f"POST /v2/models/{model}/{random.choice(('infer', 'generate'))} HTTP/1.1\r\n".encode()
    length = f"Content-Length: {len(body)}\r\n".encode()
    host = b"Host: x\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n"
    makers = (
        lambda: [line + host + length + b"\r\n" + body[: random.randint(0, len(body))]],
        lambda: [line + host + f"Content-Length: {10 ** random.randint(4, 20)}\r\n\r\n".encode() + body],
        lambda: [line + host + b"Content-Length: -1\r\n\r\n" + body],
        lambda: [line + host + length + length.replace(b": ", b": 1") + b"\r\n" + body],
        lambda: [line + host + chunked + b"\r\n" + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"],
        lambda: [line + host + chunked + b"\r\n" + b"ffffffffffffffff\r\n" + body],
        lambda: [line + host + chunked + b"\r\n" + b"zz\r\n" + body],
        lambda: [line + host + chunked + b"\r\n", *(b"1\r\n%c\r\n" % byte for byte in body), b"0\r\n\r\n"],
        lambda: [
            line + host + b"X: " + b"y" * random.choice((8000, 100_000)) + b"\r\n" + length + b"\r\n" + body
        ],
        lambda: [line + host + b"".join(b"H%d: v\r\n" % n for n in range(2000)) + length + b"\r\n" + body],
        lambda: [line + host + length + b"Expect: 100-continue\r\n\r\n" + body],
        lambda: [
            line + host + length + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n" + body
        ],
        lambda: [line * 3 + b"\r\n\r\n"],
        lambda: [(line + host + length + b"\r\n" + body) * random.choice((2, 20))],
        lambda: [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100)],
        lambda: [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(random.getrandbits(8) for _ in range(300))
        ],
        lambda: [damage(random, line + host + length + b"\r\n" + body)],
        lambda: [b"\r\n" * random.randint(1, 1000)],
        lambda: [bytes(random.getrandbits(8) for _ in range(random.randint(1, 3000)))],
        lambda: [b"GET " + b"/" * 200_000 + b" HTTP/1.1\r\n\r\n"],
    )
    return Call("bytes", model, tuple(random.choice(makers)()), note="broken HTTP")


def broken_grpc(random: Random) -> Call:
    """Bytes for the gRPC port that are nearly HTTP/2."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    noise = bytes(random.getrandbits(8) for _ in range(random.randint(1, 600)))
    parts = random.choice(
        (
            (preface, noise),
            (preface + settings + noise,),
            (preface + settings, b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + noise),
            (preface + settings, settings * 500),
            (preface + settings, b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8)),
            (preface[: random.randint(1, 23)],),
            (noise,),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",),
        )
    )
    return Call("grpc_bytes", "", parts, note="broken HTTP/2")
