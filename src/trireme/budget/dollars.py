"""US dollars as people write them, and as nano-dollars (billionths), without rounding."""

from __future__ import annotations

import re

from trireme.budget.caps import MOST
from trireme.errors import InvalidInputError

NANOS = 1_000_000_000
_DECIMAL = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,9}))?")


def read_dollars(text: str) -> int:
    """Nano-dollars of a decimal number of dollars. Raises InvalidInputError."""
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise InvalidInputError(
            "dollars must be a decimal number with at most 9 digits behind the point, such as 2.50,"
            f" got {text[:40]!r}",
            "dollars",
        )
    nanos = int(found[1]) * NANOS + int((found[2] or "").ljust(9, "0"))
    if nanos > MOST:
        raise InvalidInputError(f"dollars must be at most {write_dollars(MOST)}, got {text[:40]}", "dollars")
    return nanos


def write_dollars(nanos: int) -> str:
    """The dollars of so many nano-dollars, exactly; with two digits behind the point, or as many as it takes."""
    whole, rest = divmod(abs(nanos), NANOS)
    digits = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nanos < 0 else ''}{whole}.{digits}"
