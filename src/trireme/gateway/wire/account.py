"""Our own wire of what a key is: /v1/me."""

from __future__ import annotations

from typing import Any

from trireme.access.endpoints import ENDPOINTS, can_use
from trireme.access.keys import Key
from trireme.documents.load import SUFFIXES
from trireme.gateway.file import Limits
from trireme.observe.build_info import Build


def me_body(key: Key, default_collection: str, build: Build, limits: Limits) -> dict[str, Any]:
    """The answer to GET /v1/me. models, collections: empty for all; endpoints: those that it may use, all named."""
    return {
        "object": "key",
        "id": key.id,
        "tenant": key.tenant,
        "user": key.user,
        "models": list(key.models),
        "collections": list(key.collections),
        "endpoints": [name for name in ENDPOINTS if can_use(key.endpoints, name)],
        "is_admin": can_use(key.endpoints, "admin"),
        "requests_per_minute": key.requests_per_minute,
        "priority": key.priority,
        "default_collection": default_collection,
        "version": build.version,
        "release": build.release,
        "limits": {"upload_bytes": limits.upload_bytes, "body_bytes": limits.body_bytes},
        "suffixes": list(SUFFIXES),
    }
