"""JSON that people attach to passages and ask for in filters: what can be stored, and found again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

MOST_DEPTH = 100
# Every passage of a document carries its metadata.
MOST_BYTES = 65_536


def read_json(text: str) -> Any:
    """The value of JSON text; of equal keys the last counts. Raises ValueError, also for NaN and for depth."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if is_too_deep(value):
        raise ValueError("it is nested too deep")
    return value


def find_fault(value: Any) -> str:
    """Why a JSON value cannot be stored and found by a filter, as the end of a sentence; "" where it can.

    Databases keep no NUL and no lone surrogate, JSON has no infinity (which 1e400 is read as).
    """
    for one, depth in _walk(value):
        if depth > MOST_DEPTH:
            return f"is nested deeper than {MOST_DEPTH} levels; flatten it"
        if isinstance(one, str):
            if "\x00" in one:
                return "holds a NUL character; remove it"
            if not _is_unicode(one):
                return "holds a lone surrogate; it must be valid Unicode"
        elif isinstance(one, float):
            if not math.isfinite(one):
                return "holds a number that JSON does not have (NaN, or beyond 1.8e308); give it as a string"
        elif not (one is None or isinstance(one, bool | int | dict | list)):
            return f"holds a {type(one).__name__}, which JSON does not have; give it as a string"
    return ""


def check_size(value: Any) -> str:
    """As find_fault, of metadata as a whole."""
    size = len(json.dumps(value, ensure_ascii=False).encode())
    return f"has {size:,} bytes, more than {MOST_BYTES:,}" if size > MOST_BYTES else ""


def is_too_deep(value: Any) -> bool:
    """Whether a value is nested deeper than databases and parsers follow."""
    return any(depth > MOST_DEPTH for _, depth in _walk(value))


def _walk(value: Any) -> Iterator[tuple[Any, int]]:
    """The value, its keys and all that it holds, with their depths. Without recursion: any depth is walked."""
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        yield one, depth
        if depth > MOST_DEPTH:
            continue
        if isinstance(one, dict):
            waiting += ((key, depth) for key in one)
            waiting += ((inner, depth + 1) for inner in one.values())
        elif isinstance(one, list):
            waiting += ((inner, depth + 1) for inner in one)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
