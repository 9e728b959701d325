from typing import get_args

import pytest

from trireme.errors import (
    ErrorCode,
    InvalidInputError,
    ResourceExhaustedError,
    TriremeError,
    UnavailableError,
)
from trireme.gateway.statuses import STATUSES, retry_headers, status_of
from trireme.providers.port import ProviderError
from trireme.providers.targets import Attempt


def every_error(cls=TriremeError):
    yield cls
    for child in cls.__subclasses__():
        yield from every_error(child)


def test_every_code_has_a_status():
    assert set(STATUSES) == set(get_args(ErrorCode))


def test_every_error_of_the_tree_has_a_code_with_a_status():
    assert all(error.code in STATUSES for error in every_error())


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("rate_limit", 429),
        ("overloaded", 503),
        ("connect", 503),
        ("timeout", 504),
        ("too_long", 400),
        ("invalid", 400),
    ],
)
def test_a_fault_of_a_provider_is_told_as_what_the_client_can_do(kind, status):
    assert status_of(ProviderError("x", "next", kind)) == status


@pytest.mark.parametrize("kind", ["auth", "cut", "malformed", "anything"])
def test_what_is_the_providers_matter_alone_is_a_bad_gateway(kind):
    assert status_of(ProviderError("x", "next", kind, status=401)) == 502


def test_529_never_reaches_a_client_from_here():
    assert 529 not in {
        status_of(ProviderError("x", "next", kind, status=529)) for kind in ("overloaded", "cut")
    }


def test_seconds_to_wait_are_rounded_up():
    assert retry_headers(ResourceExhaustedError("x", 0.2)) == (("retry-after", "1"),)


def test_where_waiting_does_not_help_or_all_was_tried_the_client_is_told_not_to_repeat():
    assert retry_headers(ResourceExhaustedError("x")) == (("x-should-retry", "false"),)
    tried = ProviderError("x", "again", "overloaded", retry_after=3)
    tried.attempts = (Attempt("a:b", "skipped"), Attempt("c:d", "overloaded"))
    assert retry_headers(tried) == (("retry-after", "3"), ("x-should-retry", "false"))
    assert retry_headers(InvalidInputError("x")) == ()
    assert retry_headers(UnavailableError("x")) == ()


def test_where_every_target_rests_the_client_may_come_again():
    resting = ProviderError("x", "again", "overloaded", retry_after=3)
    resting.attempts = (Attempt("a:b", "skipped"),)
    assert retry_headers(resting) == (("retry-after", "3"),)
