"""How long cost takes to read from a large ledger, and what the export of all of it holds in memory."""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import psycopg

from benchmarks.common.report import DOCS, RESULTS, read_circumstances, render, write_json, write_section
from benchmarks.common.script import make_parser, run_script
from trireme.cost.focus import export_focus
from trireme.cost.machines import DAY, HOUR
from trireme.cost.port import COST_BY, CostQuery, Own
from trireme.local.postgres import start_postgres
from trireme.postgres.cost import PostgresCosts

# Nothing is drawn: the rows are made of their numbers.
SEED = 0
START = 20_776 * DAY
SPAN = 30 * DAY
OWN = Own(("local",))
FILL = """
    INSERT INTO trireme.ledger (attempt, request, tenant, caller, key_id, endpoint, provider, asked, served,
        reserved_at, tier, step, input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens,
        counted_by, prices, nanos, saved_nanos, held_tokens, held_nanos, outcome, first_ms, total_ms, epoch, seq,
        release)
    SELECT 'a' || n, 'r' || n, 't' || n %% 200, 'u' || n %% 1000, 'k', 'chat',
        CASE WHEN n %% 3 = 0 THEN 'openai' ELSE 'local' END, 'm',
        CASE WHEN n %% 3 = 0 THEN 'openai:a' ELSE 'local:llm' END,
        timestamptz 'epoch' + (%(start)s + n * %(step)s) * interval '1 millisecond', '', '', 500, 0, 0, 200, 0,
        'provider', 'p', n %% 1000000, 0, 0, 0, 'ok', 100, n %% 5000, 'e', n, 'v' || n * 2 / %(count)s
    FROM generate_series(0, %(count)s::bigint - 1) AS n
    """


def fill(url: str, count: int) -> None:
    """A ledger of so many rows, evenly over SPAN."""
    with psycopg.connect(url) as connection:
        connection.execute(FILL, {"start": START, "step": SPAN // count, "count": count})
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE trireme.ledger")


def time_groups(book: PostgresCosts, rounds: int) -> list[dict[str, object]]:
    """A row for each grouping, in seconds."""
    rows = []
    for by in COST_BY:
        times = [seconds_of(book, by, START + SPAN) for _ in range(rounds)]
        rows.append({"by": by, "median": statistics.median(times), "slowest": max(times)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def seconds_of(book: PostgresCosts, by: str, end: int, start: int = START) -> float:
    """Of one question."""
    began = time.perf_counter()
    book.groups(CostQuery(start, end, by, OWN))  # type: ignore[arg-type]
    return time.perf_counter() - began


def time_export(book: PostgresCosts, folder: Path) -> dict[str, float]:
    """Rows, seconds, and how much the process has grown, in MiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    with (folder / "usage.csv").open("w", newline="") as out:
        done = export_focus(out, book, OWN, {}, start=START, end=START + SPAN)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"rows": done.rows, "seconds": time.perf_counter() - began, "grown_mib": grown / 1024}


def run(arguments: argparse.Namespace, words: list[str]) -> None:
    """Measure, and write the page's section."""
    seen = read_circumstances("benchmarks.gateway.cost", words, SEED)
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder) / "data") as server:
        book = PostgresCosts(server.url)
        # Makes the tables.
        book.spans(0, 1)
        fill(server.url, arguments.rows)
        rows = time_groups(book, arguments.rounds)
        end = START + SPAN
        hour_ms = statistics.median(seconds_of(book, "model", end, end - HOUR) for _ in range(9)) * 1000
        exported = time_export(book, Path(folder))
        print(json.dumps({"hour_ms": hour_ms, **exported}), flush=True)
        book.close()
    if arguments.print:
        return
    values = {"count": arguments.rows, "rounds": arguments.rounds, "rows": rows, "hour_ms": hour_ms}
    record = {**values, "exported": exported, "circumstances": dataclasses.asdict(seen)}
    write_json(RESULTS / "cost.json", record)
    write_section(
        DOCS / "cost.md", "speed", render("gateway/cost.md.j2", **values, exported=exported, seen=seen)
    )


def main() -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the ledger")
    parser.add_argument("--rounds", type=int, default=3, help="of each question")
    parser.add_argument("--print", action="store_true", help="print the figures and write nothing")
    return run_script(parser, run)


if __name__ == "__main__":
    raise SystemExit(main())
