"""The parameters behind a path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from trireme.errors import InvalidInputError
from trireme.gateway.exchange import Exchange

MOST_PARAMETERS = 8


def read_parameters(exchange: Exchange) -> Mapping[str, str]:
    """The parameters behind the path, each once. Raises InvalidInputError."""
    raw = exchange.scope.get("query_string", b"").decode("latin-1")
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except ValueError:
        raise InvalidInputError(
            f"the parameters behind the path must be at most {MOST_PARAMETERS}, in UTF-8"
        ) from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidInputError("a parameter behind the path is given twice; send it once")
    return found


def require_known(query: Mapping[str, str], known: Sequence[str]) -> None:
    """Raises InvalidInputError for a parameter that is not `known`, and for one without a value."""
    for name, value in query.items():
        if name not in known:
            raise InvalidInputError(f"unknown parameter {name[:80]!r}; known: {', '.join(known)}", name[:80])
        if not value:
            raise InvalidInputError(f"{name} is empty; name one or leave it out", name)
