"""Handlers of cost and releases. A key reads the cost of its own tenant; releases are an admin's."""

from __future__ import annotations

from trireme.budget.periods import read_period
from trireme.cost.port import CostQuery
from trireme.cost.releases import releases_of
from trireme.cost.report import CostReport, read_report
from trireme.errors import UnavailableError
from trireme.gateway.bodies import Receive
from trireme.gateway.budget_routes import scope_of
from trireme.gateway.costs import CostParts
from trireme.gateway.exchange import Exchange
from trireme.gateway.gate import Handler
from trireme.gateway.parameters import read_parameters, require_known
from trireme.gateway.ports import Ports
from trireme.gateway.replies import JsonReply, Reply
from trireme.gateway.spending.machine_prices import hour_prices_of, own_of
from trireme.gateway.wire import costs as wire


async def get_cost(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/cost?by=&since=&until=&tenant=&user=."""
    query = read_parameters(exchange)
    require_known(query, ("by", "since", "until", "tenant", "user"))
    tenant, user = scope_of(exchange, ports, query)
    asked = wire.read_cost(query, own_of(ports.file), tenant, user)
    return JsonReply(wire.cost_body(await _read(exchange, ports, asked), tenant, user))


async def get_releases(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/releases?since=&until=: side by side, with what they cost in the time."""
    query = read_parameters(exchange)
    require_known(query, ("since", "until"))
    start, end = read_period(query.get("since", ""), query.get("until", ""))
    report = await _read(exchange, ports, CostQuery(start, end, "release", own_of(ports.file)))
    entries = await ports.looks.read(exchange.caller, _parts(ports).releases.find)
    return JsonReply(wire.releases_body(releases_of(entries), report))


# As BUDGET_ROUTES.
COST_ROUTES: tuple[tuple[str, str, str, Handler], ...] = (
    ("GET", "/v1/cost", "usage", get_cost),
    ("GET", "/v1/releases", "admin", get_releases),
)


def _parts(ports: Ports) -> CostParts:
    if ports.costs is None:
        raise UnavailableError("this gateway keeps no record of cost")
    return ports.costs


async def _read(exchange: Exchange, ports: Ports, query: CostQuery) -> CostReport:
    prices = hour_prices_of(ports.file)
    return await ports.sums.read(exchange.caller, read_report, _parts(ports).book, query, prices)
