"""From when to when usage is asked for: times as people write them, and as milliseconds (Unix)."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from trireme.budget.caps import Window
from trireme.errors import InvalidInputError

MINUTE = 60_000
DAY = 86_400_000
LONGEST_MONTH = 32 * DAY


def read_period(since: str, until: str, now: float | None = None) -> tuple[int, int]:
    """First and last milliseconds, the last not included. now: seconds (Unix).

    Without `since` it begins with this month of UTC, without `until` it ends with this minute. Raises
    InvalidInputError that names which of both is wrong.
    """
    seconds = time.time() if now is None else now
    month = datetime.fromtimestamp(seconds, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start = _read_time("since", since) if since else _milliseconds(month)
    end = _read_time("until", until) if until else (int(seconds * 1000) // MINUTE + 1) * MINUTE
    if start >= end:
        raise InvalidInputError(
            f"since must be before until, got {write_time(start)} and {write_time(end)}", "since"
        )
    return start, end


def write_time(milliseconds: int) -> str:
    """ISO 8601, in UTC."""
    text = datetime.fromtimestamp(milliseconds // 1000, UTC).isoformat().removesuffix("+00:00")
    rest = milliseconds % 1000
    return f"{text}.{rest:03d}Z" if rest else f"{text}Z"


def window_end(window: Window, start: int) -> int:
    """The first instant after a minute, day or month of UTC that begins at `start` (milliseconds, Unix)."""
    if window == "minute":
        return start + MINUTE
    if window == "day":
        return start + DAY
    after = datetime.fromtimestamp((start + LONGEST_MONTH) // 1000, UTC)
    return _milliseconds(after.replace(day=1, hour=0, minute=0, second=0, microsecond=0))


def _read_time(name: str, text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
        # Without a zone it is UTC. What lies in another year than 1 to 9999 there cannot be written down.
        return _milliseconds(found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise InvalidInputError(
            f"{name} must be a time such as 2026-11-29 or 2026-11-29T12:00Z (ISO 8601), got {text[:40]!r}",
            name,
        ) from None


def _milliseconds(at: datetime) -> int:
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
