"""What a controller of regions is told, checked at its start."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from trireme.errors import SettingError

MOST_SECONDS = 86_400.0
MOST_COUNT = 1_000
_BOUNDS = {"window": (1, MOST_COUNT), "misses": (1, MOST_COUNT), "nearer_percent": (1, 99)}


@dataclass(frozen=True, slots=True)
class RegionOptions:
    """Options of `trireme regions`, by the names of its flags. Times are seconds.

    values: the values.yaml that Envoy was configured from. endpoints: the folder of the far files that Envoy
    watches. host, port: of metrics and /ready. probe: between two probes of a region. answer: that one may take.
    window: so many probes are looked back on. misses: unanswered probes in a row after which a region counts as
    silent. A region goes before another when for `hold` it was nearer by both `nearer_percent` and `nearer`.
    resolve: between two look-ups of names.
    """

    values: Path
    endpoints: Path
    host: str = "127.0.0.1"
    port: int = 9903
    probe: float = 1.0
    answer: float = 2.0
    window: int = 15
    misses: int = 3
    nearer_percent: int = 25
    nearer: float = 0.005
    hold: float = 30.0
    resolve: float = 10.0

    def __post_init__(self) -> None:
        """Raises SettingError, which names the flag."""
        if not 0 < self.port < 65536:
            raise SettingError(f"--port must be a TCP port, got {self.port}")
        if not self.host.strip() or self.host != self.host.strip():
            # An empty one, as of a variable that is not set, would be every address of the machine.
            raise SettingError(f"--host must be an address or a name, got {self.host!r}")
        for name, (least, most) in _BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise SettingError(
                    f"{flag_of(name)} must be a whole number from {least} to {most}, got {getattr(self, name)}"
                )
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(option.default, float) and not 0 < value <= MOST_SECONDS:
                raise SettingError(
                    f"{flag_of(option.name)} must be a number of seconds above 0, at most {MOST_SECONDS:.0f},"
                    f" got {value}"
                )

    def flags(self) -> list[str]:
        """The command line of `trireme regions` that makes these options."""
        words = []
        for option in fields(self):
            if (value := getattr(self, option.name)) != option.default:
                words += [flag_of(option.name), str(value)]
        return words


def flag_of(name: str) -> str:
    """The flag of an option: those of seconds end with -seconds."""
    seconds = "-seconds" if isinstance(RegionOptions.__dataclass_fields__[name].default, float) else ""
    return f"--{name.replace('_', '-')}{seconds}"
