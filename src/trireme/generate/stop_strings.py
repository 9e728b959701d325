"""Stop strings in a stream of text: what may be shown now, and when to end."""

from __future__ import annotations


class StopStrings:
    """Finds the first stop string of one request. Text that could still become one is held back."""

    def __init__(self, stops: tuple[str, ...], *, is_shown: bool = False) -> None:
        """stops: none of them empty; may be none at all. is_shown: the one that is found is part of the text."""
        self._stops = stops
        self._is_shown = is_shown
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """The text that can be shown now. Once a stop string has come, everything after it is dropped."""
        if not self._stops:
            return text
        if self.found:
            return ""
        self._held += text
        # The earliest to end wins; of those that end together, the one that began first: as if the
        # text had come one character at a time.
        ends = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if ends:
            self.found = True
            end, at = min(ends)
            shown, self._held = self._held[: end if self._is_shown else at], ""
            return shown
        kept = self._longest_beginning()
        shown = self._held[: len(self._held) - kept]
        self._held = self._held[len(shown) :]
        return shown

    def finish(self) -> str:
        """What was held back, since nothing more comes to complete a stop string."""
        held, self._held = self._held, ""
        return held

    def _longest_beginning(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        for size in range(min(self._longest - 1, len(self._held)), 0, -1):
            end = self._held[-size:]
            if any(stop.startswith(end) for stop in self._stops):
                return size
        return 0
