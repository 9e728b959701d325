"""One question to a region's balancer on a connection that is kept: how long the way there and back takes."""

from __future__ import annotations

import http.client
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

from trireme.regions.loads import ask_loads
from trireme.scale.near_routes import PING
from trireme.scale.region_values import RegionTls

Outcome = Literal["ok", "late", "away", "denied", "wrong", "unnamed"]
OUTCOMES: tuple[Outcome, ...] = ("ok", "late", "away", "denied", "wrong", "unnamed")


@dataclass(frozen=True, slots=True)
class Answer:
    """seconds: of the round trip; None unless the outcome is ok."""

    outcome: Outcome
    seconds: float | None = None


class Probe:
    """Asks the region listener of `host`. For one thread. Opening a connection is no part of a round trip."""

    def __init__(self, host: str, port: int, tls: RegionTls | None, seconds: float) -> None:
        """host: the name that TLS proves. seconds: that each step of one probe may take."""
        self._host, self._port = host, port
        self._tls = tls
        self._seconds = seconds
        self._address = ""
        self._connection: http.client.HTTPConnection | None = None

    def measure(self, address: str) -> Answer:
        """One round trip to the IP address `address`; "": none is known. Blocks; never raises."""
        if not address:
            self.close()
            return Answer("unnamed")
        if address != self._address:
            self.close()
        was_open = self._connection is not None
        answer = self._ask(address)
        # One that was kept may have been closed meanwhile, as by a balancer that was started anew.
        return self._ask(address) if was_open and answer.outcome == "away" else answer

    def read(self, path: str) -> bytes | None:
        """What the region answers at a path, on the connection of the last probe; None: nothing. Never raises."""
        if self._connection is None:
            return None
        try:
            return ask_loads(self._connection, path)
        except (OSError, http.client.HTTPException):
            self.close()
            return None

    def close(self) -> None:
        """Closes the connection. Safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, address: str) -> Answer:
        try:
            if self._connection is None:
                self._connection = self._connect(address)
            began = perf_counter()
            self._connection.request("GET", PING, headers={"user-agent": "trireme"})
            response = self._connection.getresponse()
            # Envoy's answer has no body; another's may have no end.
            is_ours = response.status == http.client.OK and not response.read(1)
            seconds = perf_counter() - began
        except TimeoutError:
            answer = Answer("late")
        except (ssl.SSLError, FileNotFoundError, PermissionError):
            # The last two: of certificate, key or authority.
            answer = Answer("denied")
        except http.client.RemoteDisconnected:
            answer = Answer("away")
        except http.client.HTTPException:
            answer = Answer("wrong")
        except OSError:
            answer = Answer("away")
        else:
            answer = Answer("ok", seconds) if is_ours else Answer("wrong")
            if is_ours and not response.will_close:
                return answer
        self.close()
        return answer

    def _connect(self, address: str) -> http.client.HTTPConnection:
        """Raises OSError, ssl.SSLError, TimeoutError."""
        plain = socket.create_connection((address, self._port), self._seconds)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected = plain if self._tls is None else self._wrap(plain, self._tls)
        except BaseException:
            with suppress(OSError):
                plain.close()
            raise
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._seconds)
        connection.sock = connected
        self._address = address
        return connection

    def _wrap(self, plain: socket.socket, tls: RegionTls) -> ssl.SSLSocket:
        # Anew for each connection: the files may have been replaced.
        context = ssl.create_default_context(cafile=tls.authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # An empty pass phrase: OpenSSL would ask the terminal for that of an encrypted key, and wait.
        context.load_cert_chain(tls.certificate, tls.key, password="")
        context.set_alpn_protocols(["http/1.1"])
        return context.wrap_socket(plain, server_hostname=self._host)
