"""What one agent is told, checked at its start."""

from __future__ import annotations

from dataclasses import dataclass, fields
from urllib.parse import urlsplit

from trireme.errors import SettingError

# A day: nothing is waited for that long.
MOST_SECONDS = 86_400.0
_MOST_COUNT = 10_000


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Options of `trireme agent`, by the names of its flags. Times are seconds.

    server: host:port of Triton's gRPC. metrics_url: http://host:port/metrics of it. port: of the agent's own gRPC;
    http_port: of its HTTP, 0: port + 1. host: that both are bound to. models: that should be there, with all that
    they call; none: all that the server has. poll: between two looks at the server. answer: that it may take to
    answer one. misses: unanswered looks in a row after which it counts as gone. health_interval, health_failures:
    of the balancer that asks this agent. drain: the longest that a drain waits. settle: without a request before a
    server counts as idle. canary: between two questions to a model. hung: how long it may owe an answer. target:
    of waiting work at which a replica is full. release: what trireme_build_info calls this build.
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
    release: str = ""

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
            if not 1 <= getattr(self, name) <= _MOST_COUNT:
                raise SettingError(f"{flag_of(name)} must be a whole number from 1 to {_MOST_COUNT}")
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(option.default, float) and not 0 < value <= MOST_SECONDS:
                raise SettingError(
                    f"{flag_of(option.name)} must be a number of seconds above 0, at most {MOST_SECONDS:.0f},"
                    f" got {value}"
                )
        if self.drain < self.hold + self.settle:
            raise SettingError(
                f"--drain-seconds must be at least {self.hold + self.settle:g}, got {self.drain:g}: no drain would"
                " end before --health-interval-seconds x (--health-failures + 1) + --settle-seconds"
            )
        self._check_names()

    def _check_names(self) -> None:
        if not self.host.strip() or self.host != self.host.strip():
            # An empty one, as of a variable that is not set, would be every address of the machine.
            raise SettingError(f"--host must be an address or a name, got {self.host!r}")
        if not all(self.models):
            raise SettingError("--models must be names of models with commas between them")

    @property
    def metrics_address(self) -> tuple[str, int]:
        """Host, with brackets where it is IPv6, and port of `metrics_url`. Raises SettingError."""
        try:
            parts = urlsplit(self.metrics_url)
        except ValueError:
            raise SettingError("--metrics-url must be http://HOST:PORT/metrics") from None
        if "@" in parts.netloc:
            # What stands before it may be a password.
            raise SettingError("--metrics-url must be http://HOST:PORT/metrics, without a user")
        if parts.scheme != "http" or parts.path != "/metrics" or parts.query or parts.fragment:
            raise SettingError(f"--metrics-url must be http://HOST:PORT/metrics, got {self.metrics_url!r}")
        return read_address(parts.netloc, "--metrics-url")

    @property
    def grpc_address(self) -> str:
        """host:port of the agent's own gRPC."""
        return (
            f"[{self.host}]:{self.port}"
            if self.host.count(":") and self.host[0] != "["
            else f"{self.host}:{self.port}"
        )

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
    if not is_whole or not port.isdecimal() or len(port) > 5 or not 0 < int(port) < 65536:
        raise SettingError(f"{flag} must have HOST:PORT, got {text[:200]!r}")
    return host, int(port)


def flag_of(name: str) -> str:
    """The flag of an option: those of seconds end with -seconds."""
    seconds = "-seconds" if isinstance(AgentOptions.__dataclass_fields__[name].default, float) else ""
    return f"--{name.replace('_', '-')}{seconds}"
