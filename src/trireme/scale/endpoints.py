"""Where the replicas of an entry are, as files that Envoy watches (EDS): a new file is in force within 0.1 s."""

from __future__ import annotations

import ipaddress
import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from trireme.errors import InvalidInputError, SettingError
from trireme.scale.value_readers import ENTRY_NAME

State = Literal["healthy", "draining"]
ASSIGNMENT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
# Envoy's own: with more replicas than three a lost one asks for less.
LEAST_OVERPROVISIONING = 140
# Of a replica, and of all of one region together.
MOST_WEIGHT = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One replica. A draining one gets no new calls; those that run end.

    address: an IP address. port: of gRPC. agent_port: where its health is asked; 0: the server's own port. weight:
    its share beside others, from 1. region: where it is. priority: 0 is near; the others are far, and asked in
    turn, as far as the ones before cannot take the calls.
    """

    address: str
    port: int
    state: State = "healthy"
    agent_port: int = 0
    weight: int = 1
    region: str = ""
    priority: int = 0


def near_name(cluster: str) -> str:
    """What the cluster of an entry's near replicas is called where there are far ones too."""
    return f"{cluster}_near"


def far_name(cluster: str) -> str:
    """What the cluster of an entry's far replicas is called."""
    return f"{cluster}_far"


def near_file(folder: Path, cluster: str) -> Path:
    """Where the near replicas are written."""
    return folder / f"{cluster}.json"


def far_file(folder: Path, cluster: str) -> Path:
    """Where all others are written."""
    return folder / f"{far_name(cluster)}.json"


def write_near(folder: Path, cluster: str, endpoints: Sequence[Endpoint]) -> None:
    """Replaces what Envoy knows of the near replicas of an entry of values.yaml, which `cluster` names.

    Writes one file into `folder` by a rename: a reader finds the old one or the new one. A replica that is no
    longer named gets no more calls: name it as draining until its own are over. Raises InvalidInputError for an
    endpoint that Envoy would refuse, without writing; SettingError for a folder that cannot be written.
    """
    _check_name(cluster)
    if any(one.priority != 0 for one in endpoints):
        raise InvalidInputError("near replicas have priority 0")
    _check(endpoints)
    replace_file(near_file(folder, cluster), _text(cluster, endpoints))


def write_far(folder: Path, cluster: str, endpoints: Sequence[Endpoint]) -> bool:
    """As `write_near`, of the far ones. Returns whether it wrote: what is there already is left as it is."""
    _check_name(cluster)
    if any(one.priority == 0 for one in endpoints):
        raise InvalidInputError("priority 0 is that of near replicas: the far ones begin with 1")
    _check(endpoints)
    path, text = far_file(folder, cluster), _text(far_name(cluster), endpoints)
    with suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8") == text:
            return False
    replace_file(path, text)
    return True


def make_far(folder: Path, cluster: str) -> None:
    """Writes that there are no far endpoints where there is no file of them: Envoy does not start without.

    Raises as `write_far`.
    """
    if not far_file(folder, cluster).exists():
        write_far(folder, cluster, [])


def read_near(folder: Path, cluster: str) -> list[Endpoint]:
    """The near endpoints that `write_near` wrote; [] where there is no file, or another's."""
    return [replace(one, priority=0) for one in _read(near_file(folder, cluster))]


def read_far(folder: Path, cluster: str) -> list[Endpoint]:
    """The far endpoints that `write_far` wrote, in their order; [] where there is no file, or another's."""
    return _read(far_file(folder, cluster))


def _read(path: Path) -> list[Endpoint]:
    try:
        (resource,) = json.loads(path.read_text(encoding="utf-8"))["resources"]
        found = [
            _endpoint(one, locality) for locality in resource["endpoints"] for one in locality["lb_endpoints"]
        ]
        _check(found)
    except (OSError, ValueError, KeyError, TypeError, InvalidInputError):
        return []
    return sorted(found, key=lambda one: one.priority)


def assignment(name: str, endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """A ClusterLoadAssignment. Priorities are numbered anew from 0, for Envoy takes no gaps."""
    ranked = sorted(endpoints, key=lambda one: (one.priority, one.region))
    ranks = {priority: rank for rank, priority in enumerate(sorted({one.priority for one in ranked}))}
    localities = [
        {
            "priority": ranks[priority],
            "locality": {"region": region},
            "lb_endpoints": [_lb_endpoint(one) for one in some],
        }
        for (priority, region), some in groupby(ranked, key=lambda one: (one.priority, one.region))
    ]
    sizes = [count for priority in ranks if (count := sum(one.priority == priority for one in ranked)) > 1]
    return {
        "@type": ASSIGNMENT,
        "cluster_name": name,
        "endpoints": localities,
        # Of one alone all is lost or nothing, whatever the factor.
        "policy": {"overprovisioning_factor": overprovisioning(min(sizes, default=1))},
    }


def overprovisioning(replicas: int) -> int:
    """Percent: how much more than its share a replica takes, so that one lost alone sends no calls elsewhere."""
    if replicas < 2:
        return LEAST_OVERPROVISIONING
    return max(LEAST_OVERPROVISIONING, math.ceil(100 * replicas / (replicas - 1)))


def _lb_endpoint(one: Endpoint) -> dict[str, Any]:
    endpoint: dict[str, Any] = {
        "address": {"socket_address": {"address": one.address, "port_value": one.port}}
    }
    if one.agent_port:
        endpoint["health_check_config"] = {"port_value": one.agent_port}
    state = "DRAINING" if one.state == "draining" else "HEALTHY"
    return {"endpoint": endpoint, "health_status": state, "load_balancing_weight": one.weight}


def _endpoint(raw: Any, locality: Any) -> Endpoint:
    """What `_lb_endpoint` made. Priorities of the far file begin with 0, those of its endpoints with 1."""
    endpoint, at = raw["endpoint"], raw["endpoint"]["address"]["socket_address"]
    return Endpoint(
        address=at["address"],
        port=at["port_value"],
        state="draining" if raw["health_status"] == "DRAINING" else "healthy",
        agent_port=endpoint.get("health_check_config", {}).get("port_value", 0),
        weight=raw["load_balancing_weight"],
        region=locality["locality"]["region"],
        priority=locality["priority"] + 1,
    )


def _text(name: str, endpoints: Sequence[Endpoint]) -> str:
    return json.dumps({"resources": [assignment(name, endpoints)]}, indent=1)


def _check_name(cluster: str) -> None:
    if not ENTRY_NAME.fullmatch(cluster):
        raise InvalidInputError(f"{cluster!r} cannot be the name of an entry of values.yaml")


def _check(endpoints: Sequence[Endpoint]) -> None:
    seen: set[tuple[Any, int]] = set()
    weights: dict[tuple[int, str], int] = {}
    for one in endpoints:
        numbers = (one.port, one.agent_port, one.weight, one.priority)
        if not all(isinstance(number, int) for number in numbers):
            raise InvalidInputError(f"ports, weight and priority must be whole numbers, got {numbers}")
        try:
            # A number would be taken for an address, too.
            address = ipaddress.ip_address(str(one.address))
        except ValueError:
            raise InvalidInputError(
                f"an endpoint's address must be an IP address, got {one.address!r}"
            ) from None
        if not 0 < one.port < 65536 or not 0 <= one.agent_port < 65536:
            raise InvalidInputError(f"ports must be from 1 to 65535, got {one.port} and {one.agent_port}")
        if one.state not in ("healthy", "draining"):
            raise InvalidInputError(f"an endpoint's state is healthy or draining, got {one.state!r}")
        if one.weight < 1 or not 0 <= one.priority < 128:
            raise InvalidInputError("an endpoint's weight must be at least 1, its priority from 0 to 127")
        if (address, one.port) in seen:
            raise InvalidInputError(f"{one.address}:{one.port} is named twice")
        seen.add((address, one.port))
        place = (one.priority, one.region)
        weights[place] = weights.get(place, 0) + one.weight
        if weights[place] > MOST_WEIGHT:
            raise InvalidInputError(f"the weights of one region must be at most {MOST_WEIGHT} together")


def replace_file(path: Path, text: str) -> None:
    """Writes a file that Envoy watches by a rename. Raises SettingError where it cannot be written."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise SettingError(f"{path}: {error.strerror}") from None
