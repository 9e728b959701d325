"""Errors of our own server without its address, which is nothing for clients of the gateway."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from trireme.errors import UnavailableError

P = ParamSpec("P")
T = TypeVar("T")

# A host and a port, as our own client and gRPC write them, and what our client tells people to do about it.
_ADDRESS = re.compile(r"(?: at)? (?:ipv[46]:)?(?:\[[0-9a-fA-F:.%]+\]|[\w.-]+):\d{1,5}\b")
_ADVICE = "; start one with: make serve"


def without_address(text: str) -> str:
    """A message of an UnavailableError of our own server, as clients may read it."""
    return _ADDRESS.sub("", text).replace(_ADVICE, "; try again")


def unaddressed(ask: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """`ask`, whose UnavailableErrors name no address."""

    @functools.wraps(ask)
    async def asked(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return await ask(*arguments, **named)
        except UnavailableError as error:
            error.args = (without_address(str(error)),)
            raise

    return asked
