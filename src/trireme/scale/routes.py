"""Which calls of KServe's protocol Envoy passes on, to which entry, and what it may do again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trireme.scale.values import ModelEntry, Values

Json = dict[str, Any]

# gRPC metadata of a call: the Triton model it is for.
MODEL_HEADER = "trireme-model"
SERVICE = "/inference.GRPCInferenceService/"
INFER, STREAM = f"{SERVICE}ModelInfer", f"{SERVICE}ModelStreamInfer"
HEALTH = "/grpc.health.v1.Health/"
# They only read, so that they may be asked again, of any replica.
READS = (
    "ServerLive",
    "ServerReady",
    "ServerMetadata",
    "ModelReady",
    "ModelMetadata",
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
)
# What is left changes one server, such as RepositoryModelLoad or SystemSharedMemoryRegister.
REFUSAL = "this call changes one replica alone: call that replica, not the balancer"

# When a call is sent again. First: none of it has reached a model.
NOT_SENT = "connect-failure,refused-stream"
# A server refused it, before it said anything else.
REFUSED = f"{NOT_SENT},unavailable"
# The server may have begun it; nothing of an answer came.
SENT = f"{REFUSED},reset"

MOST_PICKS = 32

_EXTENSION = "type.googleapis.com/envoy.extensions.retry"
_PREVIOUS_HOSTS = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": {"@type": f"{_EXTENSION}.host.previous_hosts.v3.PreviousHostsPredicate"},
}


def seconds(value: float) -> str:
    """A duration as Envoy's JSON writes it."""
    return f"{value:.6f}".rstrip("0").rstrip(".") + "s"


def route_configuration(values: Values) -> Json:
    """The routes of all entries; a call that names no model, or one of none of them, goes to the default entry."""
    others = [entry for entry in values.models if entry is not values.default]
    routes = [route for entry in [*others, values.default] for route in _routes_of(entry, values)]
    refusal = {
        "name": "others",
        "match": {"prefix": "/"},
        # Envoy tells gRPC clients of a 404 as UNIMPLEMENTED.
        "direct_response": {"status": 404, "body": {"inline_string": REFUSAL}},
    }
    host = {
        "name": "models",
        "domains": ["*"],
        "routes": [*routes, refusal],
        "request_body_buffer_limit": str(values.envoy.retry_body_bytes),
    }
    return {"name": "models", "virtual_hosts": [host]}


def _routes_of(entry: ModelEntry, values: Values) -> list[Json]:
    envoy = values.envoy
    named = [] if entry is values.default else [_header(entry.serves)]
    own = entry.per_try_timeout_seconds
    try_seconds = envoy.per_try_timeout_seconds if own is None else own
    sent_again = SENT if envoy.retry_stream_resets else REFUSED

    def route(kind: str, match: Json, headers: list[Json], retry: Json, more: Mapping[str, Any] = {}) -> Json:
        return {
            "name": f"{entry.name}-{kind}",
            "match": {**match, "headers": headers},
            "route": {
                "cluster": entry.name,
                # Calls take as long as their clients let them: the deadline that gRPC sends along holds.
                "timeout": "0s",
                "idle_timeout": "0s",
                "max_stream_duration": {"grpc_timeout_header_max": "0s"},
                "retry_policy": retry,
                **more,
            },
        }

    once = _retry(NOT_SENT, values)
    routes = [
        route("stream", {"path": STREAM}, named, _retry(sent_again, values, envoy.first_message_seconds))
    ]
    if entry.idempotent:
        hedge = {"hedge_policy": {"hedge_on_per_try_timeout": True}} if envoy.hedging and try_seconds else {}
        again = _retry(SENT, values, try_seconds)
        routes.append(route("idempotent", {"path": INFER}, [_header(entry.idempotent)], again, hedge))
    routes.append(route("infer", {"path": INFER}, named, once))
    reads = {"safe_regex": {"regex": f"{re.escape(SERVICE)}({'|'.join(READS)})"}}
    routes.append(route("read", reads, named, _retry(SENT, values)))
    routes.append(route("health", {"prefix": HEALTH}, named, once))
    return routes


def _header(models: tuple[str, ...]) -> Json:
    """A match of the model's header; Envoy compares the whole value."""
    regex = "|".join(re.escape(model) for model in models)
    return {"name": MODEL_HEADER, "string_match": {"safe_regex": {"regex": regex}}}


def _retry(retry_on: str, values: Values, try_seconds: float = 0.0) -> Json:
    """What is tried again, on another replica where there is one. try_seconds: until the first message; 0: any."""
    envoy = values.envoy
    policy: Json = {
        "retry_on": retry_on,
        "num_retries": envoy.retries,
        "retry_host_predicate": [_PREVIOUS_HOSTS],
        # Among two idle replicas each pick is a coin's: so many until it is another one.
        "host_selection_retry_max_attempts": MOST_PICKS,
        "retry_back_off": {"base_interval": "0.010s", "max_interval": "0.100s"},
    }
    if try_seconds:
        policy["per_try_timeout"] = seconds(try_seconds)
    if values.has_failover:
        policy["retry_priority"] = {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": f"{_EXTENSION}.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": envoy.tries_per_region,
            },
        }
    return policy
