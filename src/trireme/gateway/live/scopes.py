"""Whose figures a stream shows."""

from __future__ import annotations

from dataclasses import dataclass, field

from trireme.access.endpoints import can_use
from trireme.access.keys import Key


@dataclass(frozen=True, slots=True)
class Scope:
    """tenant "": all. user "": all of the tenant. is_admin: sees what concerns the machines.

    models: that the key is limited to. key: one of those that see the same.
    """

    tenant: str
    user: str
    is_admin: bool
    models: tuple[str, ...]
    # Rules of its tenant may hide models.
    owner: str
    key: Key = field(compare=False)


def new_scope(key: Key, tenant: str, user: str) -> Scope:
    """What a key sees of a tenant and user that it may read."""
    return Scope(tenant, user, can_use(key.endpoints, "admin"), key.models, key.tenant, key)
