"""Who may answer a call: targets in their order, and what came of each attempt."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from trireme.providers.chat import Event
from trireme.providers.port import AttemptLimits, ChatProvider


@dataclass(frozen=True, slots=True)
class Entry:
    """A configured provider: one ChatProvider for each of its keys, in the order of the file."""

    name: str
    keys: tuple[ChatProvider, ...]
    limits: AttemptLimits
    region: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """One step of a chain."""

    entry: Entry
    model: str

    @property
    def label(self) -> str:
        """provider:model, as people write it."""
        return f"{self.entry.name}:{self.model}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a target. outcome: ok, or the `kind` of its ProviderError.

    skipped, and unpaid where a budget did not allow it, made no call. escalated: a cascade did not keep its answer.
    """

    target: str
    outcome: str
    seconds: float = 0.0
    status: int = 0


@dataclass(frozen=True, slots=True)
class OpenAnswer:
    """An answer whose first content is there, or all of it where the call is not streamed.

    events: from Started on. It raises ProviderError when the answer breaks off: no other target is tried then.
    Closing it cancels the call. attempts: all until now, the last one is the target's that answers.
    Of a cascade: step, the name of the one that answers; left, those before it that did not, each with the reason;
    may_keep, whether the answer is the one that any equal call should get.
    degraded: steps of the route's policy that were taken for it.
    """

    served_by: Target
    events: AsyncGenerator[Event, None]
    attempts: tuple[Attempt, ...]
    step: str = ""
    left: tuple[tuple[str, str], ...] = ()
    may_keep: bool = True
    degraded: tuple[str, ...] = ()
