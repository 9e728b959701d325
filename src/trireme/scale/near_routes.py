"""The routes of other regions' calls: the same classes as clients have, to near replicas alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trireme.scale.endpoints import near_name
from trireme.scale.routes import HEALTH, route_configuration
from trireme.scale.values import Values

Json = dict[str, Any]

# Envoy answers it itself, so that no replica's time is in the round trip.
PING = "/trireme/ping"
# The controller's, which says how loaded the near replicas are.
LOADS = "/trireme/loads"
CONTROLLER_CLUSTER = "region_controller"


def near_route_configuration(values: Values) -> Json:
    """As `route_configuration`, so that a call that fails here goes back to the region that sent it.

    Its clusters are the near ones, of which `maxRequests` holds for these calls and the clients' together.
    """
    # As if there were no other region.
    made = route_configuration(replace(values, regions=values.regions[:1]))
    near = {
        entry.name: near_name(entry.name) if values.has_failover else entry.name for entry in values.models
    }
    (host,) = made["virtual_hosts"]
    for route in host["routes"]:
        action = route.get("route", {})
        if "cluster" in action:
            action["cluster"] = near[action["cluster"]]
        if route["match"].get("prefix") == HEALTH:
            # Its own count of calls in flight: a region that is full is not one that is gone.
            action["priority"] = "HIGH"
    ping = {"name": "ping", "match": {"path": PING}, "direct_response": {"status": 200}}
    get = [{"name": ":method", "string_match": {"exact": "GET"}}]
    loads = {
        "name": "loads",
        "match": {"path": LOADS, "headers": get},
        "route": {"cluster": CONTROLLER_CLUSTER, "timeout": "2s"},
    }
    host["routes"][:0] = [ping, loads]
    return {**made, "name": "near"}
