"""One collector of OpenTelemetry, asked over OTLP/HTTP: what it takes, and what its answers mean."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, urlsplit

PROTOBUF = "application/x-protobuf"
# Of an answer that is read.
ANSWER_BYTES = 64 << 10
# What OTLP's specification says may be sent again.
_AGAIN = frozenset({429, 502, 503, 504})
LONGEST_WAIT = 30.0

# taken: all of it or a part. again: the same may be taken later. refused: never.
Verdict = Literal["taken", "again", "refused"]


@dataclass(frozen=True, slots=True)
class Answer:
    """verdict: see there. body: of what was taken. reason: in words, of what was not. wait: seconds asked for."""

    verdict: Verdict
    body: bytes = b""
    reason: str = ""
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Collector:
    """url: with /v1/traces. headers: may hold a secret. seconds: of one request, from its connection to the end of
    the answer; looking for the address takes what the system takes."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    seconds: float = 5.0

    @property
    def place(self) -> str:
        """host:port, for a log: a path may hold a secret."""
        return urlsplit(self.url).netloc

    def send(self, body: bytes) -> Answer:
        """Ask it to take an ExportTraceServiceRequest. Blocks; never raises. Redirects are not followed."""
        try:
            return self._ask(body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Answer("again", reason=f"it cannot be asked ({type(error).__name__})")

    def _ask(self, body: bytes) -> Answer:
        parts = urlsplit(self.url)
        connection = self._connection(parts)
        # A timeout of the socket is of each read: a collector that drips would have all the time there is.
        timer = threading.Timer(self.seconds, _cut, (connection,))
        timer.daemon = True
        timer.start()
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", target, body, {**self.headers, "content-type": PROTOBUF})
            return _read(connection.getresponse())
        finally:
            timer.cancel()
            connection.close()

    def _connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=self.seconds, context=context)
        return http.client.HTTPConnection(host, port, timeout=self.seconds)


def _read(response: http.client.HTTPResponse) -> Answer:
    body = response.read(ANSWER_BYTES)
    if response.length and len(body) < ANSWER_BYTES:
        return Answer("again", reason="it broke off its answer")
    if response.status == 200:
        return Answer("taken", body)
    reason = f"it answered {response.status}"
    if response.status not in _AGAIN:
        return Answer("refused", reason=reason)
    wait = response.headers.get("retry-after", "")
    return Answer("again", reason=reason, wait=min(LONGEST_WAIT, float(wait)) if wait.isdecimal() else 0.0)


def _cut(connection: http.client.HTTPConnection) -> None:
    opened = connection.sock
    if opened is not None:
        with suppress(OSError):
            opened.shutdown(socket.SHUT_RDWR)
