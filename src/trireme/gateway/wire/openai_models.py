"""OpenAI's list of models: GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trireme.errors import NotFoundError


def write_models(models: Iterable[tuple[str, str]], created: int) -> dict[str, Any]:
    """Names that a key may call, each with its owner. created: Unix seconds."""
    return {"object": "list", "data": [_row(name, owner, created) for name, owner in models]}


def write_model(models: Iterable[tuple[str, str]], name: str, created: int) -> dict[str, Any]:
    """One of them. Raises NotFoundError where the key may not call it, or there is none."""
    for one, owner in models:
        if one == name:
            return _row(one, owner, created)
    raise NotFoundError(f"no model {name[:80]!r} that this key may call; GET /v1/models lists those")


def _row(name: str, owner: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}
