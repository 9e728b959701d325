"""Several answers to one call of our own server: their usage together, and whether all have ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from trireme.providers.chat import Event, Finished, Usage


class Choices:
    """What `count` answers of one call have said so far."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._output_tokens = 0

    @property
    def have_ended(self) -> bool:
        """Whether each had its Finished."""
        return self._left <= 0

    def read(self, events: Iterable[Event]) -> Iterator[Event]:
        """The same events; each Usage has the output tokens of all answers that have ended."""
        for event in events:
            if isinstance(event, Usage) and event.output_tokens is not None:
                self._output_tokens += event.output_tokens
                yield replace(event, output_tokens=self._output_tokens)
                continue
            self._left -= isinstance(event, Finished)
            yield event
