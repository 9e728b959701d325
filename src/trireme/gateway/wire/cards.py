"""Our own wire of the models' cards: /v1/model_cards. What nobody knows is null."""

from __future__ import annotations

from typing import Any

from trireme.gateway.file import ModelRow
from trireme.providers.model_cards import ModelCard
from trireme.providers.models import ServedModel

_UNKNOWN = ModelCard("")


def card_body(served: ServedModel, card: ModelCard | None, *, is_ready: bool | None) -> dict[str, Any]:
    """A model of our own Triton; card: what its folder says, where that is at hand."""
    known = card or _UNKNOWN
    loaded = dict(served.versions).get(served.name, "")
    return {
        "object": "model_card",
        "name": served.name,
        "ability": served.ability,
        "kind": known.kind or None,
        "is_ready": is_ready,
        "is_far": served.is_far,
        # What is loaded may be another version than what lies in the folder.
        "version": loaded or known.version or None,
        "precision": known.precision or None,
        "engine": known.engine or None,
        "bytes": known.bytes or None,
        "dimensions": known.dimensions or None,
        "max_length": known.max_length or None,
        "source": known.source or None,
        "revision": known.revision or None,
        "figures": dict(known.figures),
        "quality": {name: dict(pair) for name, pair in known.quality.items()},
        "gate": dict(known.gate),
        "calls": list(known.steps),
    }


def chain_body(name: str, row: ModelRow, *, is_ready: bool | None) -> dict[str, Any]:
    """A name of gateway.toml: calls are its targets. is_ready: whether one of our own answers, null where there is
    none and where nobody knows."""
    unknown = card_body(ServedModel(name, "chat", is_ready=False), None, is_ready=is_ready)
    return {**unknown, "ability": None, "kind": "cascade" if row.steps else "chain", "calls": row.entries}
