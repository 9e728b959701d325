"""`trireme cost`: what was used, what is paid for, and what of that was idle."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

from trireme.commands.scope import add_period, database_url, refuse_empty, require_own_tenant
from trireme.cost.port import COST_BY
from trireme.errors import InvalidInputError
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console


def add_cost(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    cost = commands.add_parser("cost", help="what answers cost, with own machines by the hour")
    cost.add_argument("--by", choices=COST_BY, default="model", help="a line for each (default: model)")
    cost.add_argument("--tenant", help="of this tenant alone, without machines")
    cost.add_argument("--user", help="of this user of the tenant alone")
    add_period(cost)
    cost.add_argument("--json", action="store_true", help="as GET /v1/cost answers")
    cost.set_defaults(run=_cost)


def _cost(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.budget.dollars import write_dollars
    from trireme.budget.periods import read_period
    from trireme.commands.cost_tables import cost_table, machines_table
    from trireme.cost.port import CostQuery
    from trireme.cost.report import read_report
    from trireme.gateway.file import read_gateway_file
    from trireme.gateway.spending.machine_prices import hour_prices_of, own_of
    from trireme.gateway.wire.costs import cost_body
    from trireme.storage import open_costs

    refuse_empty(arguments, "tenant", "user")
    require_own_tenant(settings, arguments.tenant or "")
    if arguments.user and not arguments.tenant:
        raise InvalidInputError("a user needs its tenant; give --tenant as well", "tenant")
    start, end = read_period(arguments.since, arguments.until)
    file = read_gateway_file(settings.gateway_file)
    tenant, user = arguments.tenant or "", arguments.user or ""
    query = CostQuery(start, end, arguments.by, own_of(file), tenant, user)
    with closing(open_costs(database_url(settings))) as book:
        report = read_report(book, query, hour_prices_of(file))
    if arguments.json:
        print(json.dumps(cost_body(report, tenant, user), indent=2))
        return 0
    console.print(cost_table(report))
    if report.machines:
        console.print()
        console.print(machines_table(report))
    console.print(f"\nBill: ${write_dollars(report.bill_nanos)}.", highlight=False)
    return 0
