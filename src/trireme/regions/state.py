"""What the controller knows: round trips, addresses and the order; and the far files that say it to Envoy."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from trireme.errors import SettingError, TriremeError
from trireme.regions.names import Addresses, LookUp, look_up
from trireme.regions.options import RegionOptions, flag_of
from trireme.regions.order import Nearer, Order
from trireme.regions.probe import Answer, Outcome
from trireme.regions.round_trips import RoundTrips
from trireme.scale.endpoints import Endpoint, read_far, write_far
from trireme.scale.region_values import Region
from trireme.scale.values import Values

# Priorities of Envoy, of which near replicas have the first.
MOST_REGIONS = 127


@dataclass(frozen=True, slots=True)
class Standing:
    """One other region now. rank: 1 is asked first. round_trip: seconds; None: not known."""

    region: str
    rank: int
    round_trip: float | None
    answers: bool
    addresses: tuple[str, ...]


class RegionState:
    """The other regions of `values`, and the files in `options.endpoints`. Threads may share it.

    The files are all that outlives a process: order and addresses begin as they say.
    """

    def __init__(self, values: Values, options: RegionOptions, look_up: LookUp = look_up) -> None:
        """Reads the files; writes nothing. Raises SettingError for values that name no other balancer."""
        self.regions = check_values(values, options)
        self._entries = tuple(entry.name for entry in values.models)
        self._folder = options.endpoints
        found = _remembered(self._folder, self._entries)
        self.addresses = {
            one.name: Addresses(
                one,
                [at.address for at in found if (at.region, at.port) == (one.name, one.port)],
                look_up,
            )
            for one in self.regions
        }
        rule = Nearer(options.nearer_percent, options.nearer, options.hold)
        placed = dict.fromkeys(one.region for one in found)
        self._order = Order([one.name for one in self.regions], placed, rule)
        self._trips = {one.name: RoundTrips(options.window, options.misses) for one in self.regions}
        self._lock = threading.Lock()
        self.probes: Counter[tuple[str, Outcome]] = Counter()
        self.changes = self.written = 0
        # Why the files could not be written; "" where they are as they should be; None before the first time.
        self.fault: str | None = None

    def hear(self, region: str, answer: Answer) -> None:
        """Takes what one probe of a region found."""
        with self._lock:
            self.probes[region, answer.outcome] += 1
            self._trips[region].hear(answer.seconds)

    def look(self, now: float, notice: Callable[[str], None]) -> None:
        """Orders the regions anew and writes what has changed; tells `notice` of both. Blocks for the disk."""
        with self._lock:
            before = self._order.regions
            trips = {one: trips.median for one, trips in self._trips.items()}
            after = self._order.look(trips, now)
        if after != before:
            self.changes += 1
            notice(f"Regions in order: {', '.join(_said(one, trips[one]) for one in after)}.")
        self._write(notice)

    def standings(self) -> list[Standing]:
        """All other regions, the first to be asked first."""
        with self._lock:
            return [
                Standing(
                    one,
                    rank,
                    self._trips[one].median,
                    self._trips[one].has_answered,
                    self.addresses[one].known,
                )
                for rank, one in enumerate(self._order.regions, 1)
            ]

    def _write(self, notice: Callable[[str], None]) -> None:
        far = self._endpoints()
        try:
            for entry in self._entries:
                self.written += write_far(self._folder, entry, far)
        except TriremeError as error:
            if self.fault != str(error):
                notice(f"The order of regions cannot be written, so the one before holds: {error}.")
            self.fault = str(error)
        else:
            self.fault = ""

    def _endpoints(self) -> list[Endpoint]:
        ports = {one.name: one.port for one in self.regions}
        made: dict[tuple[str, int], Endpoint] = {}
        for standing in self.standings():
            port = ports[standing.region]
            for address in standing.addresses:
                # Two names may have one address: it is that of the nearer region.
                made.setdefault(
                    (address, port),
                    Endpoint(address, port, region=standing.region, priority=standing.rank),
                )
        return list(made.values())


def check_values(values: Values, options: RegionOptions) -> tuple[Region, ...]:
    """The other regions. Raises SettingError where there is none, or one without a balancer."""
    file = f"{flag_of('values')} {options.values}"
    if not values.has_failover:
        raise SettingError(f"{file} must name another region under regions, with its balancer")
    for at, region in enumerate(values.regions):
        if at and not region.host:
            raise SettingError(
                f"{file}: regions[{at}].balancer is missing: where region {region.name} is reached"
            )
    if len(values.other_regions) > MOST_REGIONS:
        raise SettingError(
            f"{file}: regions must have at most {MOST_REGIONS} others, as many as Envoy can order"
        )
    if not options.endpoints.is_dir():
        raise SettingError(
            f"{flag_of('endpoints')} {options.endpoints} must be the folder that Envoy watches"
        )
    return values.other_regions


def _remembered(folder: Path, entries: Iterable[str]) -> list[Endpoint]:
    return next((found for entry in entries if (found := read_far(folder, entry))), [])


def _said(region: str, round_trip: float | None) -> str:
    return region if round_trip is None else f"{region} ({1000 * round_trip:.1f} ms)"
