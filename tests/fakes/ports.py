"""Ports for servers of tests."""

import fcntl
import itertools
import os
import random
import socket
import tempfile
from pathlib import Path

# Below the ports that the kernel gives to clients, which could take one before its server does.
PORTS_OF_A_WORKER = 2000
FIRST_PORT = 10_000 + PORTS_OF_A_WORKER * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Each port once in a run; another run on this machine begins elsewhere.
_PORTS = itertools.cycle(random.sample(range(FIRST_PORT, FIRST_PORT + PORTS_OF_A_WORKER), PORTS_OF_A_WORKER))
# A byte of it for each port, locked by the run that has drawn it until that ends: a port that was drawn is free
# until its server is there, and another run would draw it too.
_DRAWN = Path(tempfile.gettempdir()) / f"trireme-test-ports-{os.getuid()}"
_locks = _DRAWN.open("ab")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that no other run or worker on this machine picks while this one lasts."""
    tried = itertools.islice(_PORTS, PORTS_OF_A_WORKER)
    found = list(itertools.islice((port for port in tried if _take(port)), count))
    assert len(found) == count, "all ports of tests are taken"
    return found


def _take(port: int) -> bool:
    try:
        fcntl.lockf(_locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return _is_free(port)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
