"""Envoy's clusters: the replicas of each entry, whether they can be asked, and how calls are shared among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trireme.scale.endpoints import far_file, far_name, near_file, near_name, overprovisioning
from trireme.scale.near_routes import CONTROLLER_CLUSTER
from trireme.scale.region_tls import cluster_tls
from trireme.scale.routes import MODEL_HEADER, away_name, batch_name, seconds
from trireme.scale.spill import relay_cluster
from trireme.scale.value_readers import Address
from trireme.scale.values import EnvoyValues, ModelEntry, Values

Json = dict[str, Any]

_TYPES = "type.googleapis.com/envoy"
_POLICIES = f"{_TYPES}.extensions.load_balancing_policies"
# No entry has this name: theirs have no underscores. Nor dots, which Envoy would take apart in names of metrics.
ADMIN_CLUSTER = "envoy_admin"


def clusters_of(
    entry: ModelEntry,
    values: Values,
    endpoints: Path | None,
    *,
    far: Path | None = None,
    secrets: Path | None = None,
) -> list[Json]:
    """The clusters of an entry, whose name is that of the one that routes name.

    With other regions there are three: the near replicas, the far ones, which take no more calls at once than they
    are allowed, and the two in that order. Batch calls that may fail over, and calls that spill, have an order of
    their own. endpoints, far, secrets: as `envoy.bootstrap` has them.
    """
    if endpoints is None:
        near = _by_dns(entry, values.envoy)
    else:
        near = _by_file(entry.name, near_file(endpoints, entry.name))
    common = _common(entry.max_requests, values.envoy)
    far = far or endpoints
    if not values.has_failover or far is None:
        return [{"name": entry.name, **near, **common}]
    first, last = near_name(entry.name), far_name(entry.name)
    made = [
        {"name": first, **near, **common},
        _far_cluster(last, entry.failover_max_requests, entry, values, folder=far, secrets=secrets),
        _in_order(entry.name, (first, last), entry, values),
    ]
    if entry.failover_batch_requests:
        # Breakers are of a cluster: a second one of the same replicas has a limit of its own.
        batch, most = f"{last}_batch", entry.failover_batch_requests
        made.append(_far_cluster(batch, most, entry, values, folder=far, secrets=secrets))
        made.append(_in_order(batch_name(entry), (first, batch), entry, values))
    if values.envoy.spill:
        relay = f"{entry.name}_relay"
        made.append(relay_cluster(relay))
        away = _in_order(away_name(entry), (relay, first), entry, values)
        # What the far replicas may not take runs near, and is a retry to Envoy for as long as it does.
        (limits,) = away["circuit_breakers"]["thresholds"]
        limits["retry_budget"] = {
            "budget_percent": {"value": 100},
            "min_retry_concurrency": entry.max_requests,
        }
        made.append(away)
    return made


def _in_order(name: str, clusters: tuple[str, ...], entry: ModelEntry, values: Values) -> Json:
    return {
        "name": name,
        "connect_timeout": seconds(values.envoy.connect_timeout_seconds),
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": f"{_TYPES}.extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": list(clusters),
            },
        },
        # Retries are counted here, calls where they run.
        "circuit_breakers": _breakers(entry.max_requests, values.envoy),
    }


def _far_cluster(
    name: str, most: int, entry: ModelEntry, values: Values, *, folder: Path, secrets: Path | None
) -> Json:
    """The region listeners of other regions' balancers, of which `most` calls at once are asked."""
    source = _by_file(far_name(entry.name), far_file(folder, entry.name))
    common = _common(most, values.envoy)
    common["connect_timeout"] = seconds(values.envoy.far_connect_timeout_seconds)
    (check,) = common["health_checks"]
    # One that balances several entries says by it whether it can serve this one.
    named = {"header": {"key": MODEL_HEADER, "value": entry.serves[0]}}
    check["grpc_health_check"] = {"initial_metadata": [named]}
    if values.envoy.region_tls is not None and secrets is not None:
        common["transport_socket"] = cluster_tls(secrets)
    return {"name": name, **source, **common}


def admin_cluster(envoy: EnvoyValues) -> Json:
    """Envoy's own admin address, for the listener that shows a part of it."""
    return _one_address(ADMIN_CLUSTER, envoy.admin)


def controller_cluster(envoy: EnvoyValues) -> Json:
    """The controller beside this Envoy, for other regions that ask how loaded this one is."""
    return _one_address(CONTROLLER_CLUSTER, envoy.controller)


def _one_address(name: str, address: Address) -> Json:
    at = {"address": socket(address.address, address.port)}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": at}]}],
        },
    }


def socket(address: str, port: int) -> Json:
    """An address as Envoy writes it."""
    return {"socket_address": {"address": address, "port_value": port}}


def _by_file(name: str, path: Path) -> Json:
    return {
        "type": "EDS",
        "eds_cluster_config": {
            "service_name": name,
            "eds_config": {
                "resource_api_version": "V3",
                "path_config_source": {"path": str(path.absolute())},
            },
        },
        # The file is the truth: a replica that it no longer names gets no calls, however healthy it is.
        "ignore_health_on_host_removal": True,
    }


def _by_dns(entry: ModelEntry, envoy: EnvoyValues) -> Json:
    endpoint = {"address": socket(envoy.service.replace("{model}", entry.name), envoy.server_port)}
    if envoy.agent_port:
        endpoint["health_check_config"] = {"port_value": envoy.agent_port}
    return {
        "cluster_type": {
            "name": "envoy.cluster.dns",
            "typed_config": {
                "@type": f"{_TYPES}.extensions.clusters.dns.v3.DnsCluster",
                "dns_refresh_rate": "1s",
                "dns_lookup_family": "ALL",
            },
        },
        "load_assignment": {
            "cluster_name": entry.name,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
            # DNS does not say how many there are; two lose most with one.
            "policy": {"overprovisioning_factor": overprovisioning(max(2, entry.min_replicas))},
        },
    }


def _common(most: int, envoy: EnvoyValues) -> Json:
    http2: Json = {}
    if envoy.keepalive_interval_seconds:
        http2["connection_keepalive"] = {
            "interval": seconds(envoy.keepalive_interval_seconds),
            "timeout": seconds(envoy.keepalive_timeout_seconds),
        }
    options = {
        "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": http2},
    }
    return {
        "connect_timeout": seconds(envoy.connect_timeout_seconds),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "load_balancing_policy": {"policies": [{"typed_extension_config": _balancing(envoy)}]},
        "common_lb_config": {
            # Better no answer than one of a replica that is draining.
            "healthy_panic_threshold": {"value": 0},
            # A replica that drains or fails its check is left at once; Envoy's own is up to a second later.
            "update_merge_window": "0s",
            # One that was just added is no loss of capacity.
            "ignore_new_hosts_until_first_hc": True,
        },
        "health_checks": [_health_check(envoy)],
        "outlier_detection": _outliers(envoy),
        "circuit_breakers": _breakers(most, envoy),
    }


def _balancing(envoy: EnvoyValues) -> Json:
    slow = {"slow_start_config": {"slow_start_window": seconds(envoy.slow_start_seconds)}}
    slow_start = slow if envoy.slow_start_seconds else {}
    if envoy.balancing == "roundRobin":
        return _policy("round_robin", "RoundRobin", slow_start)
    if envoy.balancing == "orca":
        reports = {
            "enable_oob_load_report": True,
            "oob_reporting_period": seconds(envoy.orca_seconds),
            "oob_reporting_config": {"port_value": envoy.agent_port},
            "weight_update_period": seconds(envoy.orca_seconds),
            "blackout_period": seconds(2 * envoy.orca_seconds),
        }
        return _policy(
            "client_side_weighted_round_robin", "ClientSideWeightedRoundRobin", {**reports, **slow_start}
        )
    # Of two picked at random the slow one would still be asked too often where there are few.
    return _policy("least_request", "LeastRequest", {"selection_method": "FULL_SCAN"})


def _policy(package: str, message: str, fields: Json) -> Json:
    return {
        "name": f"envoy.load_balancing_policies.{package}",
        "typed_config": {"@type": f"{_POLICIES}.{package}.v3.{message}", **fields},
    }


def _health_check(envoy: EnvoyValues) -> Json:
    interval = seconds(envoy.health_interval_seconds)
    return {
        "interval": interval,
        # Also while no call goes there; Envoy's own is a minute.
        "no_traffic_interval": interval,
        "timeout": seconds(envoy.health_timeout_seconds),
        "unhealthy_threshold": envoy.unhealthy_threshold,
        "healthy_threshold": envoy.healthy_threshold,
        "grpc_health_check": {},
    }


def _outliers(envoy: EnvoyValues) -> Json:
    return {
        # UNAVAILABLE and DEADLINE_EXCEEDED; INTERNAL may be the request's fault. A full queue refuses as well, but
        # hardly all of so many.
        "consecutive_gateway_failure": envoy.outlier_refusals,
        "enforcing_consecutive_gateway_failure": 100,
        "enforcing_consecutive_5xx": 0,
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": envoy.outlier_failures,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": seconds(envoy.outlier_seconds),
        "max_ejection_time": seconds(6 * envoy.outlier_seconds),
        "max_ejection_percent": envoy.outlier_percent,
        # The agent's health says nothing of the server's answers.
        "successful_active_health_check_uneject_host": False,
    }


def _breakers(most: int, envoy: EnvoyValues) -> Json:
    return {
        "thresholds": [
            {
                "max_requests": most,
                "max_pending_requests": most,
                "retry_budget": {
                    "budget_percent": {"value": envoy.retry_budget_percent},
                    "min_retry_concurrency": envoy.min_retry_concurrency,
                },
                "track_remaining": True,
            }
        ]
    }
