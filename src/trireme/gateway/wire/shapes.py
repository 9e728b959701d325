"""Checks decoded JSON against a type, and says in the request's own words what is wrong with it."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
import msgspec.inspect

from trireme.errors import InvalidInputError

T = TypeVar("T")
_MISSING = re.compile(r"Object missing required field `(.+)`")
_NO_CHOICE = "Invalid enum value"
_UNKNOWN = re.compile(r"Object contains unknown field `(.+)`")


def shape(value: Any, kind: type[T], place: str = "") -> T:
    """`value` as `kind`. Raises InvalidInputError that names the field, `place` in front of it."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _name_field(str(error), place, kind) from None


def _name_field(text: str, place: str, kind: type[Any]) -> InvalidInputError:
    what, _, inner = text.partition(" - at `$")
    if _NO_CHOICE in what and (choices := _choices(kind, inner.strip("`."))):
        what += f"; it is one of {', '.join(choices)}"
    field = (place + inner.rstrip("`")).lstrip(".")
    if missing := _MISSING.search(what):
        field = f"{field}.{missing[1]}".lstrip(".")
        return InvalidInputError(f"{field} is missing", field)
    if unknown := _UNKNOWN.search(what):
        field = f"{field}.{unknown[1]}".lstrip(".")
        return InvalidInputError(f"{field} is no field here; leave it out", field)
    what = what.replace("`", "")
    return InvalidInputError(f"{field or 'the body'}: {what[:1].lower()}{what[1:]}", field)


def _choices(kind: type[Any], name: str) -> list[str]:
    """The words that the field `name` of a struct takes; none where it takes any, or stands deeper."""
    fields = getattr(msgspec.inspect.type_info(kind), "fields", ())
    found = next((field.type for field in fields if field.encode_name == name), None)
    either = getattr(found, "types", (found,))
    literals = (one for one in either if isinstance(one, msgspec.inspect.LiteralType))
    return [str(word) for one in literals for word in one.values]
