"""Ports for servers of tests."""

import itertools
import os
import random
import socket

# Below the ports that the kernel gives to clients, which could take one before its server does.
PORTS_OF_A_WORKER = 2000
FIRST_PORT = 10_000 + PORTS_OF_A_WORKER * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Each port once in a run; another run on this machine begins elsewhere.
_PORTS = itertools.cycle(random.sample(range(FIRST_PORT, FIRST_PORT + PORTS_OF_A_WORKER), PORTS_OF_A_WORKER))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that no other worker of this run picks."""
    return list(itertools.islice(filter(_is_free, _PORTS), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
