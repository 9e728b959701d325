"""Handlers of what a key is, and of what one request was. A key reads what is its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from trireme.budget.ledger import LedgerRow
from trireme.errors import InvalidInputError, NotFoundError
from trireme.gateway.bodies import Receive
from trireme.gateway.budget_routes import scope_of
from trireme.gateway.chains import choose_collection
from trireme.gateway.exchange import Exchange
from trireme.gateway.gate import Handler
from trireme.gateway.parameters import read_parameters, require_known
from trireme.gateway.ports import Ports
from trireme.gateway.replies import JsonReply, Reply
from trireme.gateway.wire.account import me_body
from trireme.gateway.wire.requests import is_complete, request_body

# What is a person's own must lie in no cache that others share.
PRIVATE = (("cache-control", "no-store"),)
# Seconds that a call may wait for a row; and between two looks.
MOST_WAIT = 10
LOOK_SECONDS = 0.25


async def get_me(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/me, of any key."""
    require_known(read_parameters(exchange), ())
    key = exchange.caller
    default = choose_collection(key, None, ports.default_collection)
    return JsonReply(me_body(key, default, ports.build, ports.file.limits), headers=PRIVATE)


async def get_request(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/requests/{id}[?tenant=&wait=]: of the key's own tenant and user; an admin's of any."""
    query = read_parameters(exchange)
    require_known(query, ("tenant", "wait"))
    wanted = exchange.path_params["id"]
    tenant, user = scope_of(exchange, ports, query)
    until = time.monotonic() + _wait_of(query)
    while not is_complete(rows := await _find(exchange, ports, wanted, tenant, user)):
        if time.monotonic() >= until:
            break
        await asyncio.sleep(LOOK_SECONDS)
    if not rows:
        raise NotFoundError(
            f"no request {wanted[:80]!r} is in the ledger; one that has just ended is there within about a second"
        )
    if len({row.tenant for row in rows}) > 1:
        raise InvalidInputError("several tenants have a request of this id; send tenant as well", "tenant")
    return JsonReply(request_body(rows), headers=PRIVATE)


async def _find(exchange: Exchange, ports: Ports, wanted: str, tenant: str, user: str) -> list[LedgerRow]:
    return await ports.looks.read(exchange.caller, ports.ledger.find, wanted, tenant, user)


def _wait_of(query: Mapping[str, str]) -> int:
    """Seconds. Raises InvalidInputError."""
    text = query.get("wait", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 4 and int(text) <= MOST_WAIT):
        raise InvalidInputError(f"wait must be whole seconds from 0 to {MOST_WAIT}", "wait")
    return int(text)


# As BUDGET_ROUTES.
ACCOUNT_ROUTES: tuple[tuple[str, str, str, Handler], ...] = (
    ("GET", "/v1/me", "me", get_me),
    ("GET", "/v1/requests/{id}", "usage", get_request),
)
