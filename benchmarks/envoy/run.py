"""The time that Envoy adds to a gRPC call on one machine: calls direct and through it in turn, of one client.

Client and server are grpcio in one process, which costs both ways the same; Envoy has its default settings.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc

from benchmarks.common.report import DOCS, RESULTS, read_circumstances, render, write_json, write_section
from benchmarks.common.script import make_parser, run_script
from trireme.errors import UnavailableError
from trireme.machine import pick_ports
from trireme.scale.endpoints import Endpoint, write_near
from trireme.scale.envoy import arguments, bootstrap, find_envoy
from trireme.scale.routes import INFER, MODEL_HEADER
from trireme.scale.value_readers import Address
from trireme.scale.values import parse_values

# A question, and 64 vectors of 1,500 dimensions.
SIZES = {"64 bytes": 64, "375 KiB": 375 << 10}
START_SECONDS = 30.0
Call = Callable[[bytes], bytes]


def measure(call: Call, other: Call, size: int, calls: int) -> tuple[float, float]:
    """Medians of both, in milliseconds."""
    body = b"x" * size
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(calls):
        for one, times in zip((call, other), taken, strict=True):
            began = time.perf_counter()
            one(body)
            times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken[0]), statistics.median(taken[1])


@contextmanager
def echo_server() -> Iterator[int]:
    """A server that gives every call its own body back, and its port."""
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.http2.max_ping_strikes", 0)])
    service, method = INFER.strip("/").split("/")
    echo = grpc.unary_unary_rpc_method_handler(lambda body, context: body)
    serving = grpc.unary_unary_rpc_method_handler(lambda body, context: b"\x08\x01")
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(service, {method: echo}),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": serving}),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@contextmanager
def envoy_before(port: int, folder: Path) -> Iterator[int]:
    """Envoy before one server, and its port of gRPC. Raises UnavailableError when it does not start."""
    values = parse_values({"models": {"all": {"serves": ["all"], "idempotent": ["all"]}}}, "benchmark")
    names = ("listen", "admin", "metrics")
    own = {
        name: Address("127.0.0.1", one)
        for name, one in zip(names, pick_ports("127.0.0.1", len(names)), strict=True)
    }
    values = dataclasses.replace(values, envoy=dataclasses.replace(values.envoy, **own))
    write_near(folder, "all", [Endpoint("127.0.0.1", port)])
    file = folder / "envoy.json"
    file.write_text(json.dumps(bootstrap(values, endpoints=folder)), encoding="utf-8")
    process = subprocess.Popen(arguments(find_envoy(), file, values.envoy), stderr=subprocess.DEVNULL)
    try:
        address = f"127.0.0.1:{values.envoy.listen.port}"
        with closing(grpc.insecure_channel(address)) as channel:
            try:
                call_over(channel)(b"", timeout=START_SECONDS, wait_for_ready=True)
            except grpc.RpcError as error:
                raise UnavailableError(f"Envoy does not answer: {error.details()}") from None
        yield values.envoy.listen.port
    finally:
        process.terminate()
        process.wait()


def call_over(channel: Any) -> Any:
    """Calls the server at the other end."""
    call = channel.unary_unary(INFER)
    return lambda body, **more: call(body, metadata=[(MODEL_HEADER, "all")], **more)


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures, writes results and the page's section."""
    seen = read_circumstances("benchmarks.envoy.run", words, seed=0)
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        echo_server() as port,
        envoy_before(port, Path(folder)) as before,
    ):
        channels = [grpc.insecure_channel(f"127.0.0.1:{one}") for one in (port, before)]
        direct, through = map(call_over, channels)
        for name, size in SIZES.items():
            measure(direct, through, size, options.calls // 10)
            runs = sorted(
                (measure(direct, through, size, options.calls) for _ in range(options.runs)),
                key=lambda run: run[1] - run[0],
            )
            rows.append(
                {
                    "body": name,
                    "runs": [{"direct_ms": a, "through_ms": b, "added_ms": b - a} for a, b in runs],
                }
            )
        for channel in channels:
            channel.close()
    write_json(
        RESULTS / "envoy.json", {"seen": dataclasses.asdict(seen), "calls": options.calls, "rows": rows}
    )
    section = render("envoy/added.md.j2", rows=rows, seen=seen, calls=options.calls, runs=options.runs)
    write_section(DOCS / "envoy.md", "added time", section)
    print(section)


def main() -> int:
    """Returns the exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--calls", type=int, default=2_000, help="each way, in each run")
    parser.add_argument("--runs", type=int, default=5)
    return run_script(parser, work)


if __name__ == "__main__":
    raise SystemExit(main())
