"""Anthropic's list of models: GET /v1/models and /v1/models/{id}, where a client says anthropic-version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from trireme.gateway.wire.openai_models import write_model as find_model


def is_asked(headers: Mapping[str, str]) -> bool:
    """Whether a request comes from a client of this format: OpenAI's list has the same path."""
    return "anthropic-version" in headers


def write_models(models: Sequence[tuple[str, str]], created: int) -> dict[str, Any]:
    """Names that a key may call, on one page. created: Unix seconds."""
    rows = [_row(name, created) for name, _ in models]
    first, last = (rows[0]["id"], rows[-1]["id"]) if rows else (None, None)
    return {"data": rows, "has_more": False, "first_id": first, "last_id": last}


def write_model(models: Sequence[tuple[str, str]], name: str, created: int) -> dict[str, Any]:
    """One of them. Raises NotFoundError where the key may not call it, or there is none."""
    return _row(find_model(models, name, created)["id"], created)


def _row(name: str, created: int) -> dict[str, Any]:
    since = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": name, "display_name": name, "created_at": since, "lifecycle": "active"}
