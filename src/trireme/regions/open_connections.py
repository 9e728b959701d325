"""Keeps Envoy's connections to the next region open, so that the first call that fails over finds one."""

from __future__ import annotations

import http.client
import ipaddress
from contextlib import closing

from trireme.scale.envoy import far_path
from trireme.scale.value_readers import Address
from trireme.scale.values import Values


class OpenConnections:
    """Asks through Envoy for what the next region's Envoy answers itself, for each entry. For one thread.

    A new connection costs a round trip, and another one under TLS; Envoy closes one that is idle for an hour.
    """

    def __init__(self, values: Values, seconds: float) -> None:
        """seconds: that one question may take."""
        at = values.envoy.metrics
        self._host, self._port = _own_host(at), at.port
        self._paths = [far_path(entry.name) for entry in values.models]
        self._seconds = seconds

    def ask(self) -> bool:
        """Whether all entries have a region that answers. Blocks; never raises."""
        return all([self._answers(path) for path in self._paths])

    def _answers(self, path: str) -> bool:
        try:
            with closing(http.client.HTTPConnection(self._host, self._port, timeout=self._seconds)) as asked:
                asked.request("GET", path)
                return asked.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False


def _own_host(at: Address) -> str:
    """Where this machine reaches an address that it listens on."""
    own = ipaddress.ip_address(at.address)
    if own.is_unspecified:
        return "::1" if own.version == 6 else "127.0.0.1"
    return at.address
