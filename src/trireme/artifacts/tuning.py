"""The evidence of a tuning run: what was tried, what it gave, where and on what. The manifest keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

_TEXT, _WHOLE, _NUMBER = (str,), (int,), (int, float)
_TABLES = {"versions": _TEXT, "before": _WHOLE, "after": _WHOLE, "setting": _WHOLE}


@dataclass(frozen=True, slots=True)
class Tried:
    """One setting at one concurrency: MODEL.KEY -> value, and medians over `rounds` runs of it.

    `rounds` is 0 for the one short run of the search. `end` says how the setting ended there.
    """

    setting: dict[str, int]
    concurrency: int
    rounds: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    end: str


@dataclass(frozen=True, slots=True)
class Tuning:
    """One run of the tuner. `target` is what was measured: the model itself, or the chain it is a step of.

    `before` and `after` hold this model's own keys. `gain` and `noise` are shares: 0.12 is 12 % more
    requests per second than before, within the latency that was asked for; a gain within the noise changes
    nothing, and then `before` equals `after`.
    """

    target: str
    slo_p95_ms: float
    date: str
    workload: str
    workload_sha256: str
    machine: str
    versions: dict[str, str]
    before: dict[str, int]
    after: dict[str, int]
    concurrency: int
    requests_per_s: float
    p95_ms: float
    gain: float
    noise: float
    tried: tuple[Tried, ...]


def parse_tuning(document: Any) -> Tuning:
    """What `dataclasses.asdict` made of a Tuning, through JSON. Raises ValueError naming the key."""
    values = _read(document, Tuning)
    if not isinstance(values["tried"], list | tuple):
        raise ValueError("has a tuning.tried that is not a list")
    values["tried"] = tuple(Tried(**_read(entry, Tried)) for entry in values["tried"])
    return Tuning(**values)


def _read(document: Any, kind: type) -> dict[str, Any]:
    """The keys of the dataclass `kind`, all of them and no other, of the types it names."""
    if not isinstance(document, Mapping):
        raise ValueError("has a tuning that is not an object")
    names = {spec.name for spec in fields(kind)}
    if unknown := set(document) - names:
        raise ValueError(f"has an unknown key 'tuning.{min(unknown)}'")
    if missing := names - set(document):
        raise ValueError(f"lacks the key 'tuning.{min(missing)}'")
    for spec in fields(kind):
        value = document[spec.name]
        if spec.name in _TABLES:
            _check_table(spec.name, value)
        elif spec.name != "tried" and type(value) not in {"str": _TEXT, "int": _WHOLE}.get(
            str(spec.type), _NUMBER
        ):
            raise ValueError(f"has a 'tuning.{spec.name}' that is not of type {spec.type}")
    return dict(document)


def _check_table(name: str, value: Any) -> None:
    if not isinstance(value, Mapping) or any(type(item) not in _TABLES[name] for item in value.values()):
        raise ValueError(f"has a 'tuning.{name}' that is not a table of {_TABLES[name][0].__name__}")
