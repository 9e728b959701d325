"""Arguments of tool calls between the JSON text that OpenAI keeps and the object that Anthropic keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

# The one key of an object that stands for text which is no JSON object: a model wrote it, and it must not be lost.
INVALID_JSON = "_invalid_json"


def arguments_as_object(text: str) -> dict[str, Any]:
    """`text` as an object: {} for blank text, {INVALID_JSON: text} for what is no JSON object."""
    if not text.strip():
        return {}
    value = _decode(text)
    return {INVALID_JSON: text} if value is None else value


def arguments_as_text(value: Mapping[str, Any]) -> str:
    """The JSON text of an object; what `arguments_as_object` marked comes back as it was."""
    raw = value.get(INVALID_JSON)
    if len(value) == 1 and isinstance(raw, str):
        return raw
    return msgspec.json.encode(value).decode()


def is_whole(text: str) -> bool:
    """Whether `text` is one JSON object, so that the call it belongs to lacks nothing."""
    return _decode(text) is not None


def _decode(text: str) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
