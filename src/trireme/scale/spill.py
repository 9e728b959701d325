"""Spill by load: the share of an entry's calls that far replicas are asked first, as a file that Envoy watches.

Such calls pass a listener inside of Envoy: what the far replicas may not take any more is then asked near, and not
refused, as Envoy would refuse it on a route of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trireme.errors import InvalidInputError
from trireme.scale.endpoints import replace_file
from trireme.scale.routes import NOT_SENT_HEADER, relay_configuration
from trireme.scale.values import Values

Json = dict[str, Any]

RELAY = "relay"
# Of Envoy's runtime, and of the resource in the file.
LAYER = "spill"
# Of a call that no server had: no place, no connection, no replica.
_NOT_SENT = ("UO", "UF", "UH")
_EXTENSIONS = "type.googleapis.com/envoy.extensions"


def spill_file(folder: Path) -> Path:
    """Where the shares are written. No entry has that name: theirs have no underscores."""
    return folder / "_spill.json"


def write_shares(folder: Path, percents: Mapping[str, int]) -> None:
    """Replaces the shares, 0 to 100 by the name of an entry; entries that are not named keep all calls near.

    Envoy takes the file at once; it must be there when Envoy starts. Raises InvalidInputError for a share that is
    none, SettingError for a folder that cannot be written.
    """
    for name, percent in percents.items():
        if not isinstance(percent, int) or not 0 <= percent <= 100:
            raise InvalidInputError(
                f"the share of {name!r} must be a whole number from 0 to 100, got {percent!r}"
            )
    resource = {
        "@type": "type.googleapis.com/envoy.service.runtime.v3.Runtime",
        "name": LAYER,
        "layer": {LAYER: dict(percents)},
    }
    replace_file(spill_file(folder), json.dumps({"resources": [resource]}, indent=1))


def make_shares(folder: Path) -> None:
    """Writes that all calls stay near where there is no file of shares. Raises as `write_shares`."""
    if not spill_file(folder).exists():
        write_shares(folder, {})


def runtime_layer(folder: Path) -> Json:
    """The layer of Envoy's runtime that is read from the file."""
    source = {
        "resource_api_version": "V3",
        "path_config_source": {"path": str(spill_file(folder).absolute())},
    }
    return {"name": LAYER, "rtds_layer": {"name": LAYER, "rtds_config": source}}


def relay_cluster(name: str) -> Json:
    """The relay as the one host of a cluster. It counts no calls: the far replicas' cluster does."""
    no_limit = 2**31
    limits = {"max_connections": no_limit, "max_requests": no_limit, "max_pending_requests": no_limit}
    at = {"envoy_internal_address": {"server_listener_name": RELAY, "endpoint_id": name}}
    options = {
        "@type": f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at}}]}],
        },
    }


def relay_listener(values: Values, most_streams: int) -> Json:
    """The listener that only Envoy itself reaches: it has no port. It marks what no server had."""
    manager = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": RELAY,
        "codec_type": "HTTP2",
        "http2_protocol_options": {"max_concurrent_streams": most_streams},
        "stream_idle_timeout": "0s",
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        "route_config": relay_configuration(values),
        "local_reply_config": not_sent_replies(),
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_EXTENSIONS}.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": RELAY, "internal_listener": {}, "filter_chains": [chain]}


def not_sent_replies() -> Json:
    """How a listener marks its own refusal of a call that no server had; also that of other regions' calls."""
    mark = {"header": {"key": NOT_SENT_HEADER, "value": "1"}}
    flags = {"response_flag_filter": {"flags": list(_NOT_SENT)}}
    return {"mappers": [{"filter": flags, "headers_to_add": [mark]}]}


def relay_extension() -> Json:
    """What Envoy needs to listen inside of itself."""
    kind = "bootstrap.internal_listener.v3.InternalListener"
    return {"name": "envoy.bootstrap.internal_listener", "typed_config": {"@type": f"{_EXTENSIONS}.{kind}"}}
