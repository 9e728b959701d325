"""Measures what budgets and caches cost the gateway, and what kept answers take; writes into docs/budgets.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

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
from benchmarks.gateway import ours
from benchmarks.gateway.measure import Load, Plan, Upstream, measure_rounds, settle
from benchmarks.gateway.page import MODES, Sample, compute_budget_rows, compute_most_added
from benchmarks.gateway.upstream import Pace

SEED = 1
RESULT = RESULTS / "gateway-budgets.json"
PAGE, SECTION = DOCS / "budgets.md", "speed"
# Enough to open connections and to keep the first answer.
WARMUP_S = 0.5
# Rates that no gateway is flooded by: a short look tells that it rests.
LOOK_S = 0.3


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """What one run found. seconds: of each way at each rate in each round."""

    samples: tuple[Sample, ...]
    delay_ms: float
    seconds: float
    rounds: int
    circumstances: Circumstances


def measure(options: argparse.Namespace, words: Sequence[str]) -> BudgetReport:
    """Every way at every rate. Blocks for minutes; raises TriremeError; leaves no process behind."""
    circumstances = read_circumstances("benchmarks.gateway.budgets", words, SEED)
    pace = Pace()
    with tempfile.TemporaryDirectory(prefix="trireme-") as name, ExitStack() as resources:
        folder = Path(name)
        upstream = Upstream(pace, folder)
        resources.callback(upstream.stop)
        load = Load(folder)
        resources.callback(load.stop)
        port = upstream.server.port
        show_progress_note("Starting PostgreSQL, Valkey and two gateways")
        homes = [folder / "plain", folder / "budgeted"]
        urls = []
        for home in homes:
            home.mkdir()
            # One each: the budgets of a database hold for every gateway.
            urls.append(resources.enter_context(ours.start_database(home / "database")))
        plain = resources.enter_context(ours.start_gateway(port, homes[0], urls[0]))
        budgeted = resources.enter_context(ours.start_budgeted(port, homes[1], urls[1]))
        servers = [upstream.server, plain, *budgeted]
        for server in servers:
            settle(server)
        samples = measure_rounds(load, servers, make_plans(options))
    return BudgetReport(tuple(samples), 1000 * pace.delay_s, options.seconds, options.rounds, circumstances)


def make_plans(options: argparse.Namespace) -> list[list[Plan]]:
    """Of each round; the moments of requests differ between rounds, not between ways."""
    return [
        [
            Plan(mode, rate, options.seconds, SEED + number, warmup_s=WARMUP_S, look_s=LOOK_S)
            for mode in MODES
            for rate in options.rates
        ]
        for number in range(options.rounds)
    ]


def format_section(report: BudgetReport) -> str:
    """What docs/budgets.md says of it."""
    rows = compute_budget_rows(report.samples)
    return render(
        "gateway/budgets.md.j2",
        report=report,
        budgets=rows,
        most=compute_most_added(rows),
        seen=report.circumstances,
        loads=[one.load for one in report.samples],
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
    parser.add_argument("--rates", type=float, nargs="+", default=[10.0, 50.0, 200.0], help="a second")
    parser.add_argument("--seconds", type=float, default=3.5, help="of one way at one rate (default 3.5)")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--print", action="store_true", help="print the section and write nothing")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
