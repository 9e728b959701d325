"""The one table of errors: what each becomes in HTTP. Surfaces write the body, each in its own words."""

from __future__ import annotations

import math

from trireme.errors import ErrorCode, ResourceExhaustedError, TriremeError
from trireme.providers.port import ProviderError

STATUSES: dict[ErrorCode, int] = {
    "INVALID_ARG": 400,
    "UNSUPPORTED": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "CONFLICT": 409,
    "TOO_LARGE": 413,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
# A provider's kind of fault -> what our client is told. What is not here is 502: the provider's fault, not ours.
_OF_PROVIDERS = {
    "rate_limit": 429,
    "overloaded": 503,
    "connect": 503,
    "timeout": 504,
    "too_long": 400,
    "invalid": 400,
    "not_found": 404,
    "too_large": 413,
}
INTERNAL_TEXT = "the gateway failed on this request; its log has the request id"


def status_of(error: TriremeError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, ProviderError):
        return _OF_PROVIDERS.get(error.kind, 502)
    return STATUSES[error.code]


def retry_headers(error: TriremeError) -> tuple[tuple[str, str], ...]:
    """`retry-after` where waiting helps, and `x-should-retry: false` where the gateway has tried all there is."""
    seconds = getattr(error, "retry_after", 0.0)
    headers = []
    if seconds > 0:
        headers.append(("retry-after", str(math.ceil(seconds))))
    is_used_up = isinstance(error, ResourceExhaustedError) and seconds <= 0
    # Where every target rests nobody was asked: later they may answer.
    has_tried = isinstance(error, ProviderError) and any(
        one.outcome not in ("skipped", "unpaid") for one in error.attempts
    )
    if is_used_up or has_tried:
        headers.append(("x-should-retry", "false"))
    return tuple(headers)
