"""The values of a recipe's keys: their types, as TOML has them, and their ranges."""

from __future__ import annotations

import re
import types
from typing import Any, Union, get_args, get_origin

from trireme.errors import SettingError

MOST_ADAPTERS = 64
_ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def flatten(document: dict[str, Any]) -> list[tuple[str, Any]]:
    """Keys and values of a recipe.toml; tables only group keys."""
    pairs: list[tuple[str, Any]] = []
    for key, value in document.items():
        pairs += value.items() if isinstance(value, dict) else [(key, value)]
    return pairs


def plain_type(hint: Any) -> Any:
    """The type of a key's values where there is one: `int` of `int | None`."""
    return get_args(hint)[0] if get_origin(hint) in (Union, types.UnionType) else hint


def typed(key: str, value: Any, hint: Any) -> Any:
    """The value as its key's type has it. Raises SettingError naming the key."""
    hint = plain_type(hint)
    if get_origin(hint) is tuple:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise SettingError(f"{key} must be a list of strings, got {value!r}")
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise SettingError(f"{key} must be of type {hint.__name__}, got {value!r}")
    return value


def check_range(key: str, value: Any, limits: Any) -> None:
    """Raises SettingError naming the key for a value outside of `limits`: choices, least, most."""
    if limits["choices"] and value not in limits["choices"]:
        raise SettingError(f"{key} must be one of {', '.join(limits['choices'])}, got {value!r}")
    if limits["least"] is not None and value < limits["least"]:
        raise SettingError(f"{key} must be at least {limits['least']}, got {value!r}")
    if limits["most"] is not None and value > limits["most"]:
        raise SettingError(f"{key} must be at most {limits['most']}, got {value!r}")


def read_adapters(given: tuple[str, ...]) -> dict[str, str]:
    """Names and folders of `adapters` = ["NAME=FOLDER", ...]. Raises SettingError."""
    found: dict[str, str] = {}
    for one in given:
        name, _, folder = one.partition("=")
        if not _ADAPTER_NAME.fullmatch(name) or not folder:
            raise SettingError(
                f"adapters must each be NAME=FOLDER, the name of letters, digits, '_', '-' and '.', got {one!r}"
            )
        if name in found:
            raise SettingError(f"adapters names {name!r} twice")
        found[name] = folder
    if len(found) > MOST_ADAPTERS:
        raise SettingError(f"adapters must be at most {MOST_ADAPTERS}, got {len(found)}")
    return found
