"""The port of a provider of chats, and the one error of providers that the attempt loop decides by."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from trireme.errors import TriremeError
from trireme.providers.chat import ChatCall, Event, Surface

if TYPE_CHECKING:
    from trireme.providers.targets import Attempt

# What the attempt loop does after a fault.
# again: the same target may answer the same request. rotate: another key of this provider, else the next target.
# next: another target may. larger: only one with a larger window. give_up: nobody; the client must change it.
Remedy = Literal["again", "rotate", "next", "larger", "give_up"]


class ProviderError(TriremeError):
    """A provider failed or refused a request. The message is ours, and may quote the provider's own, shortened.

    status: HTTP status of the provider, 0 where there was none. retry_after: seconds that it asks for, 0 if none.
    kind: a word for logs and metrics, such as rate_limit, overloaded, auth, cut, malformed, timeout, connect.
    attempts: all that were made for the request, where the attempt loop raised it. param: the request's field
    that is wrong, where that is known.
    """

    def __init__(
        self, message: str, remedy: Remedy, kind: str, *, status: int = 0, retry_after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.kind = kind
        self.status = status
        self.retry_after = retry_after
        self.param = ""
        self.attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """Seconds of one attempt: until the first byte of its answer, between two parts of it, and for all of it."""

    first: float = 60.0
    between: float = 60.0
    total: float = 600.0


class ChatProvider(Protocol):
    """One provider of chats: Triton, or an HTTP API. For one event loop."""

    # Whose bodies it takes as they are, unknown fields included; None: of nobody.
    surfaces: tuple[Surface, ...]

    def find_fault(self, call: ChatCall, model: str) -> str:
        """Why this provider's `model` cannot take the call, naming the field; "" if it can. Does no I/O."""
        ...

    def chat(self, call: ChatCall, model: str, limits: AttemptLimits) -> AsyncGenerator[Event, None]:
        """Start the call and give its events as they come: Started, ..., Usage where known, and a Finished for each
        choice last (Usage may follow it). Raises ProviderError, also in the middle; an answer that ends without
        all its Finished raises one of kind cut. Closing the generator, or cancelling its task, cancels the call.
        """
        ...

    async def count_tokens(self, call: ChatCall, model: str) -> int:
        """Input tokens of the call, by the model's own count. Raises ProviderError, UnsupportedError."""
        ...

    async def close(self) -> None:
        """Free the connections."""
        ...
