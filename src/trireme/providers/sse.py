"""Server-sent events, read as they come: WHATWG HTML, section 9.2.6, "Interpreting an event stream"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trireme.providers.port import ProviderError

# A frame with a whole tool call or a long text is a few kilobytes.
FRAME_BYTES = 8 << 20
_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Frame:
    """One event: its type, "" where the stream gave none, and its data lines, joined."""

    event: str
    data: str


class SseReader:
    """Bytes in, frames out, cut anywhere. A frame that has no data, and one that no blank line ends, is none."""

    def __init__(self, frame_bytes: int = FRAME_BYTES) -> None:
        self._limit = frame_bytes
        self._rest = b""
        self._may_have_bom = True
        self._event = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises ProviderError for a frame that is too long."""
        self._rest += data
        if self._may_have_bom:
            if len(self._rest) < len(_BOM) and _BOM.startswith(self._rest):
                return []
            self._rest = self._rest.removeprefix(_BOM)
            self._may_have_bom = False
        frames: list[Frame] = []
        if b"\r" not in self._rest:
            # As almost all servers write: almost twice as fast as the pattern.
            *lines, self._rest = self._rest.split(b"\n")
            for line in lines:
                self._take(line, frames)
            self._check_size()
            return frames
        start = 0
        for found in _LINE_END.finditer(self._rest):
            # A lone CR at the end may be the first half of CRLF.
            if found[0] == b"\r" and found.end() == len(self._rest):
                break
            self._take(self._rest[start : found.start()], frames)
            start = found.end()
        self._rest = self._rest[start:]
        self._check_size()
        return frames

    def _check_size(self) -> None:
        if len(self._rest) + self._size > self._limit:
            raise ProviderError(f"the provider sent a frame of over {self._limit} bytes", "next", "malformed")

    def _take(self, line: bytes, frames: list[Frame]) -> None:
        if not line:
            if self._data:
                frames.append(Frame(self._event, "\n".join(self._data)))
            self._event, self._data, self._size = "", [], 0
            return
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if name == b"data":
            self._data.append(text)
            self._size += len(line)
        elif name == b"event":
            self._event = text
