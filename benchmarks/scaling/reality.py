"""Starts and stops real tritonservers as a policy says, under a real load, and compares with what the model says.

The servers hold a model that sleeps as long as a request says: service times are known, and the processor, which
all replicas share here, decides nothing. Starting, warming up, queueing, draining and the queue's metrics are real.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.common.report import Circumstances, show_progress_note
from benchmarks.scaling.fleet import LATENCIES, Fleet, Sample, Timing
from benchmarks.scaling.load import Load, Request, make_steps
from benchmarks.scaling.outcome import LATE_S, count_turns, pick_quantile
from benchmarks.scaling.policies import Controller, Knobs, Policy, ours
from benchmarks.scaling.service import Point, Service
from trireme.errors import UnavailableError
from trireme.machine import pick_ports
from trireme.observe import metrics as table
from trireme.settings import read_settings
from trireme.triton.client import TritonClient
from trireme.triton.metrics import read_metrics, read_samples
from trireme.triton.server import ServerConfig, TritonServer

MODEL = "sleeper"
FOLDER = Path(__file__).parent / MODEL
# An address for each server: no two pick the same ports.
HOST = "127.0.1.{}"
PLACES = 2
SERVERS = 3
# A clock that runs faster than a cluster's, so that minutes show what there takes an hour.
TIMING = Timing(scrape_s=5.0, delay_s=5.0, least_drain_s=5.0)
KNOBS = Knobs(drain_s=20.0, window_s=15.0, down_window_s=30.0)
RATES = ((0.0, 1.5), (30.0, 6.0), (120.0, 1.5))
LOAD_S = 200.0
# Milliseconds of a request.
SHORTEST, LONGEST = 200, 1000
PENDING = table.TRITON_PENDING.name
PROBE_S = 10.0


@dataclass(frozen=True, slots=True)
class Side:
    """What was measured, or predicted. counts: (seconds, replicas) at each change."""

    late: float
    wait_mean: float
    wait_p50: float
    wait_p95: float
    wait_p99: float
    replica_s: float
    turns: int
    counts: tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True)
class Reality:
    """benchmarks/results/scaling-reality.json. starts: seconds until a server was ready, of each but the first."""

    requests: int
    failed: int
    service: Service
    policy: str
    measured: Side
    predicted: Side
    starts: tuple[float, ...]
    circumstances: Circumstances


class Replica:
    """A tritonserver and a client of it. Mutable."""

    def __init__(self, folder: Path, number: int) -> None:
        """Starts the server and returns at once. Raises TriremeError."""
        host = HOST.format(number + 1)
        http, grpc, metrics = pick_ports(host, 3)
        settings = read_settings()
        config = ServerConfig(
            host=host,
            http_port=http,
            grpc_port=grpc,
            metrics_port=metrics,
            model_repository=folder,
            backend_directory=settings.backend_directory,
            log_file=folder.with_name(f"replica-{number}.log"),
        )
        self.began = time.time()
        self.server = TritonServer(config, dict(os.environ))
        self.client = TritonClient(f"{host}:{grpc}")
        self.in_flight = 0
        self.ended = 0.0

    def wait_until_ready(self) -> float:
        """Seconds from its start. Blocks; raises UnavailableError."""
        self.server.wait_until_ready()
        return time.time() - self.began

    def ask(self, milliseconds: int) -> float:
        """When it began with the request, by the clock of the machine. Blocks."""
        return float(self.client.infer(MODEL, {"milliseconds": [[milliseconds]]})["began"].reshape(-1)[0])

    def count_waiting(self) -> int:
        """Requests in its queue, by its own metrics."""
        page = read_metrics(self.server.config.host, self.server.config.metrics_port)
        return int(sum(value for _, value in read_samples(page, PENDING)))

    def stop(self) -> None:
        """Ends the server."""
        self.client.close()
        self.server.stop()
        self.ended = self.ended or time.time()


def make_load(seed: int) -> Load:
    """RATES, with times of service that are drawn evenly."""
    rng = random.Random(f"sleep {seed}")  # noqa: S311
    steps = make_steps(RATES, LOAD_S, seed)
    requests = tuple(Request(one.at, rng.randint(SHORTEST, LONGEST), 0) for one in steps.requests)
    return replace(steps, requests=requests)


def measure_places(replica: Replica) -> tuple[Point, ...]:
    """Milliseconds slept a second by one and by PLACES callers of a running server: what else a request costs."""
    points = []
    for callers in (1, PLACES):
        until = time.monotonic() + PROBE_S

        def call(number: int, until: float = until) -> float:
            rng = random.Random(number)  # noqa: S311
            began, slept = time.monotonic(), 0
            while time.monotonic() < until:
                one = rng.randint(SHORTEST, LONGEST)
                replica.ask(one)
                slept += one
            # By each caller's own time: whoever ends first does not wait for the last.
            return slept / (time.monotonic() - began)

        with ThreadPoolExecutor(callers) as pool:
            rate = sum(pool.map(call, range(callers)))
        points.append(Point(callers, round(rate, 1)))
    return tuple(points)


class RealFleet:
    """Servers behind the fewest-requests rule. Mutable; its lock guards who serves and the counts."""

    def __init__(self, folder: Path, service: Service, first: Replica) -> None:
        self._folder, self._service = folder, service
        self._lock = threading.Lock()
        self._serving = [first]
        self._warming: list[Replica] = []
        self.all = [first]
        self.starts: list[float] = []
        self.offered = 0.0
        self._work = 0.0
        self._arrived = 0
        self._helpers = ThreadPoolExecutor(4 * SERVERS)
        self._jobs: list[Future[None]] = []

    def ask(self, request: Request) -> float:
        """Seconds that a request waited until a server began with it. Blocks; raises TriremeError."""
        sent = time.time()
        with self._lock:
            work = self._service.work_of(request.inputs, 0)
            self.offered += work
            self._arrived += 1
            replica = min(self._serving, key=lambda one: one.in_flight)
            replica.in_flight += 1
        try:
            return max(0.0, replica.ask(request.inputs) - sent)
        finally:
            with self._lock:
                replica.in_flight -= 1

    def read(self, at: float) -> Sample:
        """The metrics of all servers that serve."""
        with self._lock:
            serving = list(self._serving)
            mean = self.offered / self._arrived if self._arrived else 0.0
            offered, count = self.offered, len(self._serving) + len(self._warming)
        waiting = sum(one.count_waiting() for one in serving)
        nothing = (0,) * (len(LATENCIES) + 1)
        return Sample(at, offered, waiting * mean, waiting, 0, 0, 0.0, nothing, count, len(serving))

    def scale(self, wanted: int) -> None:
        """Starts what lacks, and takes the youngest out, which end when they are done. Does not block."""
        with self._lock:
            have = len(self._serving) + len(self._warming)
            for _ in range(wanted - have):
                replica = Replica(self._folder, len(self.all))
                self.all.append(replica)
                self._warming.append(replica)
                self._jobs.append(self._helpers.submit(self._join, replica))
            for _ in range(have - wanted):
                leaving = self._warming.pop() if self._warming else self._serving.pop()
                self._jobs.append(self._helpers.submit(self._leave, leaving))

    def _join(self, replica: Replica) -> None:
        try:
            taken = replica.wait_until_ready()
        except UnavailableError:
            # One that was told to go while it was starting.
            if replica.ended:
                return
            raise
        with self._lock:
            self.starts.append(round(taken, 2))
            if replica in self._warming:
                self._warming.remove(replica)
                self._serving.append(replica)

    def _leave(self, replica: Replica) -> None:
        time.sleep(TIMING.least_drain_s)
        while replica.in_flight:
            time.sleep(0.1)
        replica.ended = time.time()
        replica.stop()

    def close(self) -> None:
        """Ends all servers, and raises what went wrong behind."""
        for job in self._jobs:
            job.result()
        self._helpers.shutdown()


@contextmanager
def first_replica() -> Iterator[tuple[Path, Replica, list[Replica]]]:
    """A model repository and a server over it; all servers that were added to the list end on leaving."""
    with tempfile.TemporaryDirectory(prefix="trireme-") as name:
        folder = Path(name) / "models"
        (folder / MODEL / "1").mkdir(parents=True)
        for part in ("config.pbtxt", "1/model.py"):
            (folder / MODEL / part).write_text((FOLDER / part).read_text(encoding="utf-8"), encoding="utf-8")
        started: list[Replica] = []
        try:
            first = Replica(folder, 0)
            started.append(first)
            yield folder, first, started
        finally:
            for one in started:
                one.stop()


def drive(fleet: RealFleet, policy: Policy, service: Service, load: Load) -> tuple[list[float], int, Side]:
    """Sends the load at its times while the policy scales. Blocks for as long as the load takes."""
    controller, samples, counts = Controller(policy, service), [], [(0.0, 1)]
    began, waits, next_look = time.time(), [], 0.0
    with ThreadPoolExecutor(512) as pool:
        asked: list[Future[float]] = []
        while len(asked) < len(load.requests) or any(not one.done() for one in asked):
            now = time.time() - began
            if now >= next_look:
                samples.append(fleet.read(next_look))
                visible = samples[: len(samples) - round(TIMING.delay_s / TIMING.scrape_s)]
                have = samples[-1].replicas
                wanted = controller.look(next_look, visible, have, samples[-1].ready)
                if wanted != have:
                    counts.append((next_look, wanted))
                    fleet.scale(wanted)
                next_look += TIMING.scrape_s
            elif len(asked) < len(load.requests) and now >= load.requests[len(asked)].at:
                asked.append(pool.submit(fleet.ask, load.requests[len(asked)]))
            else:
                upcoming = load.requests[len(asked)].at if len(asked) < len(load.requests) else next_look
                time.sleep(max(0.001, min(next_look, upcoming, now + 0.05) - now))
        for one in asked:
            if one.exception() is None:
                waits.append(one.result())
    ended = time.time()
    lives = [(max(one.began, began), min(one.ended or ended, ended)) for one in fleet.all]
    paid = sum(max(0.0, ends - begins) for begins, ends in lives)
    return waits, len(asked) - len(waits), summarize(waits, paid, counts)


def summarize(waits: Sequence[float], paid: float, counts: Sequence[tuple[float, int]]) -> Side:
    """The figures of one side."""
    ordered = sorted(waits)
    return Side(
        late=round(sum(wait > LATE_S for wait in ordered) / len(ordered), 4),
        wait_mean=round(statistics.mean(ordered), 3),
        wait_p50=pick_quantile(ordered, 0.5),
        wait_p95=pick_quantile(ordered, 0.95),
        wait_p99=pick_quantile(ordered, 0.99),
        replica_s=round(paid, 1),
        turns=count_turns(counts),
        counts=tuple(counts),
    )


def predict(policy: Policy, service: Service, load: Load) -> Side:
    """What the model says of the same load."""
    served = Fleet(service, load, 1, TIMING).run(Controller(policy, service).look)
    paid = sum(ends - begins for begins, ends in served.lives)
    return summarize(served.waits, paid, served.counts)


def validate(seen: Circumstances, seed: int) -> Reality:
    """Both sides of one load. Blocks for some four minutes; raises TriremeError."""
    policy = replace(ours(KNOBS), most=SERVERS)
    load = make_load(seed)
    with first_replica() as (folder, first, started):
        warm_up = first.wait_until_ready()
        first.ask(1)
        points = measure_places(first)
        source = "a tritonserver of this run"
        service = Service(MODEL, points, PLACES, SHORTEST, 0, 0.0, 0, round(warm_up, 2), source)
        show_progress_note(f"ready after {warm_up:.1f} s; {points}; {len(load.requests)} requests")
        fleet = RealFleet(folder, service, first)
        fleet.all = started
        waits, failed, measured = drive(fleet, policy, service, load)
        fleet.close()
        starts = tuple(fleet.starts)
    if not waits:
        raise UnavailableError("no request was answered")
    # What it took to start the others beside a load is known by now, and said beside the prediction.
    service = replace(service, warm_up_s=round(statistics.median(starts or (warm_up,)), 2))
    predicted = predict(policy, service, load)
    return Reality(len(load.requests), failed, service, policy.name, measured, predicted, starts, seen)
