"""Requests a second that one replica carries before its p95 bends: `scale.target` of a CPU entry.

Requests come at random moments (Poisson), whatever the answers do, first so few that none waits, then twice as many
again and again until the p95 bends, then between the last two. Starts a database and a server of its own, with the
documents of docs/ indexed; the client shares the machine with them. Writes benchmarks/results/scaling-target.json,
from which `python -m benchmarks.scaling.run` makes the section of docs/autoscaling.md.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks.common.processes import find_session, read_session_time
from benchmarks.common.report import (
    DOCS,
    RESULTS,
    Circumstances,
    read_circumstances,
    show_progress_note,
    write_json,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.common.stack import start_own_stack
from benchmarks.gateway.arrivals import make_arrivals
from trireme.errors import TriremeError
from trireme.triton.async_client import AsyncTritonClient
from trireme.tune.perf_analyzer import compute_percentile
from trireme.tune.workload import draw_texts, read_paragraphs, write_corpus

SEED = 1
RECORD = "scaling-target.json"
# The first rate, requests a second: so few that each finds the server idle.
QUIET = {"embedding": 4.0, "search": 2.0}
# It has bent at so many times the p95 of the first rate, and so many milliseconds beyond it: of 7 ms, twice as much
# is noise.
BEND, BEND_MS = 2.0, 25.0
# Between the last rate that held and the first that did not, so many times the middle.
HALVINGS = 3
RUNS = 3
WORDS = (6, 16)

Ask = Callable[[str], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Step:
    """One rate, medians of RUNS. failed: of all runs. cpu_ms: processor time of the server for a request.

    others: share of the machine's processor time that neither server nor client took.
    """

    rate: float
    requests: int
    p50_ms: float
    p95_ms: float
    failed: int
    cpu_ms: float
    others: float


@dataclass(frozen=True, slots=True)
class Found:
    """A model's rates, ascending, and the highest below its bend. busy: share of the cores that it took there."""

    model: str
    steps: tuple[Step, ...]
    target: float
    busy: float


@dataclass(frozen=True, slots=True)
class Targets:
    """benchmarks/results/scaling-target.json."""

    found: tuple[Found, ...]
    seconds: float
    load_after: float
    circumstances: Circumstances


async def run_open_loop(ask: Ask, texts: Sequence[str], moments: Sequence[float]) -> tuple[list[float], int]:
    """Milliseconds of each request from its moment, and how many failed. A failed one has a time as well."""
    began = time.monotonic()
    times: list[float] = []
    failed = 0

    async def one(text: str, at: float) -> None:
        nonlocal failed
        await asyncio.sleep(max(0.0, began + at - time.monotonic()))
        try:
            await ask(text)
        except TriremeError:
            failed += 1
        times.append(1e3 * (time.monotonic() - began - at))

    await asyncio.gather(*(one(text, at) for text, at in zip(cycle(texts), moments, strict=False)))
    return times, failed


class Meter:
    """Runs rates against one model. Mutable: its random texts go on, so that no two requests are alike."""

    def __init__(self, ask: Ask, session: int, paragraphs: Sequence[str], seconds: float) -> None:
        """session: of the server's processes."""
        self._ask, self._session, self._seconds = ask, session, seconds
        self._paragraphs = paragraphs
        self._runs = 0

    async def run(self, rate: float) -> Step:
        """Blocks the task for RUNS times the seconds; a server that falls behind is waited for."""
        runs = [await self._run_once(rate) for _ in range(RUNS)]
        p50, p95, cpu, others = (statistics.median(run[k] for run in runs) for k in range(4))
        step = Step(
            rate=round(rate, 2),
            requests=int(sum(run[4] for run in runs)),
            p50_ms=round(p50, 2),
            p95_ms=round(p95, 2),
            failed=int(sum(run[5] for run in runs)),
            cpu_ms=round(cpu, 2),
            others=round(others, 3),
        )
        show_progress_note(
            f"{step.rate:g} a second: p95 {step.p95_ms:.0f} ms, {step.cpu_ms:.1f} ms of CPU each"
        )
        return step

    async def _run_once(self, rate: float) -> tuple[float, float, float, float, int, int]:
        self._runs += 1
        rng = random.Random(f"target {self._runs}")  # noqa: S311
        moments = make_arrivals(rate, self._seconds, self._runs) or [0.0]
        texts = draw_texts([" ".join(self._paragraphs)], len(moments) + 1, WORDS, rng)[1:]
        server, own, all_busy = self._read_times()
        began = time.monotonic()
        times, failed = await run_open_loop(self._ask, texts, moments)
        wall = time.monotonic() - began
        server, own, all_busy = (
            after - before for after, before in zip(self._read_times(), (server, own, all_busy), strict=True)
        )
        others = max(0.0, all_busy - server - own) / (wall * (psutil.cpu_count() or 1))
        percentiles = (compute_percentile(times, percent) for percent in (50.0, 95.0))
        return (*percentiles, 1e3 * server / len(times), others, len(times), failed)

    def _read_times(self) -> tuple[float, float, float]:
        mine, seen = psutil.Process().cpu_times(), psutil.cpu_times()
        busy = seen.user + seen.nice + seen.system + seen.irq + seen.softirq + seen.steal
        return read_session_time(self._session), mine.user + mine.system, busy


async def find_bend(model: str, run: Callable[[float], Awaitable[Step]], quiet: float, cores: int) -> Found:
    """Doubles from `quiet` on until it bends, then halves the way in between HALVINGS times."""
    first = await run(quiet)
    steps = [first]

    def has_bent(step: Step) -> bool:
        return step.failed > 0 or step.p95_ms > max(BEND * first.p95_ms, first.p95_ms + BEND_MS)

    while not has_bent(steps[-1]):
        steps.append(await run(2 * steps[-1].rate))
    held = steps[-2].rate if len(steps) > 1 else 0.0
    bent = steps[-1].rate
    for _ in range(HALVINGS):
        middle = await run((held + bent) / 2)
        steps.append(middle)
        held, bent = (held, middle.rate) if has_bent(middle) else (middle.rate, bent)
    steps.sort(key=lambda step: step.rate)
    busiest = next(step for step in steps if step.rate >= held)
    return Found(model, tuple(steps), held, round(busiest.cpu_ms / 1e3 * held / cores, 2))


async def measure(url: str, session: int, paragraphs: Sequence[str], seconds: float) -> list[Found]:
    """Each model of QUIET."""
    found = []
    async with AsyncTritonClient(url) as client:
        asks: dict[str, Ask] = {
            "embedding": lambda text: client.embed([text], "query"),
            "search": client.search,
        }
        for model, quiet in QUIET.items():
            show_progress_note(model)
            for _ in range(20):
                await asks[model](paragraphs[0][:80])
            meter = Meter(asks[model], session, paragraphs, seconds)
            found.append(await find_bend(model, meter.run, quiet, psutil.cpu_count() or 1))
    return found


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures, writes results and the page's section. Blocks for minutes."""
    from trireme.indexing import ingest_path

    seen = read_circumstances("benchmarks.scaling.target", words, SEED)
    paragraphs = read_paragraphs(DOCS)
    with tempfile.TemporaryDirectory() as folder, start_own_stack() as (settings, database_url):
        ingest_path(settings, write_corpus(Path(folder), paragraphs), database_url, Console(quiet=True))
        session = find_session(settings.grpc_port)
        url = f"{settings.host}:{settings.grpc_port}"
        found = asyncio.run(measure(url, session, paragraphs, options.seconds))
    record = Targets(tuple(found), options.seconds, round(psutil.getloadavg()[0], 1), seen)
    write_json(RESULTS / RECORD, record)
    for one in found:
        print(f"{one.model}: {one.target:g} requests a second, {one.busy:.0%} of the cores")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of one run of a rate (default 8)")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
