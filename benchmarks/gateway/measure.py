"""One way at one rate, measured; and the highest rate that a gateway holds."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.processes import JsonProcess, make_flags
from benchmarks.common.report import PROJECT, show_progress_note
from benchmarks.gateway.arrivals import summarize
from benchmarks.gateway.highest import find_highest
from benchmarks.gateway.load import NUMBER, LoadJob
from benchmarks.gateway.page import DIRECT, STREAMED, HighestRate, Probe, Sample
from benchmarks.gateway.servers import HOST, Server
from benchmarks.gateway.upstream import MODEL, TEXT, WORDS, Pace
from trireme.errors import UnavailableError

MESSAGES = [{"role": "user", "content": "How many rows of oars does a trireme have?"}]
# As long, whoever is asked.
VARIED = [{"role": "user", "content": MESSAGES[0]["content"][: -len(NUMBER)] + NUMBER}]
WARMUP_S, TIMEOUT_S, PROBE_TIMEOUT_S = 2.0, 10.0, 5.0
# A server that was flooded goes on with what nobody wants any more: it gets so long to become quick again.
SETTLE_S, QUICK_S = 300.0, 0.5
LOOK_S, IDLE_SHARE = 1.0, 0.15
# A probe has at least so many requests: fewer have no p99.
PROBE_REQUESTS, LONGEST_PROBE_S = 400, 40.0


class Upstream:
    """The fake provider, running."""

    def __init__(self, pace: Pace, folder: Path, answers: Mapping[str, str] | None = None) -> None:
        """answers: by the question's text. Blocks until it listens; raises UnavailableError."""
        command = [sys.executable, "-m", "benchmarks.gateway.upstream", *make_flags(**asdict(pace))]
        if answers is not None:
            file = folder / "answers.json"
            file.write_text(json.dumps(answers), encoding="utf-8")
            command += make_flags(answers=file)
        self._process = JsonProcess(
            "the fake provider", command, folder / "upstream.log", os.environ, PROJECT
        )
        self.server = Server(DIRECT, self._process.read("with its port ", 30.0)["port"])

    def read_stats(self) -> dict[str, int]:
        return dict(json.loads(fetch(f"http://{HOST}:{self.server.port}/stats")))

    def stop(self) -> None:
        self._process.stop()


class Load:
    """The load generator, running."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.gateway.load"]
        self._process = JsonProcess("the load generator", command, folder / "load.log", os.environ, PROJECT)

    def run(self, job: LoadJob) -> dict[str, Any]:
        """Blocks until it is over; raises UnavailableError."""
        limit = job.warmup_s + job.seconds + job.timeout_s + 60.0
        return self._process.ask(asdict(job), limit)

    def stop(self) -> None:
        self._process.stop()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent to whichever way: mode, requests a second, seconds after the warm-up, and the moments' seed.

    look_s: for how long a server must rest after it.
    """

    mode: str
    rate: float
    seconds: float
    seed: int
    timeout_s: float = TIMEOUT_S
    warmup_s: float = WARMUP_S
    look_s: float = LOOK_S


def make_job(server: Server, plan: Plan) -> LoadJob:
    """The same body for every way, but for a number in its place."""
    is_streamed = plan.mode == STREAMED
    return LoadJob(
        port=server.port,
        rate=plan.rate,
        seconds=plan.seconds,
        seed=plan.seed,
        body={
            "model": MODEL,
            "messages": VARIED if server.is_varied else MESSAGES,
            "stream": is_streamed,
        },
        expected=WORDS[-1] if is_streamed else TEXT,
        headers=server.headers,
        warmup_s=plan.warmup_s,
        timeout_s=plan.timeout_s,
    )


def measure(load: Load, server: Server, plan: Plan, number: int = 0) -> Sample:
    """One sample of round `number`. Blocks until the server is quiet again."""
    job = make_job(server, plan)
    before = server.read_cpu_s()
    done = load.run(job)
    spent = server.read_cpu_s() - before
    sample = Sample(
        way=server.name,
        mode=plan.mode,
        rate=plan.rate,
        round=number,
        requests=done["requests"],
        failed=done["failed"],
        late=done["late"],
        total=summarize(done["total_ms"]),
        first=summarize(done["first_ms"]) if done["first_ms"] else None,
        cpu_ms=1000 * spent / max(done["sent"], 1),
        load=round(os.getloadavg()[0], 2),
        errors=done["errors"],
    )
    settle(server, plan.look_s)
    return sample


def settle(server: Server, look_s: float = LOOK_S) -> None:
    """Waits until it answers one request quickly and does nothing else any more for `look_s`.

    Raises UnavailableError where it does not within SETTLE_S.
    """
    until = time.monotonic() + SETTLE_S
    while time.monotonic() < until:
        if is_quick(server) and is_idle(server, look_s):
            return
    raise UnavailableError(f"{server.name} does not come to rest any more")


def is_quick(server: Server) -> bool:
    """Whether it answers one request soon; waits a second where it does not."""
    body = json.dumps({"model": MODEL, "messages": MESSAGES}).encode()
    headers = {"content-type": "application/json", **server.headers}
    began = time.monotonic()
    try:
        fetch(f"http://{HOST}:{server.port}/v1/chat/completions", body, headers, timeout=10.0)
    except (urllib.error.URLError, OSError):
        time.sleep(1.0)
        return False
    return time.monotonic() - began < QUICK_S


def is_idle(server: Server, look_s: float = LOOK_S) -> bool:
    """Whether its processes rest for so long. A flooded gateway goes on with requests whose clients are gone: that
    would be measured as the next one's time."""
    if not server.pid:
        return True
    before = server.read_cpu_s()
    time.sleep(look_s)
    return server.read_cpu_s() - before < IDLE_SHARE * look_s


def fetch(
    url: str, body: bytes | None = None, headers: dict[str, str] | None = None, timeout: float = 5.0
) -> bytes:
    """A page's bytes; POST where there is a body."""
    with urllib.request.urlopen(urllib.request.Request(url, body, headers or {}), timeout=timeout) as answer:
        return bytes(answer.read())


class Search:
    """Looks for the highest rate of each way; what the direct way takes at a rate is measured once."""

    def __init__(self, load: Load, upstream: Server, seed: int, seconds: float, bound_ms: float) -> None:
        self._load, self._upstream, self._seed = load, upstream, seed
        self._seconds, self._bound_ms = seconds, bound_ms
        self._direct: dict[tuple[str, float], Sample] = {}

    def find(self, server: Server, mode: str, grid: Sequence[float]) -> HighestRate:
        """Blocks for minutes."""
        probes: list[Probe] = []

        def holds(rate: float) -> bool:
            # Once more: one disturbed run must not decide.
            for _ in range(2):
                probes.append(self._probe(server, mode, rate))
                if probes[-1].held:
                    break
            return probes[-1].held

        rate = find_highest(list(grid), holds)
        show_progress_note(f"{server.name}, {mode}: {rate:g} requests a second hold")
        return HighestRate(server.name, mode, rate, tuple(probes))

    def _probe(self, server: Server, mode: str, rate: float) -> Probe:
        direct = self._direct.get((mode, rate))
        if direct is None:
            direct = self._direct[mode, rate] = self._measure(self._upstream, mode, rate)
        sample = self._measure(server, mode, rate)
        added = compute_added_p99(sample, direct)
        held = added <= self._bound_ms and not sample.failed
        show_progress_note(f"{server.name}, {mode}, {rate:g}/s: p99 {added:+.1f} ms, {sample.failed} failed")
        return Probe(rate, round(added, 3), sample.failed, held)

    def _measure(self, server: Server, mode: str, rate: float) -> Sample:
        seconds = min(max(self._seconds, PROBE_REQUESTS / rate), LONGEST_PROBE_S)
        return measure(self._load, server, Plan(mode, rate, seconds, self._seed, PROBE_TIMEOUT_S))


def compute_added_p99(sample: Sample, direct: Sample) -> float:
    """Milliseconds; of a stream's first content or its end, whichever is more."""
    added = [sample.total.p99_ms - direct.total.p99_ms]
    if sample.first is not None and direct.first is not None:
        added.append(sample.first.p99_ms - direct.first.p99_ms)
    return max(added)


def measure_rounds(load: Load, servers: Sequence[Server], rounds: Sequence[Sequence[Plan]]) -> list[Sample]:
    """Each way by each plan of each round, in turns whose order alternates. Blocks for minutes."""
    samples = []
    for number, plans in enumerate(rounds):
        for plan in plans:
            for server in servers if number % 2 == 0 else list(reversed(servers)):
                samples.append(measure(load, server, plan, number))
                show_progress_note(describe(samples[-1]))
    return samples


def describe(sample: Sample) -> str:
    """In one line."""
    seen = sample.first or sample.total
    return (
        f"round {sample.round + 1}, {sample.mode}, {sample.rate:g}/s, {sample.way}: p50 {seen.p50_ms:.2f}, "
        f"p99 {seen.p99_ms:.2f} ms, CPU {sample.cpu_ms:.2f} ms, failed {sample.failed}, late {sample.late}, "
        f"load {sample.load:.1f} {sample.errors or ''}"
    )
