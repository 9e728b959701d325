"""The share of calls that a new replica gets over time, by Envoy's balancing and slow start.

Three replicas serve for a while; a fourth is written into the file of endpoints. Each answers at once, so that none
is preferred for being less busy; calls come at an even pace.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks.common.report import RESULTS, Circumstances, read_circumstances, render, write_json
from benchmarks.common.script import make_parser, run_script
from benchmarks.envoy.run import START_SECONDS, call_over
from trireme.errors import UnavailableError
from trireme.machine import pick_ports
from trireme.scale.endpoints import Endpoint, write_near
from trireme.scale.envoy import arguments, bootstrap, find_envoy
from trireme.scale.routes import INFER
from trireme.scale.value_readers import Address
from trireme.scale.values import parse_values

WAYS: dict[str, dict[str, object]] = {
    "leastRequest": {},
    "roundRobin": {"balancing": "roundRobin"},
    "roundRobin, slowStartSeconds 10": {"balancing": "roundRobin", "slowStartSeconds": 10},
    "roundRobin, slowStartSeconds 30": {"balancing": "roundRobin", "slowStartSeconds": 30},
}
# Seconds from the new replica's first health check on, in which its share is counted.
SPANS = ((0, 1), (1, 2), (2, 5), (5, 10), (10, 15), (15, 20), (20, 30), (30, 35))
OLD = 3
RECORD = "envoy-slow-start.json"


@dataclass(frozen=True, slots=True)
class Way:
    """shares: of all calls, the new replica's in each of SPANS, medians of the runs.

    first_s: from its being written into the file until its first call.
    """

    name: str
    shares: tuple[float, ...]
    first_s: float


@dataclass(frozen=True, slots=True)
class SlowStart:
    """benchmarks/results/envoy-slow-start.json."""

    rate: float
    runs: int
    ways: tuple[Way, ...]
    circumstances: Circumstances


class Counter:
    """A server that notes when it was called."""

    def __init__(self) -> None:
        """Starts it on a free port."""
        self.calls: list[float] = []
        service, method = INFER.strip("/").split("/")

        def infer(body: bytes, context: object) -> bytes:
            self.calls.append(time.monotonic())
            return body

        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.http2.max_ping_strikes", 0)])
        handler = grpc.unary_unary_rpc_method_handler
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(service, {method: handler(infer)}),
                grpc.method_handlers_generic_handler(
                    "grpc.health.v1.Health", {"Check": handler(lambda body, context: b"\x08\x01")}
                ),
            )
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self) -> None:
        """Ends it."""
        self._server.stop(None).wait()


@contextmanager
def envoy_of(settings: dict[str, object], folder: Path) -> Iterator[int]:
    """Envoy with such settings, and its port; the file of endpoints of `all` is in `folder`."""
    raw = {"models": {"all": {"serves": ["all"], "maxRequests": 1000}}, "envoy": settings}
    values = parse_values(raw, "benchmark")
    names = ("listen", "admin", "metrics")
    ports = pick_ports("127.0.0.1", len(names))
    own = {name: Address("127.0.0.1", one) for name, one in zip(names, ports, strict=True)}
    values = dataclasses.replace(values, envoy=dataclasses.replace(values.envoy, **own))
    file = folder / "envoy.json"
    file.write_text(json.dumps(bootstrap(values, endpoints=folder)), encoding="utf-8")
    process = subprocess.Popen(arguments(find_envoy(), file, values.envoy), stderr=subprocess.DEVNULL)
    try:
        yield values.envoy.listen.port
    finally:
        process.terminate()
        process.wait()


def run_once(settings: dict[str, object], rate: float) -> tuple[list[float], float]:
    """Shares in SPANS, and seconds until the new replica's first call. Blocks."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        counters = [stack.enter_context(closing(Counter())) for _ in range(OLD + 1)]
        endpoints = [Endpoint("127.0.0.1", one.port) for one in counters]
        write_near(folder, "all", endpoints[:OLD])
        port = stack.enter_context(envoy_of(settings, folder))
        channel = stack.enter_context(closing(grpc.insecure_channel(f"127.0.0.1:{port}")))
        call = call_over(channel)
        try:
            call(b"", timeout=START_SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            raise UnavailableError(f"Envoy does not answer: {error.details()}") from None
        with ThreadPoolExecutor(8) as pool:
            # The old ones begin slowly as well.
            keep_calling(call, pool, rate, 2.0 + float(str(settings.get("slowStartSeconds", 1))))
            write_near(folder, "all", endpoints)
            began = time.monotonic()
            keep_calling(call, pool, rate, SPANS[-1][1] + 1.0)
        return count_shares([one.calls for one in counters], began)


def keep_calling(call: object, pool: ThreadPoolExecutor, rate: float, seconds: float) -> None:
    """An even pace, whatever the answers take."""
    began = time.monotonic()
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        pool.submit(call, b"x")  # type: ignore[arg-type]


def count_shares(calls: Sequence[Sequence[float]], began: float) -> tuple[list[float], float]:
    """Of the last of `calls`, counted from its first one on; that itself from `began` on. Without one all are 0."""
    new = calls[-1]
    if not new:
        return [0.0] * len(SPANS), -1.0
    first = new[0]
    shares = []
    for low, high in SPANS:
        counts = [sum(low <= at - first < high for at in one) for one in calls]
        shares.append(counts[-1] / max(1, sum(counts)))
    return shares, first - began


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures, and writes the results and the page's table."""
    seen = read_circumstances("benchmarks.envoy.slow_start", words, seed=0)
    ways = []
    for name, settings in WAYS.items():
        runs = [run_once(settings, options.rate) for _ in range(options.runs)]
        shares = [
            round(statistics.median(column), 3) for column in zip(*(run[0] for run in runs), strict=True)
        ]
        ways.append(Way(name, tuple(shares), round(statistics.median(run[1] for run in runs), 2)))
        print(ways[-1], flush=True)
    record = SlowStart(options.rate, options.runs, tuple(ways), seen)
    write_json(RESULTS / RECORD, record)
    print(format_table(record))


def format_table(record: SlowStart) -> str:
    """What docs/autoscaling.md shows."""
    return render("envoy/slow_start.md.j2", record=record, spans=SPANS, old=OLD)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second (default 100)")
    parser.add_argument("--runs", type=int, default=3, help="of each way (default 3)")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
