"""values.yaml: which servers there are, and how Envoy balances them. The Helm chart and Envoy read the same file.

Every key is known, else the file is refused; what is in parts that only the chart reads is the chart's to check.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from trireme.errors import SettingError, UnsupportedError
from trireme.scale.region_values import (
    Region,
    RegionTls,
    check_regions,
    read_regions,
    region_address,
    region_tls,
)
from trireme.scale.value_readers import (
    ENTRY_NAME,
    HOST,
    Address,
    Reader,
    access_log,
    address,
    names_of,
    seconds,
    service,
    shown,
    shown_key,
    switch,
    whole,
    word,
)

Balancing = Literal["leastRequest", "roundRobin", "orca"]
Target = Literal["cpu", "gpu"]

# Keys that only the chart reads: of an entry of `models`, and of the file. values.schema.json has the same.
CHART_KEYS = frozenset(
    {
        *("args", "drain", "env", "image", "machineKind", "nodeSelector", "replicas", "resources"),
        *("runtimeClassName", "scale", "storage", "tolerations", "warmup"),
    }
)
CHART_PARTS = frozenset(
    {
        *("balancer", "drain", "gateway", "global", "gpuQuota", "image", "modelRepository", "monitoring"),
        *("networkPolicy", "scaling", "secrets", "settings", "worker"),
    }
)
_PARTS = frozenset({"models", "envoy", "regions"})
# Of a Triton model.
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_LONGEST_REASON = 500
_MOST_REPLICAS = 10_000
_MOST_CALLS = 1_000_000

_LISTEN, _REGION_LISTEN = Address("127.0.0.1", 8001), Address("127.0.0.1", 8010)
_ADMIN, _METRICS, _CONTROLLER = (Address("127.0.0.1", port) for port in (9901, 9902, 9903))


@dataclass(frozen=True, slots=True)
class EnvoyValues:
    """`envoy`: one Envoy in front of all entries. In the file, names are in camelCase: perTryTimeoutSeconds."""

    # gRPC of clients.
    listen: Address = field(default=_LISTEN, metadata=address(_LISTEN))
    admin: Address = field(default=_ADMIN, metadata=address(_ADMIN, is_own=True))
    # HTTP: /stats/prometheus and /ready of the admin address, and nothing else of it. With regions: envoy.far_path.
    metrics: Address = field(default=_METRICS, metadata=address(_METRICS))
    # gRPC of other regions' balancers, which reach near replicas alone; None: no such listener.
    region_listen: Address | None = field(default=None, metadata=region_address(_REGION_LISTEN))
    # Of that listener and of calls to other regions, both sides proving who they are. Read again when replaced.
    region_tls: RegionTls | None = field(default=None, metadata={"read": region_tls})
    # Whether both may be without it beyond this machine.
    region_insecure: bool = field(default=False, metadata={"read": switch})
    # HTTP of `trireme regions` beside this Envoy; other regions learn there how loaded this one is.
    controller: Address = field(default=_CONTROLLER, metadata=address(_CONTROLLER))
    # Sends a share of the calls to other regions by load, which `trireme regions` measures.
    spill: bool = field(default=False, metadata={"read": switch})
    # Threads. Each keeps connections and counts of its own: with few replicas one balances best.
    workers: int = field(default=1, metadata=whole(1, 256))
    # leastRequest looks at all replicas; roundRobin has a slow start; orca weighs them by what their agents report.
    balancing: Balancing = field(default="leastRequest", metadata=word("leastRequest", "roundRobin", "orca"))
    # A new replica's share grows for so long.
    slow_start_seconds: float = field(default=0.0, metadata=seconds(1, is_off_at_zero=True))
    # Between two reports of an agent.
    orca_seconds: float = field(default=1.0, metadata=seconds(0.1))
    health_interval_seconds: float = field(default=0.5, metadata=seconds(0.05))
    health_timeout_seconds: float = field(default=2.0, metadata=seconds(0.05))
    # Checks that fail, or succeed, until a replica is out, or in.
    unhealthy_threshold: int = field(default=2, metadata=whole(1, 100))
    healthy_threshold: int = field(default=1, metadata=whole(1, 100))
    # Calls in a row that lose or find no connection, or that a replica refuses, until it is out, and for how long.
    # A dead replica has nothing in flight, so least request would prefer it, and a retry would too.
    outlier_failures: int = field(default=1, metadata=whole(1, 10_000))
    outlier_refusals: int = field(default=20, metadata=whole(1, 10_000))
    outlier_seconds: float = field(default=5.0, metadata=seconds(0.1))
    # Of an entry's replicas that may be out in this way.
    outlier_percent: int = field(default=50, metadata=whole(0, 100))
    # Of one call, beside the first try.
    retries: int = field(default=3, metadata=whole(0, 20))
    # Retries at once, of the calls in flight, and how many there may always be.
    retry_budget_percent: int = field(default=20, metadata=whole(0, 100))
    min_retry_concurrency: int = field(default=64, metadata=whole(0, _MOST_CALLS))
    # Tries that fail in a region until the next one is asked.
    tries_per_region: int = field(default=1, metadata=whole(1, 20))
    # Of idempotent calls: a try that takes longer is made anew; with hedging the first one goes on beside it.
    per_try_timeout_seconds: float = field(default=10.0, metadata=seconds(0.01, is_off_at_zero=True))
    hedging: bool = field(default=False, metadata={"read": switch})
    # Until a stream's first message.
    first_message_seconds: float = field(default=120.0, metadata=seconds(0.1, is_off_at_zero=True))
    # Whether a stream that lost its server before the first message may be run again by another one.
    retry_stream_resets: bool = field(default=True, metadata={"read": switch})
    # A request that is larger is sent once.
    retry_body_bytes: int = field(default=1 << 20, metadata=whole(0, 1 << 30))
    connect_timeout_seconds: float = field(default=1.0, metadata=seconds(0.01))
    # To a region listener: two round trips with TLS, so that it has a limit of its own.
    far_connect_timeout_seconds: float = field(default=1.0, metadata=seconds(0.01))
    # Pings on connections to replicas: one that does not answer them in time is closed.
    keepalive_interval_seconds: float = field(default=5.0, metadata=seconds(0.1, is_off_at_zero=True))
    keepalive_timeout_seconds: float = field(default=2.0, metadata=seconds(0.1))
    # After so long a client is told to connect anew, which may bring it to another Envoy; its calls run on.
    client_connection_seconds: float = field(default=0.0, metadata=seconds(0.1, is_off_at_zero=True))
    # For clients to go elsewhere when Envoy itself is drained.
    drain_seconds: float = field(default=30.0, metadata=seconds(1))
    access_log: str = field(default="", metadata={"read": access_log})
    # In Kubernetes: the headless Service of an entry, and its pods' ports. agentPort 0: the server is asked itself.
    service: str = field(default="trireme-{model}", metadata={"read": service})
    server_port: int = field(default=8001, metadata=whole(1, 65535))
    agent_port: int = field(default=8003, metadata=whole(0, 65535))


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One entry of `models`: replicas of one tritonserver, and the Triton models that it serves."""

    name: str
    serves: tuple[str, ...]
    # Models whose calls may be sent twice.
    idempotent: tuple[str, ...] = ()
    target: Target = "cpu"
    min_replicas: int = 1
    max_replicas: int = 1
    # Calls in flight for each Envoy; of normal and high priority in other regions; of batch priority there.
    max_requests: int = 256
    failover_max_requests: int = 256
    failover_batch_requests: int = 0
    # In place of Envoy's; None: as there.
    per_try_timeout_seconds: float | None = None
    # Calls that name no model go here.
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Values:
    """What `trireme.scale` reads of a values.yaml.

    regions: this Envoy's own first; with one or none there is no failover.
    """

    models: tuple[ModelEntry, ...]
    envoy: EnvoyValues = EnvoyValues()
    regions: tuple[Region, ...] = ()

    @property
    def default(self) -> ModelEntry:
        """The entry of calls that name no model."""
        return next((entry for entry in self.models if entry.is_default), self.models[0])

    @property
    def has_failover(self) -> bool:
        """Whether there are other regions."""
        return len(self.regions) > 1

    @property
    def own_region(self) -> str:
        """The name of this Envoy's region; "" where regions are not named."""
        return self.regions[0].name if self.regions else ""

    @property
    def other_regions(self) -> tuple[Region, ...]:
        """All regions but this Envoy's own, in the file's order."""
        return self.regions[1:]


def read_values(path: Path) -> Values:
    """The values of a file. Raises SettingError naming key and file; UnsupportedError without PyYAML."""
    return parse_values(read_yaml(path), str(path))


def read_yaml(path: Path) -> Any:
    """What a file of YAML says, each key at most once. Raises as `read_values`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: {getattr(error, 'strerror', None) or 'is no UTF-8'}") from None
    return _load(text, str(path))


def parse_values(raw: Any, name: str) -> Values:
    """As `read_values`, of what YAML gave; `name` stands before the key in errors."""
    if not isinstance(raw, Mapping) or not isinstance(raw.get("models"), Mapping) or not raw["models"]:
        raise SettingError(f"{name}: models must be a map with at least one entry")
    known = {*_PARTS, *CHART_PARTS}
    for key in raw:
        if key not in known:
            raise SettingError(f"{name}: {shown_key(key)} is no setting; known: {', '.join(sorted(known))}")
    entries = tuple(
        _entry(key, value, f"{name}: models.{shown_key(key)}") for key, value in raw["models"].items()
    )
    _check_entries(entries, name)
    envoy = EnvoyValues(**_read(raw.get("envoy", {}), EnvoyValues, f"{name}: envoy"))
    _check_envoy(envoy, name)
    _check_service(envoy.service, entries, name)
    regions = read_regions(raw.get("regions", []), name)
    check_regions(
        regions, envoy.region_listen, envoy.region_tls, is_insecure=envoy.region_insecure, name=name
    )
    return Values(entries, envoy, regions)


def _load(text: str, name: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise UnsupportedError("values.yaml needs PyYAML: pip install 'trireme[envoy]'") from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Refuses a key that stands twice, of which YAML would silently keep the last."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            # A merge ("<<") is no key; what it brings may be said again.
            named = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
            seen = set()
            for key in (self.construct_object(key, deep=True) for key in named):
                # What is not hashable is refused below.
                if isinstance(key, Hashable) and key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{shown(key)} stands twice", node.start_mark
                    )
                seen.update([key] if isinstance(key, Hashable) else [])
            return super().construct_mapping(node, deep)

        def construct_scalar(self, node: Any) -> Any:
            if node.tag in _NUMBERS and ":" in node.value:
                # To YAML 1.1, which this is, 1:30 is 90; to Helm it is a text.
                raise yaml.constructor.ConstructorError(
                    None, None, f"{shown(node.value)} is no number", node.start_mark
                )
            return super().construct_scalar(node)

    try:
        return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date or a number that is none.
        told = " ".join(str(error).split())
        raise SettingError(f"{name}: {told[:_LONGEST_REASON]}") from None


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _mapping(raw: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise SettingError(f"{where} must be a map, got {shown(raw)}")
    return raw


def _read(raw: Any, kind: type, where: str) -> dict[str, Any]:
    """The fields of a dataclass by its fields' readers."""
    known = {_camel(one.name): one for one in fields(kind)}
    read: dict[str, Any] = {}
    for key, value in _mapping(raw, where).items():
        if key in known:
            read[known[key].name] = _value(known[key].metadata, value, f"{where}.{key}")
        else:
            raise SettingError(f"{where}.{shown_key(key)} is no setting; known: {', '.join(sorted(known))}")
    return read


def _value(metadata: Mapping[str, Any], raw: Any, where: str) -> Any:
    try:
        return metadata["read"](raw)
    except ValueError as error:
        between = "" if str(error).startswith(".") else " "
        raise SettingError(f"{where}{between}{error}") from None


_ENTRY: Mapping[str, Mapping[str, Reader]] = {
    "serves": names_of(_MODEL, "names of Triton models", can_be_empty=False),
    "idempotent": names_of(_MODEL, "names of Triton models", can_be_empty=True),
    "target": word("cpu", "gpu"),
    "maxRequests": whole(1, _MOST_CALLS),
    "failoverMaxRequests": whole(1, _MOST_CALLS),
    "failoverBatchRequests": whole(0, _MOST_CALLS),
    "perTryTimeoutSeconds": seconds(0.01, is_off_at_zero=True),
    "default": {"read": switch},
}


def _entry(key: Any, raw: Any, where: str) -> ModelEntry:
    if not isinstance(key, str) or not ENTRY_NAME.fullmatch(key):
        raise SettingError(f"{where}: a name has 1 to 41 lower-case letters, digits and -")
    own = {}
    for name, value in _mapping(raw, where).items():
        if name in _ENTRY:
            own[name] = _value(_ENTRY[name], value, f"{where}.{name}")
        elif name not in CHART_KEYS:
            known = ", ".join(sorted({*_ENTRY, *CHART_KEYS}))
            raise SettingError(f"{where}.{shown_key(name)} is no setting; known: {known}")
    if "serves" not in own:
        raise SettingError(f"{where}.serves is missing: the Triton models of its servers")
    least, most = _replicas(raw.get("replicas", {}), f"{where}.replicas")
    for model in own.get("idempotent", ()):
        if model not in own["serves"]:
            raise SettingError(f"{where}.idempotent names {model!r}, which is not in {where}.serves")
    most_calls = own.get("maxRequests", 256)
    return ModelEntry(
        name=key,
        serves=own["serves"],
        idempotent=own.get("idempotent", ()),
        target=own.get("target", "cpu"),
        min_replicas=least,
        max_replicas=most,
        max_requests=most_calls,
        failover_max_requests=own.get("failoverMaxRequests", most_calls),
        failover_batch_requests=own.get("failoverBatchRequests", 0),
        per_try_timeout_seconds=own.get("perTryTimeoutSeconds"),
        is_default=own.get("default", False),
    )


def _replicas(raw: Any, where: str) -> tuple[int, int]:
    for key in _mapping(raw, where):
        if key not in ("min", "max"):
            raise SettingError(f"{where}.{shown_key(key)} is no setting; known: min, max")
    bound = whole(0, _MOST_REPLICAS)
    least = _value(bound, raw.get("min", 1), f"{where}.min")
    most = _value(bound, raw.get("max", max(1, least)), f"{where}.max")
    if not max(1, least) <= most:
        raise SettingError(f"{where}.max must be at least {max(1, least)}, got {most}")
    return least, most


def _check_entries(entries: tuple[ModelEntry, ...], name: str) -> None:
    served: dict[str, str] = {}
    for entry in entries:
        for model in entry.serves:
            if model in served:
                raise SettingError(
                    f"{name}: models.{entry.name}.serves names {model!r}, as models.{served[model]}.serves does"
                )
            served[model] = entry.name
    defaults = [entry.name for entry in entries if entry.is_default]
    if len(defaults) > 1:
        raise SettingError(
            f"{name}: models.{defaults[1]}.default: models.{defaults[0]} is the default already"
        )


def _check_envoy(envoy: EnvoyValues, name: str) -> None:
    listening = {"listen": envoy.listen, "admin": envoy.admin, "metrics": envoy.metrics}
    if envoy.region_listen is not None:
        listening |= {"regionListen": envoy.region_listen, "controller": envoy.controller}
    ports = [one.port for one in listening.values()]
    if len(set(ports)) < len(ports):
        names = ", ".join(f"envoy.{key}" for key in listening)
        raise SettingError(f"{name}: {names} need ports of their own: {ports}")
    if envoy.slow_start_seconds and envoy.balancing == "leastRequest":
        raise SettingError(
            f"{name}: envoy.slowStartSeconds needs envoy.balancing roundRobin or orca: leastRequest hardly heeds it"
        )
    for key, is_on in (("balancing orca", envoy.balancing == "orca"), ("spill", envoy.spill)):
        if is_on and not envoy.agent_port:
            raise SettingError(f"{name}: envoy.{key} needs envoy.agentPort: agents report there")
    if envoy.server_port == envoy.agent_port:
        raise SettingError(
            f"{name}: envoy.agentPort and envoy.serverPort are both {envoy.agent_port}; agentPort 0 asks the server"
        )
    if envoy.hedging and not envoy.per_try_timeout_seconds:
        raise SettingError(f"{name}: envoy.hedging needs envoy.perTryTimeoutSeconds")


def _check_service(service: str, entries: tuple[ModelEntry, ...], name: str) -> None:
    if len(entries) > 1 and "{model}" not in service:
        raise SettingError(
            f"{name}: envoy.service must have {{model}} in it, got {shown(service)}: "
            "all entries would be the replicas of one"
        )
    for entry in entries:
        if not HOST.fullmatch(host := service.replace("{model}", entry.name)):
            raise SettingError(f"{name}: envoy.service: {shown(host)} is no DNS name")
