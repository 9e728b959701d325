"""Our own wire of keys and tenants: /v1/keys, /v1/tenants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from trireme.access.checks import MAX_NAMES, MAX_REQUESTS_PER_MINUTE
from trireme.access.endpoints import can_use
from trireme.access.keys import Key, KeyQuery, new_key_id
from trireme.access.priorities import NORMAL, Priority
from trireme.access.tenants import TenantInfo
from trireme.budget.dollars import write_dollars
from trireme.budget.periods import write_time
from trireme.errors import InvalidInputError
from trireme.gateway.paging import Page
from trireme.gateway.wire.shapes import shape

_STATES = {"active": False, "revoked": True}
_Names = Annotated[list[str], msgspec.Meta(max_length=MAX_NAMES)]


class _Key(msgspec.Struct, forbid_unknown_fields=True):
    tenant: str
    user: str = ""
    models: _Names = []
    collections: _Names = []
    endpoints: _Names = []
    requests_per_minute: Annotated[int, msgspec.Meta(ge=0, le=MAX_REQUESTS_PER_MINUTE)] = 0
    priority: Priority = NORMAL


def read_key(body: Mapping[str, Any]) -> Key:
    """A new key of a body of POST /v1/keys. Raises InvalidInputError that names the field."""
    given = shape(body, _Key)
    return Key(
        id=new_key_id(),
        tenant=given.tenant,
        user=given.user,
        models=tuple(dict.fromkeys(given.models)),
        collections=tuple(dict.fromkeys(given.collections)),
        endpoints=tuple(dict.fromkeys(given.endpoints)),
        requests_per_minute=given.requests_per_minute,
        priority=given.priority,
    )


def read_key_query(query: Mapping[str, str], page: Page) -> KeyQuery:
    """What GET /v1/keys asks for. Raises InvalidInputError that names the parameter."""
    state = query.get("state", "")
    if state and state not in _STATES:
        raise InvalidInputError(f"state must be one of {', '.join(_STATES)}, got {state[:40]!r}", "state")
    return KeyQuery(query.get("tenant", ""), _STATES.get(state), page.after, page.looked_for)


def key_body(key: Key) -> dict[str, Any]:
    """A key without its secret. Empty lists allow all; endpoints as they were given."""
    return {
        "object": "key",
        "id": key.id,
        "tenant": key.tenant,
        "user": key.user,
        "models": list(key.models),
        "collections": list(key.collections),
        "endpoints": list(key.endpoints),
        "is_admin": can_use(key.endpoints, "admin"),
        "requests_per_minute": key.requests_per_minute,
        "priority": key.priority,
        "state": "revoked" if key.is_revoked else "active",
        "created_at": write_time(round(key.created_at * 1000)),
    }


def tenant_body(one: TenantInfo, home: str) -> dict[str, Any]:
    """A tenant, and what it has used today. home: the region that knows that, where it is another one."""
    return {
        "object": "tenant",
        "tenant": one.tenant,
        "keys": one.keys,
        "budgets": one.budgets,
        "home": home or None,
        "requests_today": None if home else one.requests,
        "tokens_today": None if home else one.tokens,
        "dollars_today": None if home else write_dollars(one.nanos),
    }
