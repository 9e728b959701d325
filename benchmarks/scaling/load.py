"""Loads: requests with arrival times and tokens, from traces and from a declared synthetic day."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from trireme.errors import InvalidInputError

AZURE, MOONCAKE = "azure_llm_2023_conversation.csv", "mooncake_conversation.jsonl"
COLUMNS = ("seconds", "input_tokens", "output_tokens")
# An overlay moves each copy of a trace by up to so many seconds: what a minute looks like stays, instants do not.
SHIFT_S = 60.0
DAY_S = 86_400.0
# Of the synthetic day: the load at each full hour, of its highest; between them straight lines.
PROFILE = (
    *(0.30, 0.24, 0.20, 0.18, 0.18, 0.22, 0.32, 0.50, 0.75, 0.95, 1.00, 0.97),
    *(0.85, 0.82, 0.92, 0.98, 0.95, 0.85, 0.70, 0.62, 0.58, 0.52, 0.44, 0.36),
)
BURSTS, BURST_S, BURST_FACTOR, BURST_HOURS = 10, (300.0, 1200.0), (1.5, 2.5), (6.0, 23.0)
WOBBLE, MEMORY = 0.08, 0.9
INPUT, OUTPUT = (900, 1.0, 16_000), (150, 0.9, 1_500)


@dataclass(frozen=True, slots=True)
class Request:
    """Seconds since the load's beginning, and tokens."""

    at: float
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Load:
    """Requests in the order of their arrival. steps: when the load jumps, where that is known.

    judged_from: seconds; what comes before is served, and counts in no figure.
    """

    name: str
    requests: tuple[Request, ...]
    seconds: float
    steps: tuple[float, ...] = ()
    judged_from: float = 0.0


def read_azure(path: Path) -> Load:
    """The trace of Azure's: TIMESTAMP, ContextTokens, GeneratedTokens. Raises InvalidInputError."""

    def parse(row: dict[str, str]) -> Request:
        # Seven digits behind the second, of which Python takes six.
        at = datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp()
        return Request(at, int(row["ContextTokens"]), int(row["GeneratedTokens"]))

    return _read_csv(path, "Azure", parse)


def read_own(path: Path) -> Load:
    """A trace of a user's own: columns seconds, input_tokens, output_tokens. Raises InvalidInputError."""

    def parse(row: dict[str, str]) -> Request:
        found = Request(float(row[COLUMNS[0]]), int(row[COLUMNS[1]]), int(row[COLUMNS[2]]))
        if not math.isfinite(found.at) or min(found.inputs, found.outputs) < 0:
            raise ValueError("a time or a count is no number of its kind")
        return found

    return _read_csv(path, path.stem, parse)


def _read_csv(path: Path, name: str, parse: Callable[[dict[str, str]], Request]) -> Load:
    found: list[Request] = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            found.extend(map(parse, csv.DictReader(file)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        line = len(found) + 2
        what = f"{path.name} line {line}: {type(error).__name__} {error}; columns are {', '.join(COLUMNS)}"
        raise InvalidInputError(what) from None
    return _make(name, found, path)


def read_mooncake(path: Path) -> Load:
    """The trace of Mooncake's: JSON lines with timestamp in ms, input_length, output_length.

    Raises InvalidInputError.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        found = [Request(row["timestamp"] / 1000, row["input_length"], row["output_length"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{path.name} is no trace of Mooncake's ({type(error).__name__})") from None
    return _make("Mooncake", found, path)


def _make(name: str, requests: Iterable[Request], path: Path) -> Load:
    found = sorted(requests, key=lambda one: one.at)
    if len(found) < 2:
        raise InvalidInputError(f"{path.name} has fewer than two requests")
    first = found[0].at
    moved = tuple(Request(one.at - first, one.inputs, one.outputs) for one in found)
    return Load(name, moved, math.ceil(moved[-1].at))


def overlay(load: Load, copies: int, seed: int) -> Load:
    """So many copies of a load at once, each moved by up to SHIFT_S; what leaves an end comes in at the other.

    No request stands at the instant of its copy: n times the users, not n times each user's request.
    """
    rng = random.Random(f"overlay {seed}")  # noqa: S311
    found = list(load.requests)
    for _ in range(copies - 1):
        shift = rng.uniform(-SHIFT_S, SHIFT_S)
        found += [Request((one.at + shift) % load.seconds, one.inputs, one.outputs) for one in load.requests]
    name = f"{load.name} x {copies}" if copies > 1 else load.name
    return replace(load, name=name, requests=tuple(sorted(found, key=lambda one: one.at)))


def thin(load: Load, share: float, seed: int) -> Load:
    """Each request stays with a chance of `share`."""
    rng = random.Random(f"thin {seed}")  # noqa: S311
    kept = tuple(one for one in load.requests if rng.random() < share)
    return replace(load, name=f"{load.name} x {share:g}", requests=kept)


def take_volume(load: Load, volume: float, seed: int) -> Load:
    """So much of a load: 2.5 are three copies overlaid, of which each request stays with a chance of 2.5 / 3."""
    copies = max(1, math.ceil(volume))
    whole = overlay(load, copies, seed)
    return (
        whole
        if copies == volume
        else replace(thin(whole, volume / copies, seed), name=f"{load.name} x {volume:g}")
    )


def split(load: Load, share: float) -> tuple[Load, Load]:
    """What arrives in the first `share` of the time, to fit on; and the whole load, judged from there on.

    So the second begins with the fleet that a policy had by then, not with one that somebody picked.
    """
    end = load.seconds * share
    first = tuple(one for one in load.requests if one.at < end)
    before = tuple(at for at in load.steps if at < end)
    return (
        Load(f"{load.name}, first part", first, end, before),
        replace(load, name=f"{load.name}, second part", judged_from=end),
    )


def vary(load: Load, seed: int) -> tuple[Load, ...]:
    """The load, and with a fifth less and a fifth more of it: what fits all three does not fit one chance alone."""
    more = thin(overlay(load, 2, seed), 0.6, seed)
    return load, replace(thin(load, 0.8, seed), name=load.name), replace(more, name=load.name)


def draw_requests(rate: Callable[[float], float], highest: float, seconds: float, seed: int) -> list[Request]:
    """Poisson arrivals at rate(t), which `highest` bounds, per second; lengths log-normal, INPUT and OUTPUT."""
    rng = random.Random(f"requests {seed}")  # noqa: S311
    found, at = [], rng.expovariate(highest)
    while at < seconds:
        if rng.random() * highest < rate(at):
            found.append(Request(at, _draw(rng, *INPUT), _draw(rng, *OUTPUT)))
        at += rng.expovariate(highest)
    return found


def _draw(rng: random.Random, median: int, sigma: float, most: int) -> int:
    return max(1, min(most, round(median * math.exp(rng.gauss(0.0, sigma)))))


def make_day(highest: float, seed: int) -> Load:
    """A declared synthetic day: PROFILE with its top at `highest` requests a second, bursts, a wobble by minute."""
    rng = random.Random(f"day {seed}")  # noqa: S311
    bursts = []
    for _ in range(BURSTS):
        begins = rng.uniform(*BURST_HOURS) * 3600
        bursts.append((begins, begins + rng.uniform(*BURST_S), rng.uniform(*BURST_FACTOR)))
    wobble, noise = 0.0, []
    for _ in range(int(DAY_S / 60)):
        wobble = MEMORY * wobble + rng.gauss(0.0, WOBBLE)
        noise.append(math.exp(wobble))
    minutes = [_at_minute(minute) * noise[minute] for minute in range(len(noise))]

    def rate(at: float) -> float:
        factor = max([factor for begins, ends, factor in bursts if begins <= at < ends], default=1.0)
        return highest * minutes[int(at / 60)] * factor

    top = highest * max(minutes) * BURST_FACTOR[1]
    return Load(f"day {seed}", tuple(draw_requests(rate, top, DAY_S, seed)), DAY_S)


def _at_minute(minute: int) -> float:
    hour, part = divmod(minute / 60, 1)
    return PROFILE[int(hour)] * (1 - part) + PROFILE[(int(hour) + 1) % 24] * part


def make_steps(rates: Sequence[tuple[float, float]], seconds: float, seed: int, name: str = "steps") -> Load:
    """Rates that hold from a time on: (seconds, requests a second), the first at 0."""

    def rate(at: float) -> float:
        return [one for begins, one in rates if begins <= at][-1]

    highest = max(one for _, one in rates)
    found = draw_requests(rate, highest, seconds, seed)
    return Load(name, tuple(found), seconds, tuple(begins for begins, _ in rates[1:]))
