"""A replica of a region: answers each call with the region's name, after so long as the call says.

The body of a call is a number of milliseconds; of a stream, those until its first message.
"""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from trireme.scale.routes import INFER, STREAM

# What one works on at once; others wait.
AT_ONCE = 64
_SERVING = b"\x08\x01"


def serve(address: str, region: str) -> Any:
    """A running server at host:port."""
    name = region.encode()

    def infer(body: bytes, context: Any) -> bytes:
        _work(body)
        return name

    def stream(bodies: Iterator[bytes], context: Any) -> Iterator[bytes]:
        _work(next(bodies))
        yield name
        yield name

    service, method = INFER.strip("/").split("/")
    _, streamed = STREAM.strip("/").split("/")
    handlers = {
        method: grpc.unary_unary_rpc_method_handler(infer),
        streamed: grpc.stream_stream_rpc_method_handler(stream),
    }
    check = grpc.unary_unary_rpc_method_handler(lambda body, context: _SERVING)
    # As a tritonserver behind Envoy: pings are no attack.
    server = grpc.server(ThreadPoolExecutor(AT_ONCE), options=[("grpc.http2.max_ping_strikes", 0)])
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(service, handlers),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),
        )
    )
    server.add_insecure_port(address)
    server.start()
    return server


def _work(body: bytes) -> None:
    time.sleep(float(body or b"0") / 1e3)


def main() -> int:
    """Serves until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="host:port")
    parser.add_argument("region")
    options = parser.parse_args()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    server = serve(options.address, options.region)
    ended.wait()
    server.stop(None).wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
