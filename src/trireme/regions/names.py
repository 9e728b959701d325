"""The addresses of balancers: looked up again and again; the last ones known hold where a look-up fails."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable

from trireme.scale.region_values import Region

# A host's name and a port -> its IP addresses. Raises OSError.
LookUp = Callable[[str, int], Iterable[str]]


def look_up(host: str, port: int) -> list[str]:
    """What DNS, or whatever this machine asks, says of a name. Blocks; raises OSError, UnicodeError."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Addresses:
    """Those of one region's balancer. For one writing thread; others may read."""

    def __init__(self, region: Region, remembered: Iterable[str] = (), look_up: LookUp = look_up) -> None:
        """remembered: what was known before, in force until the first look-up."""
        self._region = region
        self._look_up = look_up
        self.is_name = not _is_ip(region.host)
        self._known = _sorted(remembered) if self.is_name else (region.host,)

    @property
    def known(self) -> tuple[str, ...]:
        """IP addresses, in an order that does not change by itself; () before the first look-up."""
        return self._known

    def refresh(self) -> None:
        """Looks a name up. Blocks; never raises."""
        if not self.is_name:
            return
        try:
            found = _sorted(self._look_up(self._region.host, self._region.port))
        except (OSError, UnicodeError):
            return
        # A name without an address is one that DNS does not know now.
        self._known = found or self._known


def _sorted(addresses: Iterable[str]) -> tuple[str, ...]:
    # DNS turns its answers around; an address with a zone is of one machine's link.
    found = {ipaddress.ip_address(one) for one in addresses if _is_ip(one)}
    return tuple(str(one) for one in sorted(found, key=lambda one: (one.version, int(one))))


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
