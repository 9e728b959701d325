"""How fast a replica serves, from what was measured of a running server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from benchmarks.common.report import read_record
from trireme.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Point:
    """With so many requests in flight all the time, so many tokens a second were written (by an encoder: read)."""

    in_flight: int
    tokens_per_s: float


@dataclass(frozen=True)
class Service:
    """What one replica does. A second of work is what it does in a second with all its places taken.

    inputs, outputs: tokens of each request of the measurement; outputs is 0 of an encoder.
    read_per_s: tokens of prompts a second, whatever the batch; 0 of an encoder, whose points say it.
    kv_tokens: that its cache holds, 0 for no limit. warm_up_s: from the start to the first answer.
    source: what was measured, where and when.
    """

    name: str
    points: tuple[Point, ...]
    places: int
    inputs: int
    outputs: int
    read_per_s: float
    kv_tokens: int
    warm_up_s: float
    source: str

    def __post_init__(self) -> None:
        """Raises InvalidInputError for figures that are no curve."""
        counts = [point.in_flight for point in self.points]
        if counts != sorted(set(counts)) or counts[:1] != [1] or not 1 <= self.places <= counts[-1]:
            what = f"{self.name}: points must rise from 1 request in flight to at least {self.places} places"
            raise InvalidInputError(what)
        if min(point.tokens_per_s for point in self.points) <= 0 or (self.outputs and self.read_per_s <= 0):
            raise InvalidInputError(f"{self.name}: rates must be above 0")
        if min(self._rounds) <= 0:
            raise InvalidInputError(f"{self.name}: reading alone takes longer than what was measured in all")

    @cached_property
    def _rounds(self) -> tuple[float, ...]:
        """Seconds in which each of n requests, n from 1 on, gets one token, less what reading takes.

        Between points a straight line, as a step's time is over its batch.
        """
        read = self.inputs / self.outputs / self.read_per_s if self.outputs else 0.0
        points = [(one.in_flight, one.in_flight * (1 / one.tokens_per_s - read)) for one in self.points]
        found = [points[0][1]]
        for (low, first), (high, second) in pairwise(points):
            found += [first + (second - first) * (n - low) / (high - low) for n in range(low + 1, high + 1)]
        return tuple(found)

    @property
    def output_per_s(self) -> float:
        """Tokens written in a second of work that writes alone; 0 of an encoder."""
        return self._full if self.outputs else 0.0

    @property
    def input_per_s(self) -> float:
        """Tokens read in a second of work that reads alone."""
        return self.read_per_s if self.outputs else self._full

    @property
    def _full(self) -> float:
        return self.places / self._rounds[self.places - 1]

    def work_of(self, inputs: float, outputs: float) -> float:
        """Seconds of work of a request with so many tokens."""
        return inputs / self.input_per_s + (outputs / self.output_per_s if self.outputs else 0.0)

    def speeds(self, read_share: float) -> list[float]:
        """Seconds of work that each of n requests gets in a second, n from 0 (unused) to `places`.

        read_share: of a load's work, prompts. They are read at one speed whatever the batch; writing needs company.
        """
        found = [0.0]
        for n in range(1, self.places + 1):
            company = n / self._rounds[n - 1] / self._full
            rate = 1 / (read_share + (1 - read_share) / company) if self.outputs else company
            found.append(rate / n)
        return found


@dataclass(frozen=True, slots=True)
class Services:
    """benchmarks/results/service-curves.json."""

    services: tuple[Service, ...]


def read_services(path: Path) -> Services:
    """What was measured so far; nothing where there is no file. Raises InvalidInputError for another file."""
    return read_record(path, Services) if path.is_file() else Services(())


def pick_service(services: Sequence[Service], name: str) -> Service:
    """By its name. Raises InvalidInputError naming those that are there."""
    found = {service.name: service for service in services}
    if name not in found:
        known = ", ".join(found) or "none"
        raise InvalidInputError(f"no service curve {name!r}; there are: {known}. Measure one with --measure")
    return found[name]
