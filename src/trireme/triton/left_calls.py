"""Calls of grpc.aio that may be left before their answer: ended so that everything they hold is freed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from trireme.errors import DeadlineError, UnavailableError

T = TypeVar("T")
# The core answers a cancel at once; a loop that is so far behind frees what it can.
END_SECONDS = 5.0


async def result_of(call: Any, wanted: Awaitable[T], seconds: float | None = None) -> T:
    """What `wanted`, asked of `call`, gives. The call is cancelled where our task is, and after `seconds`.

    Raises DeadlineError, UnavailableError where the channel was closed meanwhile, grpc.RpcError.
    """
    # A task of its own: our cancel must not reach what grpc.aio awaits itself. It would leave that half done, and
    # the call with all its buffers would stay for good.
    task = asyncio.ensure_future(wanted)
    try:
        await asyncio.wait([task], timeout=seconds)
        if not task.done():
            raise DeadlineError(f"no answer within {seconds or 0:.0f} s")
    finally:
        if not task.done():
            end_call(call)
            await asyncio.wait([task], timeout=END_SECONDS)
            task.cancel()
        if task.done() and not task.cancelled():
            # An error that nobody awaits any more would be logged as forgotten.
            task.exception()
    if task.cancelled():
        raise UnavailableError("the connection was closed during the request")
    return task.result()


def end_call(call: Any) -> None:
    """Cancel a call at the server. Not by its own `cancel`, which cancels what it awaits as well; see result_of."""
    from grpc.aio._call import Call

    Call.cancel(call)
