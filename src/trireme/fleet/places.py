"""Where the parts of a fleet listen, and what Envoy is told of them. Pure."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trireme.artifacts.recipe import Recipe
from trireme.errors import SettingError
from trireme.scale.value_readers import Address
from trireme.scale.values import EnvoyValues, ModelEntry, Values
from trireme.settings import Settings

# Of 127.0.0.0/8, all of which is this machine: Envoy's own ports, and the replicas from the next one on.
FIRST_ADDRESS = ipaddress.IPv4Address("127.0.0.10")
MOST_REPLICAS = 64
# The one entry of a fleet: every replica serves the whole repository. Its name is that of Envoy's cluster.
ENTRY = "models"
# Calls in flight for each replica; Envoy refuses more.
MOST_CALLS = 256


@dataclass(frozen=True, slots=True)
class Place:
    """One replica: its name, which is its number, its address, and its ports there."""

    name: str
    address: str
    http_port: int
    grpc_port: int
    metrics_port: int
    agent_port: int
    agent_http_port: int


def place_replicas(settings: Settings, count: int) -> list[Place]:
    """A place for each of `count` replicas. Raises SettingError for none, and for more than MOST_REPLICAS.

    Each has an address of its own, and the same ports there: HTTP and metrics as they are set. The port of gRPC is
    Envoy's; theirs, and their agents', are the next ones that no setting names.
    """
    if not 1 <= count <= MOST_REPLICAS:
        raise SettingError(f"--replicas must be from 1 to {MOST_REPLICAS}, got {count}")
    ports = _free_numbers(settings)
    grpc, agent, agent_http = next(ports), next(ports), next(ports)
    return [
        Place(
            name=str(number),
            address=str(FIRST_ADDRESS + number),
            http_port=settings.http_port,
            grpc_port=grpc,
            metrics_port=settings.metrics_port,
            agent_port=agent,
            agent_http_port=agent_http,
        )
        for number in range(1, count + 1)
    ]


def envoy_values(settings: Settings, recipes: Sequence[Recipe], count: int) -> Values:
    """What Envoy is told in front of `count` replicas. Raises SettingError for a host that has no address.

    Encoders, retrievers and searches only read: a call that was lost may be sent again.
    """
    admin = next(_free_numbers(settings))
    envoy = EnvoyValues(
        listen=Address(_ip_address(settings.host), settings.grpc_port),
        admin=Address(str(FIRST_ADDRESS), admin),
        metrics=Address(str(FIRST_ADDRESS), settings.metrics_port),
        # Nothing is lost on the way within a machine: a slow try is a busy one, and a second one makes it busier.
        per_try_timeout_seconds=0.0,
        # The only one must not be left out: it may be back sooner.
        outlier_percent=50 if count > 1 else 0,
        retries=5,
    )
    entry = ModelEntry(
        name=ENTRY,
        serves=tuple(recipe.model for recipe in recipes),
        idempotent=tuple(recipe.model for recipe in recipes if _only_reads(recipe)),
        min_replicas=count,
        max_replicas=count,
        max_requests=MOST_CALLS * count,
        is_default=True,
    )
    return Values((entry,), envoy)


def _only_reads(recipe: Recipe) -> bool:
    kind = recipe.traits
    return not kind.is_decoupled and kind.name != "ingester"


def _free_numbers(settings: Settings) -> Iterator[int]:
    """Ports above those of the server that no setting names."""
    own = (settings.http_port, settings.grpc_port, settings.metrics_port)
    taken = (*own, settings.gateway_port, settings.worker_metrics_port)
    for port in range(max(own) + 1, 65536):
        if port not in taken:
            yield port
    raise SettingError("no ports are left above TRIREME_METRICS_PORT: set lower ports")


def _ip_address(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        raise SettingError(f"TRIREME_HOST names no address of this machine: {host}") from None
