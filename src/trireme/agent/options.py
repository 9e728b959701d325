"""What one agent is told, checked at its start."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from urllib.parse import urlsplit

from trireme.errors import SettingError


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Options of `trireme agent`, by the names of its flags. Times are seconds.

    server: host:port of Triton's gRPC. metrics_url: http://host:port/metrics of it. port: of the agent's own gRPC;
    http_port: of its HTTP, 0: port + 1. host: that both are bound to. models: that should be there, with all that
    they call; none: all that the server has. poll: between two looks at the server. answer: that it may take to
    answer one. misses: unanswered looks in a row after which it counts as gone. health_interval, health_failures:
    of the balancer that asks this agent. drain: the longest that a drain waits. settle: without a request before a
    server counts as idle. canary: between two questions to a model. hung: how long it may owe an answer. target:
    of waiting work at which a replica is full.
    """

    server: str = "127.0.0.1:8001"
    metrics_url: str = "http://127.0.0.1:8002/metrics"
    port: int = 8003
    http_port: int = 0
    host: str = "127.0.0.1"
    models: tuple[str, ...] = ()
    poll: float = 0.5
    answer: float = 2.0
    misses: int = 3
    health_interval: float = 0.5
    health_failures: int = 2
    drain: float = 120.0
    settle: float = 1.0
    canary: float = 10.0
    hung: float = 30.0
    target: float = 2.0

    def __post_init__(self) -> None:
        """Raises SettingError, which names the flag."""
        read_address(self.server, "--server")
        _ = self.metrics_address
        for name in ("port", "http_port"):
            least = 1 if name == "port" else 0
            if not least <= getattr(self, name) < 65536:
                raise SettingError(f"{flag_of(name)} must be a TCP port, got {getattr(self, name)}")
        if self.http_port in (0, self.port) and (self.http_port or self.port == 65535):
            raise SettingError("--http-port must be a TCP port of its own, beside --port")
        for name in ("misses", "health_failures"):
            if getattr(self, name) < 1:
                raise SettingError(f"{flag_of(name)} must be at least 1, got {getattr(self, name)}")
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(option.default, float) and not (math.isfinite(value) and value > 0):
                raise SettingError(f"{flag_of(option.name)} must be a number of seconds above 0, got {value}")
        if not all(self.models):
            raise SettingError("--models must be names of models with commas between them")

    @property
    def metrics_address(self) -> tuple[str, int]:
        """Host, with brackets where it is IPv6, and port of `metrics_url`. Raises SettingError."""
        parts = urlsplit(self.metrics_url)
        if parts.scheme != "http" or parts.path != "/metrics" or parts.query:
            raise SettingError(f"--metrics-url must be http://HOST:PORT/metrics, got {self.metrics_url!r}")
        return read_address(parts.netloc, "--metrics-url")

    @property
    def own_http_port(self) -> int:
        """The port of the agent's HTTP."""
        return self.http_port or self.port + 1

    @property
    def hold(self) -> float:
        """Seconds from the mark of a drain until every balancer has seen it: a check may have begun just before."""
        return (self.health_failures + 1) * self.health_interval

    def flags(self) -> list[str]:
        """The command line of `trireme agent` that makes these options."""
        words = []
        for option in fields(self):
            value = getattr(self, option.name)
            # The command's own defaults of these two are those of the settings.
            if value != option.default or option.name in ("server", "metrics_url"):
                words += [flag_of(option.name), ",".join(value) if isinstance(value, tuple) else str(value)]
        return words


def read_address(text: str, flag: str) -> tuple[str, int]:
    """Host and port of host:port; an IPv6 address has brackets. Raises SettingError, which names the flag."""
    host, _, port = text.rpartition(":")
    is_whole = bool(host) and (":" not in host or host.startswith("[")) and "@" not in host
    if not is_whole or not port.isdecimal() or not 0 < int(port) < 65536:
        raise SettingError(f"{flag} must have HOST:PORT, got {text!r}")
    return host, int(port)


def flag_of(name: str) -> str:
    """The flag of an option: those of seconds end with -seconds."""
    seconds = "-seconds" if isinstance(AgentOptions.__dataclass_fields__[name].default, float) else ""
    return f"--{name.replace('_', '-')}{seconds}"
