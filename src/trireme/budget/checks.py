"""What a cap may be: the check of all stores of caps."""

from __future__ import annotations

from trireme.access.checks import check_tenant, check_user
from trireme.budget.caps import MOST, WINDOWS, Cap
from trireme.budget.dollars import write_dollars
from trireme.errors import InvalidInputError


def check_cap(cap: Cap) -> None:
    """Raises InvalidInputError, whose `param` is the field, for a cap that cannot be kept."""
    if cap.tenant:
        check_tenant(cap.tenant)
    elif cap.user:
        raise InvalidInputError("a budget of a user needs the user's tenant; name it", "tenant")
    check_user(cap.user)
    if cap.window not in WINDOWS:
        raise InvalidInputError(f"no window {cap.window[:40]!r}; windows are {', '.join(WINDOWS)}", "window")
    if cap.tokens is not None and not 0 <= cap.tokens <= MOST:
        raise InvalidInputError(f"tokens must be from 0 to {MOST}, got {cap.tokens}", "tokens")
    if cap.nanos is not None and not 0 <= cap.nanos <= MOST:
        raise InvalidInputError(
            f"dollars must be from 0 to {write_dollars(MOST)}, got {write_dollars(cap.nanos)}", "dollars"
        )
