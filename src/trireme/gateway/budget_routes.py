"""Handlers of budgets and usage. A key reads what is its own; what changes a budget needs the endpoint admin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from trireme.access.checks import check_tenant, check_user
from trireme.access.endpoints import can_use
from trireme.budget.caps import EACH, Cap
from trireme.budget.ledger import UsageQuery, UsageRow
from trireme.budget.port import Counter
from trireme.budget.standing import Place, caps_for, read_counters
from trireme.errors import InvalidInputError, NotFoundError, PermissionDeniedError, UnavailableError
from trireme.gateway.bodies import Receive, decode_object, read_body
from trireme.gateway.exchange import Exchange
from trireme.gateway.gate import Handler
from trireme.gateway.paging import PARAMETERS, page_body, read_page
from trireme.gateway.parameters import read_parameters, require_known
from trireme.gateway.ports import Ports
from trireme.gateway.replies import JsonReply, Reply
from trireme.gateway.wire import budgets as wire


async def get_budgets(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/budgets?tenant=&user=: those in force there; all, as they were set, where an admin names none.

    All at once, or a page of them where limit or after is sent."""
    query = read_parameters(exchange)
    require_known(query, ("tenant", "user", *PARAMETERS))
    page = read_page(query) if any(name in query for name in PARAMETERS) else None
    tenant, user = scope_of(exchange, ports, query)
    key, find = exchange.caller, ports.caps.find
    caps = await ports.looks.read(key, find, tenant)
    if tenant:
        caps = caps_for([*caps, *await ports.looks.read(key, find, EACH)], tenant, user)
    if page is not None:
        caps = wire.after(caps, page.after)[: page.looked_for]
    counters = await _counters(ports, caps)
    now = int(time.time() * 1000)
    rows = [(wire.budget_id(cap), wire.budget_body(cap, counters, now)) for cap in caps]
    if page is not None:
        return JsonReply(page_body(page, rows))
    return JsonReply({"object": "list", "data": [body for _, body in rows]})


async def put_budget(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """PUT /v1/budgets: in place of the one of its tenant, user and window; in force everywhere within 2 s."""
    require_known(read_parameters(exchange), ())
    limits = ports.file.limits
    cap = wire.read_budget(decode_object(await read_body(receive, limits), limits))
    _require_own(ports, cap.tenant)
    await asyncio.to_thread(ports.caps.put, cap)
    return JsonReply(wire.budget_body(cap))


async def delete_budget(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """DELETE /v1/budgets?tenant=&user=&window=."""
    query = read_parameters(exchange)
    require_known(query, ("tenant", "user", "window"))
    window = wire.read_window(query)
    tenant, user = scope_of(exchange, ports, query)
    for cap in await asyncio.to_thread(ports.caps.find, tenant):
        if (cap.tenant, cap.user, cap.window) == (tenant, user, window):
            await asyncio.to_thread(ports.caps.put, replace(cap, tokens=None, nanos=None))
            return JsonReply(wire.deleted_body(cap))
    raise NotFoundError("no budget of this tenant, user and window; GET /v1/budgets lists those there are")


async def get_usage(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/usage?by=&since=&until=&tenant=&user=."""
    query = read_parameters(exchange)
    require_known(query, ("by", "since", "until", "tenant", "user"))
    asked = wire.read_usage(query, *scope_of(exchange, ports, query))
    rows = await _read_usage(exchange, ports, asked)
    # A request is in several groups where its attempts are, but it has one tenant.
    tenants = await _read_usage(exchange, ports, replace(asked, by="tenant"))
    return JsonReply(wire.usage_body(asked, rows, sum(row.requests for row in tenants)))


# Method, path, the endpoint that a key can be limited to, and the handler.
BUDGET_ROUTES: tuple[tuple[str, str, str, Handler], ...] = (
    ("GET", "/v1/budgets", "usage", get_budgets),
    ("PUT", "/v1/budgets", "admin", put_budget),
    ("DELETE", "/v1/budgets", "admin", delete_budget),
    ("GET", "/v1/usage", "usage", get_usage),
)


def scope_of(exchange: Exchange, ports: Ports, query: Mapping[str, str]) -> tuple[str, str]:
    """Tenant and user of which the key may know; "" for all of an admin's. Raises PermissionDeniedError, and
    InvalidInputError for a tenant whose home is another region."""
    tenant, user = allowed_scope(exchange, query)
    _require_own(ports, tenant)
    return tenant, user


def _require_own(ports: Ports, tenant: str) -> None:
    if home := ports.file.home_of(tenant):
        raise InvalidInputError(
            f"budgets and usage of this tenant are kept in region {home}; ask there", "tenant"
        )


def allowed_scope(exchange: Exchange, query: Mapping[str, str]) -> tuple[str, str]:
    """As `scope_of`, wherever the tenant's home is."""
    key = exchange.caller
    tenant, user = query.get("tenant", ""), query.get("user", "")
    if tenant:
        check_tenant(tenant)
    check_user(user)
    if can_use(key.endpoints, "admin"):
        if user and not tenant:
            raise InvalidInputError("a user needs its tenant; send tenant as well", "tenant")
        return tenant, user
    if tenant not in ("", key.tenant):
        raise PermissionDeniedError("this key may read its own tenant alone; one of the endpoint admin any")
    if key.user and user not in ("", key.user):
        raise PermissionDeniedError(
            "this key may read its own user alone; one without a user all of its tenant"
        )
    return key.tenant, key.user or user


async def _read_usage(exchange: Exchange, ports: Ports, query: UsageQuery) -> list[UsageRow]:
    return await ports.sums.read(exchange.caller, ports.ledger.usage, query)


async def _counters(ports: Ports, caps: Sequence[Cap]) -> dict[Place, Counter]:
    """What is known of spent and held: nothing while the budget store is away."""
    if ports.budgets is None:
        return {}
    try:
        return await read_counters(ports.budgets, caps)
    except UnavailableError:
        return {}
