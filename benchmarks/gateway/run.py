"""Measures what the gateway adds, beside LiteLLM's proxy; writes docs/gateway-speed.md and its plot."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from benchmarks.common.report import (
    DOCS,
    RESULTS,
    read_circumstances,
    show_progress_note,
    write_json,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.gateway import ours, rivals
from benchmarks.gateway.disconnects import soak
from benchmarks.gateway.embeddings import measure_embeddings
from benchmarks.gateway.highest import make_grid
from benchmarks.gateway.measure import Load, Plan, Search, Upstream, measure_rounds, settle
from benchmarks.gateway.page import BUDGETED, MODES, GatewayReport, HighestRate, Soak, format_document, plot
from benchmarks.gateway.servers import Server
from benchmarks.gateway.upstream import Pace
from trireme.errors import TriremeError

SEED = 1
RESULT = RESULTS / "gateway.json"
PAGE = DOCS / "gateway-speed.md"
WAYS = (ours.NAME, BUDGETED, rivals.NAME)
LOWEST_RATE, HIGHEST_RATE = 5.0, 2000.0

T = TypeVar("T")


def measure(options: argparse.Namespace, words: Sequence[str]) -> GatewayReport:
    """All parts that are asked for. Raises TriremeError; leaves no process behind."""
    circumstances = read_circumstances("benchmarks.gateway.run", words, SEED)
    missing: dict[str, str] = {}
    pace = Pace()
    with tempfile.TemporaryDirectory(prefix="trireme-") as name, ExitStack() as resources:
        folder = Path(name)
        upstream = Upstream(pace, folder)
        resources.callback(upstream.stop)
        load = Load(folder)
        resources.callback(load.stop)
        servers = start_gateways(options, upstream, folder, resources, missing)
        every = [upstream.server, *servers]
        for server in every:
            settle(server)
        samples = measure_rounds(load, every, make_plans(options))
        search = Search(load, upstream.server, SEED, options.search_seconds, options.bound_ms)
        highest = find_all(search, servers) if options.search_seconds else ()
        soaked = run_soak(options.soak, servers, upstream, missing)
    embeddings = None
    if options.embedding_rounds:
        embeddings = attempt(
            "embeddings", missing, lambda: measure_embeddings(options.embedding_rounds, SEED)
        )
    return GatewayReport(
        samples=tuple(samples),
        highest=highest,
        bound_ms=options.bound_ms,
        delay_ms=1000 * pace.delay_s,
        chunks=pace.chunks,
        gap_ms=1000 * pace.gap_s,
        seconds=options.seconds,
        rounds=options.rounds,
        versions={server.name: server.versions for server in servers if server.versions},
        missing=missing,
        embeddings=embeddings,
        soak=soaked,
        circumstances=circumstances,
    )


def make_plans(options: argparse.Namespace) -> list[list[Plan]]:
    """Of each round what is measured; the moments of requests differ between rounds, not between ways."""
    return [
        [Plan(mode, rate, options.seconds, SEED + number) for mode in MODES for rate in options.rates]
        for number in range(options.rounds)
    ]


def start_gateways(
    options: argparse.Namespace,
    upstream: Upstream,
    folder: Path,
    resources: ExitStack,
    missing: dict[str, str],
) -> list[Server]:
    """Those that start, ours first; why another did not is noted."""
    port = upstream.server.port
    homes = {name: folder / str(number) for number, name in enumerate(WAYS)}
    for home in homes.values():
        home.mkdir()

    def start_ours() -> list[Server]:
        url = resources.enter_context(ours.start_database(folder / "database"))
        return [resources.enter_context(ours.start_gateway(port, homes[ours.NAME], url))]

    def start_budgeted() -> list[Server]:
        # A database of its own: the budgets of one hold for every gateway.
        url = resources.enter_context(ours.start_database(folder / "budgets"))
        return resources.enter_context(ours.start_budgeted(port, homes[BUDGETED], url))

    def start_rival() -> list[Server]:
        started = rivals.start_litellm(options.litellm, port, homes[rivals.NAME])
        return [resources.enter_context(started)]

    wanted = {ours.NAME: start_ours, BUDGETED: start_budgeted, rivals.NAME: start_rival}
    found: list[Server] = []
    for name, start in wanted.items():
        if name in options.without:
            missing[name] = "left out"
            continue
        show_progress_note(f"Starting {name}")
        found += attempt(name, missing, start) or []
    return found


def attempt(what: str, missing: dict[str, str], do: Callable[[], T]) -> T | None:
    """What `do` gives; where it fails, None, and the reason among `missing`."""
    try:
        return do()
    except TriremeError as error:
        missing[what] = str(error)
        show_progress_note(f"{what}: {error}")
        return None


def find_all(search: Search, servers: Sequence[Server]) -> tuple[HighestRate, ...]:
    """Of each mode, and of ours and the rival."""
    grid = make_grid(LOWEST_RATE, HIGHEST_RATE)
    compared = [server for server in servers if server.name in (ours.NAME, rivals.NAME)]
    return tuple(search.find(server, mode, grid) for mode in MODES for server in compared)


def run_soak(
    seconds: float, servers: Sequence[Server], upstream: Upstream, missing: dict[str, str]
) -> Soak | None:
    """Of our own gateway alone."""
    found = [server for server in servers if server.name == ours.NAME]
    if not seconds or not found:
        return None
    return attempt("clients that go away", missing, lambda: soak(found[0], upstream, seconds, SEED))


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures, and writes the results, the page and the plot."""
    report = measure(options, words)
    if options.print:
        print(format_document(report))
        return
    write_json(RESULT, report)
    PAGE.write_text(format_document(report), encoding="utf-8")
    plot(report, DOCS)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    rates, bound = "requests a second of the rounds", "what a gateway may add to the p99 at its highest rate"
    parser.add_argument("--rates", type=float, nargs="+", default=[10.0, 50.0, 200.0], help=rates)
    parser.add_argument("--seconds", type=float, default=20.0, help="of one run (default 20)")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--bound-ms", type=float, default=100.0, help=f"{bound} (default 100)")
    parser.add_argument("--search-seconds", type=float, default=8.0, help="of one try; 0: no search")
    parser.add_argument("--soak", type=float, default=600.0, help="seconds of dropped streams; 0: none")
    parser.add_argument("--embedding-rounds", type=int, default=5, help="0: no embeddings")
    parser.add_argument("--without", nargs="*", default=[], choices=WAYS, help="leave a gateway out")
    parser.add_argument("--litellm", type=Path, default=rivals.ENVIRONMENT, help="LiteLLM's environment")
    parser.add_argument("--print", action="store_true", help="print the page and write nothing")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
