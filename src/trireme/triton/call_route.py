"""What a balancer of several servers is told of a call: its model, its priority, where it may go; gRPC metadata."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Literal

from trireme.triton.wire import route_of

CallPriority = Literal["batch", "normal", "high"]
# `trireme.scale.routes` matches them.
PRIORITY_KEY, RESIDENCY_KEY = "trireme-priority", "trireme-residency"
NEAR = "near"

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CallRoute:
    """Of calls, beside their model. stays_near: they never leave this region, also when nobody answers in it."""

    priority: CallPriority = "normal"
    stays_near: bool = False


# Of commands, which do not know what tenants forbid.
STAYS = CallRoute(stays_near=True)
# Of the request that is worked on; a task begins with that of the task that made it.
_of_request: ContextVar[CallRoute | None] = ContextVar("call_route", default=None)


def route_calls(route: CallRoute) -> None:
    """All calls that this task and those it makes send from now on have this route, in place of their client's."""
    _of_request.set(route)


def keep_calls_near() -> None:
    """As `route_calls`, with the priority as it is: no call of this task leaves this region from now on."""
    route_calls(replace(_of_request.get() or CallRoute(), stays_near=True))


def metadata_of(model: str, own: CallRoute, *, bulk: bool = False) -> Metadata:
    """The metadata of a call of `model`. own: its client's route. bulk: batch work, whatever the route says."""
    route = _of_request.get() or own
    priority = "batch" if bulk else route.priority
    return (
        *route_of(model),
        # What is normal is not said.
        *(((PRIORITY_KEY, priority),) if priority != "normal" else ()),
        *(((RESIDENCY_KEY, NEAR),) if route.stays_near else ()),
    )
