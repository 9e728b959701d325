"""Handlers of keys and tenants, for keys of the endpoint admin. A secret is answered once, and is in no log."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from trireme.access.keys import digest_of, new_secret
from trireme.access.tenants import TenantQuery
from trireme.budget.periods import DAY
from trireme.errors import InvalidInputError, NotFoundError, UnavailableError
from trireme.gateway.account_routes import PRIVATE
from trireme.gateway.bodies import Receive, decode_object, read_body
from trireme.gateway.exchange import Exchange
from trireme.gateway.gate import Handler
from trireme.gateway.paging import PARAMETERS, page_body, read_page
from trireme.gateway.parameters import read_parameters, require_known
from trireme.gateway.ports import Ports
from trireme.gateway.replies import JsonReply, Reply
from trireme.gateway.wire import keys as wire


async def get_keys(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/keys?tenant=&state=&after=&limit=: the newest first, without secrets."""
    query = read_parameters(exchange)
    require_known(query, ("tenant", "state", *PARAMETERS))
    page = read_page(query)
    asked = wire.read_key_query(query, page)
    found = await ports.looks.read(exchange.caller, ports.keys.store.find, asked)
    return JsonReply(page_body(page, [(key.id, wire.key_body(key)) for key in found]), headers=PRIVATE)


async def post_key(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """POST /v1/keys: a new key, with its secret this once."""
    require_known(read_parameters(exchange), ())
    limits = ports.file.limits
    key = wire.read_key(decode_object(await read_body(receive, limits), limits))
    secret = new_secret()

    # What was done is said also where nobody waits for its end any more.
    def make() -> None:
        ports.keys.store.create(key, digest_of(secret))
        ports.log.say(f"key {exchange.caller.id} made key {key.id} of tenant {key.tenant}")

    await ports.looks.read(exchange.caller, make)
    made = replace(key, created_at=time.time())
    return JsonReply({**wire.key_body(made), "secret": secret}, 201, PRIVATE)


async def delete_key(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """DELETE /v1/keys/{id}: out of force here at once, in every other gateway within 2 s."""
    require_known(read_parameters(exchange), ())
    wanted = exchange.path_params["id"]
    if wanted == exchange.caller.id:
        raise InvalidInputError(
            "a key does not revoke itself, so that nobody is locked out by mistake; use another key of the"
            f" endpoint admin, or: trireme keys revoke {wanted}",
            "id",
        )

    def revoke() -> bool:
        was_there = bool(ports.keys.store.revoke([wanted]))
        if was_there:
            ports.log.say(f"key {exchange.caller.id} revoked key {wanted}")
        return was_there

    if not await ports.looks.read(exchange.caller, revoke):
        raise NotFoundError(f"no key in force {wanted[:80]!r}; GET /v1/keys lists those there are")
    with suppress(UnavailableError):
        await ports.keys.refresh()
    return JsonReply({"object": "key.revoked", "id": wanted, "revoked": True})


async def get_tenants(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """GET /v1/tenants?q=&after=&limit=: by name, with what they used since midnight (UTC)."""
    query = read_parameters(exchange)
    require_known(query, ("q", *PARAMETERS))
    page = read_page(query)
    if ports.tenants is None:
        raise UnavailableError("this gateway has no list of tenants")
    midnight = int(time.time() * 1000) // DAY * DAY
    asked = TenantQuery(midnight, query.get("q", ""), page.after, page.looked_for)
    found = await ports.looks.read(exchange.caller, ports.tenants.find, asked)
    rows = [(one.tenant, wire.tenant_body(one, ports.file.home_of(one.tenant))) for one in found]
    return JsonReply(page_body(page, rows), headers=PRIVATE)


# As BUDGET_ROUTES.
ADMIN_ROUTES: tuple[tuple[str, str, str, Handler], ...] = (
    ("GET", "/v1/keys", "admin", get_keys),
    ("POST", "/v1/keys", "admin", post_key),
    ("DELETE", "/v1/keys/{id}", "admin", delete_key),
    ("GET", "/v1/tenants", "admin", get_tenants),
)
