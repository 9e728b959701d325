"""`trireme usage`: what was used and what it cost, of the ledger."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from trireme.budget.ledger import UsageBy
from trireme.commands.scope import database_url, refuse_empty, require_own_tenant
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
    usage.add_argument(
        "--since", default="", metavar="TIME", help="ISO 8601; without it from this month's start on"
    )
    usage.add_argument(
        "--until", default="", metavar="TIME", help="ISO 8601, not included; without it until now"
    )
    usage.add_argument("--json", action="store_true", help="as GET /v1/usage answers")
    usage.set_defaults(run=_usage)


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
