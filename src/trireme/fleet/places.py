"""Where the parts of a fleet listen, and what Envoy is told of them. Pure."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trireme.artifacts.recipe import Recipe
from trireme.errors import SettingError
from trireme.scale.value_readers import Address
from trireme.scale.values import Values, parse_values
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
    grpc, agent, agent_http, _, _ = _own_ports(settings)
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


def raw_values(settings: Settings, recipes: Sequence[Recipe], count: int) -> dict[str, Any]:
    """What Envoy is told in front of `count` replicas, as values.yaml has it; `parse_values` takes it.

    Encoders, retrievers and searches only read: a call that was lost may be sent again. Raises SettingError for a
    host that has no address.
    """
    grpc, agent, _, admin, _ = _own_ports(settings)
    envoy = {
        "listen": {"address": _ip_address(settings.host), "port": settings.grpc_port},
        "admin": {"address": str(FIRST_ADDRESS), "port": admin},
        "metrics": {"address": str(FIRST_ADDRESS), "port": settings.metrics_port},
        "controller": {"address": str(FIRST_ADDRESS), "port": regions_address(settings).port},
        "serverPort": grpc,
        "agentPort": agent,
        # Nothing is lost on the way within a machine: a slow try is a busy one, and a second one makes it busier.
        "perTryTimeoutSeconds": 0,
        # The only one must not be left out: it may be back sooner.
        "outlierPercent": 50 if count > 1 else 0,
        "retries": 5,
    }
    entry = {
        # An empty repository is served too: its models may come later.
        "serves": [recipe.model for recipe in recipes] or [ENTRY],
        "idempotent": [recipe.model for recipe in recipes if _only_reads(recipe)],
        "replicas": {"min": count, "max": count},
        "maxRequests": MOST_CALLS * count,
        "default": True,
    }
    return {"models": {ENTRY: entry}, "envoy": envoy}


def envoy_values(settings: Settings, recipes: Sequence[Recipe], count: int) -> Values:
    """As `raw_values`, read."""
    return parse_values(raw_values(settings, recipes, count), "the values of this stack")


def regions_address(settings: Settings) -> Address:
    """Where the controller of regions serves metrics and /ready."""
    return Address(str(FIRST_ADDRESS), _own_ports(settings)[-1])


def _only_reads(recipe: Recipe) -> bool:
    kind = recipe.traits
    return not kind.is_decoupled and kind.name != "ingester"


def _own_ports(settings: Settings) -> tuple[int, int, int, int, int]:
    """Of each replica: gRPC, its agent's gRPC and HTTP; Envoy's admin; the controller of regions.

    The last two are at another address than the replicas.
    """
    ports = _free_numbers(settings)
    first, second, third = next(ports), next(ports), next(ports)
    return first, second, third, first, second


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
