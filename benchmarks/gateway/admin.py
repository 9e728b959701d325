"""How long an admin's pages take over HTTP: tenants, budgets, keys and one request, over a large ledger."""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.common.report import DOCS, RESULTS, read_circumstances, render, write_json, write_section
from benchmarks.common.script import make_parser, run_script
from benchmarks.gateway import ours
from benchmarks.gateway.servers import HOST, Server
from trireme.budget.caps import WINDOWS, Cap
from trireme.budget.periods import DAY
from trireme.storage import open_caps

# Nothing is drawn: the rows are made of their numbers.
SEED = 0
RESULT = RESULTS / "gateway-admin.json"
ROWS_SPREAD, ROWS_TODAY = "over 30 days", "all of today"
FILL = """
    INSERT INTO trireme.ledger (attempt, request, tenant, caller, key_id, endpoint, provider, asked, served,
        reserved_at, tier, step, input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens,
        counted_by, prices, nanos, saved_nanos, held_tokens, held_nanos, outcome, first_ms, total_ms, epoch, seq,
        release)
    SELECT 'a' || n, 'r' || n, 'tenant-' || lpad((n %% %(tenants)s)::text, 5, '0'), 'u' || n %% 7, 'k', 'chat',
        'local', 'm', 'local:llm', timestamptz 'epoch' + (%(end)s - n * %(step)s) * interval '1 millisecond',
        '', '', 500, 0, 0, 200, 0, 'provider', 'p', n %% 1000000, 0, 0, 0, 'ok', 100, n %% 5000, 'e', n, 'v1'
    FROM generate_series(0, %(rows)s::bigint - 1) AS n
    """
KEYS = """
    INSERT INTO trireme.keys (id, digest, tenant, caller, models, collections, endpoints, requests_per_minute,
        created_at)
    SELECT 'key_' || n, encode(sha256(n::text::bytea), 'hex'), 'tenant-' || lpad((n %% %(tenants)s)::text, 5, '0'),
        '', '{}', '{}', '{}', 0, now() - n * interval '1 second'
    FROM generate_series(0, 3 * %(tenants)s - 1) AS n
    """
# What is asked, and as what it stands on the page.
QUESTIONS = {
    "first 50 tenants": "/v1/tenants",
    "200 tenants in the middle": "/v1/tenants?limit=200&after=tenant-00400",
    "tenants by a part of the name": "/v1/tenants?q=0077",
    "50 budgets": "/v1/budgets?limit=50",
    "all 3,000 budgets": "/v1/budgets",
    "50 keys": "/v1/keys",
    "keys of one tenant": "/v1/keys?tenant=tenant-00500",
    "one request": "/v1/requests/r4711",
}


def fill(url: str, *, rows: int, tenants: int, span: int) -> None:
    """A ledger of so many rows that ends now, keys, and a budget of each window for each tenant."""
    now = int(time.time() * 1000)
    values = {"rows": rows, "tenants": tenants, "end": now, "step": max(1, span // rows)}
    with psycopg.connect(url) as connection:
        connection.execute(FILL, values)
        connection.execute(KEYS, values)
    with closing(open_caps(url)) as caps, psycopg.connect(url) as connection:
        caps.find()
        connection.execute(
            "INSERT INTO trireme.caps SELECT 'tenant-' || lpad(n::text, 5, '0'), '', w, 1000000, NULL"
            " FROM generate_series(0, %s - 1) AS n, unnest(%s::text[]) AS w",
            (tenants, list(WINDOWS)),
        )
    with closing(open_caps(url)) as caps:
        # Gateways read them anew.
        caps.put(Cap("", "", "month", 10**12))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


@contextmanager
def serve(folder: Path, options: argparse.Namespace, span: int) -> Iterator[tuple[Server, str]]:
    """A gateway over such a ledger, with a budget store, and an admin's secret."""
    from trireme.local.valkey import start_valkey

    with ExitStack() as resources:
        folder.mkdir()
        (folder / "gateway.toml").touch()
        url = resources.enter_context(ours.start_database(folder / "database"))
        with closing(open_caps(url)) as caps:
            caps.find()
        fill(url, rows=options.rows, tenants=options.tenants, span=span)
        valkey = resources.enter_context(start_valkey(folder / "stores"))
        more = {"TRIREME_REDIS_URL": valkey.budget_url, "TRIREME_CACHE_URL": valkey.cache_url}
        server = resources.enter_context(ours.start_gateway(None, folder, url, more))
        environ = ours.make_environ(folder, server.port, url, more)
        yield server, ours.create_key(environ, folder, "--admin")


def milliseconds_of(server: Server, secret: str, path: str) -> float:
    """Of one answer, whole. Raises RuntimeError for any but 200."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    with closing(connection):
        began = time.perf_counter()
        connection.request("GET", path, headers={"authorization": f"Bearer {secret}"})
        answer = connection.getresponse()
        body = answer.read()
        took = (time.perf_counter() - began) * 1000
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {body[:200]!r}")
    return took


def measure(folder: Path, options: argparse.Namespace, span: int) -> dict[str, dict[str, float]]:
    """Median and slowest of each question."""
    found = {}
    with serve(folder, options, span) as (server, secret):
        for name, path in QUESTIONS.items():
            times = [milliseconds_of(server, secret, path) for _ in range(options.rounds)]
            found[name] = {"median": statistics.median(times), "slowest": max(times)}
            print(json.dumps({"question": name, **found[name]}), flush=True)
    return found


def run(options: argparse.Namespace, words: list[str]) -> None:
    """Measure, and write the page's section."""
    seen = read_circumstances("benchmarks.gateway.admin", words, SEED)
    today = int(time.time() * 1000) % DAY
    with tempfile.TemporaryDirectory() as name:
        ledgers = {
            ROWS_SPREAD: measure(Path(name) / "spread", options, 30 * DAY),
            ROWS_TODAY: measure(Path(name) / "today", options, today),
        }
    if options.print:
        return
    record = {
        "rows": options.rows,
        "tenants": options.tenants,
        "rounds": options.rounds,
        "ledgers": ledgers,
        "seen": dataclasses.asdict(seen),
    }
    write_json(RESULT, record)
    write_section(DOCS / "gateway.md", "admin", format_section(record))


def format_section(record: dict[str, Any]) -> str:
    """The page's section of a record."""
    spread, today = (record["ledgers"][name] for name in (ROWS_SPREAD, ROWS_TODAY))
    questions = [{"name": name, "spread": spread[name], "today": today[name]} for name in spread]
    return render("gateway/admin.md.j2", **record, questions=questions)


def main() -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the ledger")
    parser.add_argument("--tenants", type=int, default=1_000, help="each with three keys and three budgets")
    parser.add_argument("--rounds", type=int, default=9, help="of each question")
    parser.add_argument("--print", action="store_true", help="print the figures and write nothing")
    return run_script(parser, run)


if __name__ == "__main__":
    raise SystemExit(main())
