"""Ten times the load that is sustainable: what answers that are let in take, how soon the others are refused."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.common.processes import list_family
from benchmarks.common.report import (
    DOCS,
    RESULTS,
    Circumstances,
    read_circumstances,
    render,
    show_progress_note,
    write_json,
    write_section,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.common.stack import start_server
from benchmarks.gateway import ours
from benchmarks.gateway.clock import Clock
from benchmarks.gateway.disconnects import read_memory
from benchmarks.gateway.fake_llm import place_fake_llm
from benchmarks.gateway.load import NUMBER, LoadJob, Pool, Sender, Sent
from benchmarks.gateway.measure import fetch
from benchmarks.gateway.phases import Phase, describe, read_load, summarize
from benchmarks.gateway.servers import HOST, Server, run_process
from benchmarks.gateway.sums import Sums, read_sums
from trireme.access.priorities import PRIORITIES
from trireme.machine import pick_ports
from trireme.observe import metrics as names

SEED = 1
RESULT = RESULTS / "gateway-overload.json"
PAGE, SECTION = DOCS / "degradation.md", "overload"
MODEL, SEATS, STEP_S = "llm", 8, 0.02
# Of answers, as many of each: were all as long, those that begin together would end together.
TOKENS = (8, 12, 20, 24)
# Of the requests, those of each priority.
SHARES = {"batch": 0.5, "normal": 0.45, "high": 0.05}
POLICY = f"""[cache]
exact = "off"

[degrade.{MODEL}]
running = {SEATS}
waiting = 64
reserved = 1
refuse = {{batch = 0.05, normal = 0.1, high = 0.2}}
"""
# Of the rate at which every seat is taken all the time.
SUSTAINABLE_SHARE = 0.8
SATURATED_S = 8.0
TIMEOUT_S = 60.0
# Of the text that is asked, longer than the answer.
WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"


@dataclass(frozen=True, slots=True)
class OverloadReport:
    """One run. saturated: answers a second with every seat taken. empty_s: from the end of the overload until
    nobody stands in line, by a gauge of the last 0.25 s. rss_mib: of the gateway, each second of the overload.
    nice: of all sessions of the run; below 0 where the machine did other work.
    """

    saturated: float
    times: float
    phases: tuple[Phase, ...]
    empty_s: float
    rss_mib: tuple[float, ...]
    nice: int
    circumstances: Circumstances


@dataclass(slots=True)
class _Sending:
    """Requests of one priority, with answers of one length."""

    priority: str
    pool: Pool
    sender: Sender


class _Saturating(Pool):
    """So many requests in flight all the time, until it is told to stop."""

    def __init__(self, job: LoadJob) -> None:
        super().__init__(job)
        self.count, self.goes_on = 0, True

    def ended(self, sent: Sent) -> None:
        self.count += not sent.error
        if self.goes_on:
            self.send(Sent(time.monotonic(), counts=True))
        super().ended(sent)


def measure(options: argparse.Namespace, words: Sequence[str]) -> OverloadReport:
    """Starts everything, and ends it. Blocks for as long as it is told; raises TriremeError."""
    circumstances = read_circumstances("benchmarks.gateway.overload", words, SEED)
    with tempfile.TemporaryDirectory(prefix="trireme-") as name:
        folder = Path(name)
        with _serve(folder) as (server, secrets, triton_port):
            import uvloop

            if options.nice:
                set_nice(options.nice)
            return uvloop.run(_drive(_Run(server, secrets, triton_port), options, circumstances))


def set_nice(nice: int) -> None:
    """Of the scheduler's groups of this process and all below it, each session one. Raises OSError."""
    for process in list_family(os.getpid()):
        Path(f"/proc/{process.pid}/autogroup").write_text(str(nice), encoding="ascii")


@contextmanager
def _serve(folder: Path) -> Iterator[tuple[Server, dict[str, str], int]]:
    """A gateway over a tritonserver with the fake LLM, a key of each priority, and the port of Triton's metrics."""
    (folder / "models").mkdir()
    place_fake_llm(folder / "models", MODEL, step_seconds=STEP_S, seats=SEATS)
    home = folder / "gateway"
    (home / "data").mkdir(parents=True)
    (home / "gateway.toml").write_text(POLICY, encoding="utf-8")
    show_progress_note("Starting PostgreSQL, tritonserver and a gateway")
    with ours.start_database(folder / "database") as url, start_server(folder / "models") as triton:
        [port] = pick_ports(HOST, 1)
        config = triton.config
        ports = {
            "TRIREME_HOST": config.host,
            "TRIREME_HTTP_PORT": str(config.http_port),
            "TRIREME_GRPC_PORT": str(config.grpc_port),
            "TRIREME_METRICS_PORT": str(config.metrics_port),
        }
        environ = ours.make_environ(home, port, url, ports)
        secrets = {one: ours.create_key(environ, home, "--priority", one) for one in PRIORITIES}
        page = f"http://{HOST}:{port}/healthz"
        command = [*ours.TRIREME, "gateway"]
        with run_process(home, command, environ, page=page, seconds=ours.START_S) as process:
            yield Server(ours.NAME, port, pid=process.pid), secrets, config.metrics_port


@dataclass(frozen=True, slots=True)
class _Run:
    """What one run asks, and where its figures are read."""

    server: Server
    secrets: dict[str, str]
    triton_port: int

    async def sums(self) -> Sums:
        """As of now."""
        return await asyncio.to_thread(read_sums, self.server, self.triton_port, MODEL)


async def _drive(run: _Run, options: argparse.Namespace, circumstances: Circumstances) -> OverloadReport:
    server, secrets = run.server, run.secrets
    saturated = await _saturate(server, secrets["high"])
    rate = SUSTAINABLE_SHARE * saturated
    show_progress_note(f"{saturated:.1f} answers a second with every seat taken; sustainable: {rate:.1f}")
    clock = Clock(asyncio.get_running_loop())
    phases, rss = [], list[float]()
    try:
        first = await run.sums()
        before = await _run(_start(server, secrets, _Load(rate, options.around, 1), clock))
        second = await run.sums()
        phases.append(summarize("sustainable", rate, options.around, before, second.since(first)))
        show_progress_note(describe(phases[-1]))
        watch = asyncio.create_task(_watch(server.pid, rss))
        over = _start(server, secrets, _Load(options.times * rate, options.seconds, 2), clock)
        await asyncio.gather(*(one.sender.finished.wait() for one in over))
        watch.cancel()
        ended, load = time.monotonic(), read_load()
        # The next load begins while the last answers of this one still come.
        coming = _start(server, secrets, _Load(rate, options.around, 3), clock)
        empty = await _wait_until_empty(server, ended)
        third = await run.sums()
        after = await _run(coming)
        over_sums = third.since(second)
        phases.append(
            replace(
                summarize("overload", options.times * rate, options.seconds, await _run(over), over_sums),
                load=load,
            )
        )
        phases.append(summarize("after", rate, options.around, after, (await run.sums()).since(third)))
        for phase in phases[1:]:
            show_progress_note(describe(phase))
    finally:
        clock.close()
    return OverloadReport(
        saturated=round(saturated, 2),
        times=options.times,
        phases=tuple(phases),
        empty_s=round(empty, 2),
        rss_mib=tuple(rss),
        nice=options.nice,
        circumstances=circumstances,
    )


async def _saturate(server: Server, secret: str) -> float:
    pools = [_Saturating(_job(server, secret, _Load(1.0, 1.0, 0), tokens)) for tokens in TOKENS]
    for place in range(SEATS):
        pools[place % len(pools)].send(Sent(time.monotonic(), counts=True))
    # Connections and means are made first.
    await asyncio.sleep(2.0)
    before, began = [pool.count for pool in pools], time.monotonic()
    await asyncio.sleep(SATURATED_S)
    elapsed = time.monotonic() - began
    # Each length has as many seats, and short answers come more often than they will be asked for.
    took = [
        elapsed * SEATS / len(pools) / (pool.count - one) for pool, one in zip(pools, before, strict=True)
    ]
    for pool in pools:
        pool.goes_on = False
        await asyncio.wait_for(pool.idle.wait(), TIMEOUT_S)
        await pool.close()
    return SEATS / (sum(took) / len(took))


@dataclass(frozen=True, slots=True)
class _Load:
    """Requests of all priorities: how many a second, for how long. number: its place in the run, for the seed."""

    rate: float
    seconds: float
    number: int


def _start(server: Server, secrets: dict[str, str], load: _Load, clock: Clock) -> list[_Sending]:
    found = []
    for priority in PRIORITIES:
        for tokens in TOKENS:
            part = replace(load, rate=SHARES[priority] * load.rate / len(TOKENS))
            job = _job(server, secrets[priority], part, tokens)
            pool = Pool(job)
            found.append(_Sending(priority, pool, Sender(job, pool, clock)))
    return found


def _job(server: Server, secret: str, load: _Load, tokens: int) -> LoadJob:
    # No two questions are equal.
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"{NUMBER} {WORDS}"}],
        "max_tokens": tokens,
    }
    return LoadJob(
        port=server.port,
        rate=load.rate,
        seconds=load.seconds,
        seed=SEED + 100 * load.number + tokens,
        body=body,
        expected='"finish_reason"',
        headers={"authorization": f"Bearer {secret}"},
        warmup_s=0.0,
        timeout_s=TIMEOUT_S,
    )


async def _run(all_of_them: Sequence[_Sending]) -> Sequence[_Sending]:
    """Until each has an answer."""
    for one in all_of_them:
        await one.sender.finished.wait()
        await asyncio.wait_for(one.pool.idle.wait(), TIMEOUT_S)
        await one.pool.close()
    return all_of_them


async def _watch(pid: int, rss: list[float]) -> None:
    while True:
        size, _ = await asyncio.to_thread(read_memory, pid)
        rss.append(round(size, 1))
        await asyncio.sleep(1.0)


async def _wait_until_empty(server: Server, since: float) -> float:
    """Seconds from `since` until nobody stands in line, as the gateway's metrics say it four times a second."""
    while time.monotonic() - since < TIMEOUT_S:
        page = await asyncio.to_thread(fetch, f"http://{HOST}:{server.port}/metrics")
        if read_waiting(page.decode()) == 0:
            return time.monotonic() - since
        await asyncio.sleep(0.05)
    return TIMEOUT_S


def read_waiting(page: str) -> float:
    """Requests in the line of the route, of a page of metrics."""
    start = f'{names.ROUTE_WAITING.name}{{model="{MODEL}"}} '
    return sum(float(line.removeprefix(start)) for line in page.splitlines() if line.startswith(start))


def format_section(report: OverloadReport) -> str:
    """What docs/degradation.md says of it."""
    return render(
        "gateway/overload.md.j2",
        report=report,
        seen=report.circumstances,
        seats=SEATS,
        shares=SHARES,
        tokens=", ".join(map(str, TOKENS)),
        step_ms=1000 * STEP_S,
        over=next(phase for phase in report.phases if phase.name == "overload"),
        before=report.phases[0],
    )


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures, and writes the results and the section."""
    report = measure(options, words)
    if options.print:
        print(format_section(report))
        return
    write_json(RESULT, report)
    write_section(PAGE, SECTION, format_section(report))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of overload (default 600)")
    parser.add_argument("--around", type=float, default=30.0, help="of sustainable load before and after it")
    parser.add_argument("--times", type=float, default=10.0, help="the sustainable load (default 10)")
    parser.add_argument(
        "--nice", type=int, default=0, help="of this run's sessions, on a machine that is shared"
    )
    parser.add_argument("--print", action="store_true", help="print the section and write nothing")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
