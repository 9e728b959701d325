"""Which calls of KServe's protocol Envoy passes on, to which entry, and what it may do again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trireme.scale.endpoints import far_name, near_name
from trireme.scale.values import ModelEntry, Values

Json = dict[str, Any]

# gRPC metadata of a call: the Triton model it is for, that it must stay in this region, and its priority.
MODEL_HEADER = "trireme-model"
RESIDENCY_HEADER = "trireme-residency"
PRIORITY_HEADER, BATCH = "trireme-priority", "batch"
# What an Envoy in between says of a call that no server had, so that one that spilled is asked near.
NOT_SENT_HEADER = "trireme-not-sent"
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


def batch_name(entry: ModelEntry) -> str:
    """What the cluster of batch calls is called that may fail over."""
    return f"{entry.name}_batch"


def away_name(entry: ModelEntry) -> str:
    """What the cluster of calls that spill is called: the far replicas first, then the near ones."""
    return f"{entry.name}_away"


def spill_key(entry: ModelEntry) -> str:
    """The key of Envoy's runtime that holds how many of a hundred calls spill."""
    return f"spill.{entry.name}"


def route_configuration(values: Values) -> Json:
    """The routes of all entries; a call that names no model, or one of none of them, goes to the default entry."""
    routes = [route for entry in _default_last(values) for route in _routes_of(entry, values)]
    refusal = {
        "name": "others",
        "match": {"prefix": "/"},
        # Envoy tells gRPC clients of a 404 as UNIMPLEMENTED.
        "direct_response": {"status": 404, "body": {"inline_string": REFUSAL}},
    }
    host: Json = {
        "name": "models",
        "domains": ["*"],
        "routes": [*routes, refusal],
        "request_body_buffer_limit": str(values.envoy.retry_body_bytes),
    }
    if values.has_failover:
        # Said among Envoys alone.
        host["response_headers_to_remove"] = [NOT_SENT_HEADER]
    return {"name": "models", "virtual_hosts": [host]}


def relay_configuration(values: Values) -> Json:
    """The routes of calls that spill, of the listener that only Envoy itself reaches: to the far replicas alone.

    It tries nothing again: whoever sent the call does, near.
    """
    routes = [
        {
            "name": f"{entry.name}-far",
            "match": {"prefix": "/", "headers": _named(entry, values)},
            "route": {"cluster": far_name(entry.name), **_WITHOUT_TIME},
        }
        for entry in _default_last(values)
    ]
    return {"name": "relay", "virtual_hosts": [{"name": "relay", "domains": ["*"], "routes": routes}]}


def _default_last(values: Values) -> list[ModelEntry]:
    return [*(entry for entry in values.models if entry is not values.default), values.default]


def _named(entry: ModelEntry, values: Values) -> list[Json]:
    return [] if entry is values.default else [_header(entry.serves)]


@dataclass(frozen=True, slots=True)
class _Way:
    """Where calls of a kind go: those that `match`. spills: of them only the share that Envoy's runtime says."""

    suffix: str
    cluster: str
    match: tuple[Json, ...] = ()
    spills: bool = False


def _ways(entry: ModelEntry, values: Values) -> Iterator[_Way]:
    """The narrowest first."""
    if values.has_failover:
        near = near_name(entry.name)
        # Whatever its value: a misspelt one must not send a call away.
        yield _Way("-near", near, ({"name": RESIDENCY_HEADER, "present_match": True},))
        is_batch = {"name": PRIORITY_HEADER, "string_match": {"exact": BATCH}}
        yield _Way("-batch", batch_name(entry) if entry.failover_batch_requests else near, (is_batch,))
        if values.envoy.spill:
            yield _Way("-spill", away_name(entry), spills=True)
    yield _Way("", entry.name)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A class of calls. retry_on, try_seconds: as `_retry` takes them. can_spill: whether it is work."""

    name: str
    match: Json
    headers: list[Json]
    retry_on: str
    try_seconds: float = 0.0
    is_hedged: bool = False
    can_spill: bool = True


def _kinds(entry: ModelEntry, values: Values) -> Iterator[_Kind]:
    """The narrowest first."""
    envoy = values.envoy
    named = _named(entry, values)
    own = entry.per_try_timeout_seconds
    try_seconds = envoy.per_try_timeout_seconds if own is None else own
    sent_again = SENT if envoy.retry_stream_resets else REFUSED
    yield _Kind("stream", {"path": STREAM}, named, sent_again, envoy.first_message_seconds)
    if entry.idempotent:
        is_hedged = bool(envoy.hedging and try_seconds)
        match = [_header(entry.idempotent)]
        yield _Kind("idempotent", {"path": INFER}, match, SENT, try_seconds, is_hedged)
    yield _Kind("infer", {"path": INFER}, named, NOT_SENT)
    reads = {"safe_regex": {"regex": f"{re.escape(SERVICE)}({'|'.join(READS)})"}}
    yield _Kind("read", reads, named, SENT, can_spill=False)
    yield _Kind("health", {"prefix": HEALTH}, named, NOT_SENT, can_spill=False)


# Calls take as long as their clients let them: the deadline that gRPC sends along holds.
_WITHOUT_TIME = {
    "timeout": "0s",
    "idle_timeout": "0s",
    "max_stream_duration": {"grpc_timeout_header_max": "0s"},
}


def _routes_of(entry: ModelEntry, values: Values) -> list[Json]:
    return [
        _route(kind, way, entry, values)
        for kind in _kinds(entry, values)
        for way in _ways(entry, values)
        if kind.can_spill or not way.spills
    ]


def _route(kind: _Kind, way: _Way, entry: ModelEntry, values: Values) -> Json:
    match: Json = {**kind.match, "headers": [*kind.headers, *way.match]}
    has_regions = values.has_failover and way.cluster != near_name(entry.name)
    retry = _retry(kind, values, has_regions=has_regions)
    route: Json = {"name": f"{entry.name}-{kind.name}{way.suffix}", "match": match}
    more: Json = {}
    if way.spills:
        share = {"default_value": {"numerator": 0}, "runtime_key": spill_key(entry)}
        match["runtime_fraction"] = share
        retry["retry_on"] += ",retriable-headers"
        retry["retriable_headers"] = [{"name": NOT_SENT_HEADER, "present_match": True}]
    if kind.is_hedged:
        more["hedge_policy"] = {"hedge_on_per_try_timeout": True}
    return {**route, "route": {"cluster": way.cluster, **_WITHOUT_TIME, "retry_policy": retry, **more}}


def _header(models: tuple[str, ...]) -> Json:
    """A match of the model's header; Envoy compares the whole value."""
    regex = "|".join(re.escape(model) for model in models)
    return {"name": MODEL_HEADER, "string_match": {"safe_regex": {"regex": regex}}}


def _retry(kind: _Kind, values: Values, *, has_regions: bool) -> Json:
    """What is tried again, on another replica where there is one. has_regions: whether also in the next region."""
    envoy = values.envoy
    policy: Json = {
        "retry_on": kind.retry_on,
        "num_retries": envoy.retries,
        "retry_host_predicate": [_PREVIOUS_HOSTS],
        # Among two idle replicas each pick is a coin's: so many until it is another one.
        "host_selection_retry_max_attempts": MOST_PICKS,
        "retry_back_off": {"base_interval": "0.010s", "max_interval": "0.100s"},
    }
    # Until the first message.
    if kind.try_seconds:
        policy["per_try_timeout"] = seconds(kind.try_seconds)
    if has_regions:
        policy["retry_priority"] = {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": f"{_EXTENSION}.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": envoy.tries_per_region,
            },
        }
    return policy
