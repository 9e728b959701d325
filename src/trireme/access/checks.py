"""What a key may be: the checks of all key stores."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from trireme.access.endpoints import ENDPOINTS
from trireme.access.keys import Key
from trireme.access.priorities import PRIORITIES
from trireme.errors import InvalidInputError

# As retrieve.store takes names of tenants and collections.
MAX_NAME_BYTES = 512
# Of models or collections of one key: every process holds all keys in memory.
MAX_NAMES = 1_000
MAX_REQUESTS_PER_MINUTE = 2**31 - 1

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_key(key: Key, digest: str) -> None:
    """Raises InvalidInputError, whose `param` is the field, for a key that cannot be kept or found again."""
    if not _ID.fullmatch(key.id):
        raise InvalidInputError("the id of a key has 1 to 64 letters, digits, - and _", "id")
    if not _DIGEST.fullmatch(digest):
        raise InvalidInputError("the digest of a key is a SHA-256 of 64 hexadecimal digits", "digest")
    check_tenant(key.tenant)
    check_user(key.user)
    for field in ("tenant", "user"):
        # Budgets say * for each tenant, or each user.
        if getattr(key, field) == "*":
            raise InvalidInputError(
                f"the {field} of a key cannot be *, which stands for each in budgets", field
            )
    for field in ("models", "collections", "endpoints"):
        _check_list(field, getattr(key, field))
    for endpoint in key.endpoints:
        if endpoint not in ENDPOINTS:
            known = ", ".join(ENDPOINTS)
            raise InvalidInputError(f"no endpoint {endpoint!r}; endpoints are {known}", "endpoints")
    if not 0 <= key.requests_per_minute <= MAX_REQUESTS_PER_MINUTE:
        raise InvalidInputError(
            f"requests_per_minute must be from 0, which is no limit, to {MAX_REQUESTS_PER_MINUTE},"
            f" got {key.requests_per_minute}",
            "requests_per_minute",
        )
    if key.priority not in PRIORITIES:
        raise InvalidInputError(
            f"the priority of a key is one of {', '.join(PRIORITIES)}, not {key.priority!r}", "priority"
        )


def check_after(key_id: str) -> None:
    """Raises InvalidInputError for what no key can be called."""
    if not _ID.fullmatch(key_id):
        raise no_such_after(key_id)


def no_such_after(key_id: str) -> InvalidInputError:
    """A page is asked for that begins after a key that is not there."""
    return InvalidInputError(f"after: no key {key_id[:80]!r}; send the last_id of the page before", "after")


def check_tenant(tenant: str) -> None:
    """Raises InvalidInputError for a name that no tenant can have."""
    _check_name("tenant", tenant, "tenant")


def check_user(user: str) -> None:
    """Raises InvalidInputError for a name that no user can have. "" is none."""
    _check_text("user", user, "user")
    if len(user.encode()) > MAX_NAME_BYTES:
        raise InvalidInputError(
            f"a user must have at most {MAX_NAME_BYTES} bytes, got {len(user.encode())}", "user"
        )
    if any(unicodedata.category(character) == "Cc" for character in user):
        raise InvalidInputError("the user holds a control character; remove it", "user")


def _check_list(field: str, names: Sequence[str]) -> None:
    if len(names) > MAX_NAMES:
        raise InvalidInputError(f"a key takes at most {MAX_NAMES} {field}, got {len(names)}", field)
    for name in names:
        _check_name(f"name among {field}", name, field)


def _check_name(what: str, name: str, field: str) -> None:
    _check_text(what, name, field)
    size = len(name.encode())
    if not 1 <= size <= MAX_NAME_BYTES:
        raise InvalidInputError(f"a {what} must have 1 to {MAX_NAME_BYTES} bytes, got {size}", field)


def _check_text(what: str, text: str, field: str) -> None:
    if "\x00" in text:
        raise InvalidInputError(f"the {what} holds a NUL character; remove it", field)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(
            f"the {what} holds a lone surrogate; it must be valid Unicode", field
        ) from None
