"""Checks decoded JSON against a type, and says in the request's own words what is wrong with it."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from trireme.errors import InvalidInputError

T = TypeVar("T")
_MISSING = re.compile(r"Object missing required field `(.+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+)`")


def shape(value: Any, kind: type[T], place: str = "") -> T:
    """`value` as `kind`. Raises InvalidInputError that names the field, `place` in front of it."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _name_field(str(error), place) from None


def _name_field(text: str, place: str) -> InvalidInputError:
    what, _, inner = text.partition(" - at `$")
    field = (place + inner.rstrip("`")).lstrip(".")
    if missing := _MISSING.search(what):
        field = f"{field}.{missing[1]}".lstrip(".")
        return InvalidInputError(f"{field} is missing", field)
    if unknown := _UNKNOWN.search(what):
        field = f"{field}.{unknown[1]}".lstrip(".")
        return InvalidInputError(f"{field} is no field here; leave it out", field)
    what = what.replace("`", "")
    return InvalidInputError(f"{field or 'the body'}: {what[:1].lower()}{what[1:]}", field)
