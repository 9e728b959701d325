"""`trireme usage`: what was used and what it cost, of the ledger."""

from __future__ import annotations

import argparse
import json
import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, get_args

from trireme.budget.ledger import UsageBy
from trireme.commands.scope import add_period, database_url, refuse_empty, require_own_tenant
from trireme.errors import InvalidInputError
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console


def add_usage(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    usage = commands.add_parser("usage", help="what was used, and what it cost")
    usage.add_argument("--tenant", help="of this tenant alone")
    usage.add_argument("--user", help="of this user of the tenant alone")
    usage.add_argument(
        "--by", choices=get_args(UsageBy), default="day", help="a line for each (default: day)"
    )
    add_period(usage)
    usage.add_argument("--json", action="store_true", help="as GET /v1/usage answers")
    usage.set_defaults(run=_usage)
    # Without a verb it is shown.
    verbs = usage.add_subparsers(required=False, metavar="VERB")
    export = verbs.add_parser("export", help="write a CSV file in the columns of FOCUS 1.2")
    # What stands in front of the verb holds as well: one tenant's file must not become everybody's.
    kept = argparse.SUPPRESS
    export.add_argument("--tenant", default=kept, help="of this tenant alone, without machines")
    add_period(export, kept)
    export.add_argument("--out", required=True, metavar="FILE", type=Path, help="the file, which is replaced")
    export.set_defaults(run=_export)


def _usage(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.budget.ledger import UsageQuery
    from trireme.budget.periods import read_period
    from trireme.commands.tables import usage_table
    from trireme.gateway.wire.budgets import total_of, usage_body
    from trireme.storage import open_ledger

    refuse_empty(arguments, "tenant", "user")
    if arguments.user and not arguments.tenant:
        raise InvalidInputError("a user needs its tenant; give --tenant as well", "tenant")
    require_own_tenant(settings, arguments.tenant or "")
    start, end = read_period(arguments.since, arguments.until)
    query = UsageQuery(start, end, arguments.by, arguments.tenant or "", arguments.user or "")
    with closing(open_ledger(database_url(settings))) as ledger:
        rows = ledger.usage(query)
        # A request is in several groups where its attempts are, but it has one tenant.
        requests = sum(row.requests for row in ledger.usage(replace(query, by="tenant")))
    if arguments.json:
        print(json.dumps(usage_body(query, rows, requests), indent=2))
    else:
        console.print(usage_table(arguments.by, rows, total_of(rows, requests)))
    return 0


def _export(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.budget.dollars import write_dollars
    from trireme.budget.periods import read_period
    from trireme.cost.focus import export_focus
    from trireme.gateway.file import read_gateway_file
    from trireme.gateway.spending.machine_prices import hour_prices_of, own_of
    from trireme.storage import open_costs

    refuse_empty(arguments, "tenant")
    require_own_tenant(settings, arguments.tenant or "")
    if arguments.user is not None or arguments.json:
        raise InvalidInputError("an export has all users, as CSV; leave out --user and --json", "user")
    start, end = read_period(arguments.since, arguments.until)
    file = read_gateway_file(settings.gateway_file)
    out: Path = arguments.out
    with closing(open_costs(database_url(settings))) as book, _written(out) as writing:
        done = export_focus(
            writing,
            book,
            own_of(file),
            hour_prices_of(file),
            start=start,
            end=end,
            tenant=arguments.tenant or "",
        )
    console.print(
        f"Wrote {done.rows:,} rows to {out}: billed ${write_dollars(done.nanos)},"
        f" of which ${write_dollars(done.idle_nanos)} idle; caches saved ${write_dollars(done.saved_nanos)}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0


@contextmanager
def _written(out: Path) -> Iterator[TextIO]:
    """Within it the file is written; only at its end it takes its name, and what was there stays until then.

    A link is followed. What is no file, such as a pipe, is written to as it is. Raises InvalidInputError.
    """
    try:
        if out.is_dir():
            raise InvalidInputError(f"{str(out)!r} is a folder; name a file in it", "out")
        if out.exists() and not out.is_file():
            with out.open("w", encoding="utf-8", newline="") as writing:
                yield writing
            return
        target = out.resolve()
        # Two exports at once are two files, of which the last one stays.
        half_made = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            with half_made.open("w", encoding="utf-8", newline="") as writing:
                if target.exists():
                    # Who may read it stays as it was set.
                    os.fchmod(writing.fileno(), stat.S_IMODE(target.stat().st_mode))
                yield writing
            half_made.replace(target)
        finally:
            half_made.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInputError(f"{out} cannot be written: {error.strerror}", "out") from None
