"""The tables [degrade.NAME] of gateway.toml: from how many seconds of waiting work on which step is taken."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Literal, get_args

import msgspec

from trireme.access.priorities import PRIORITIES, Priority
from trireme.errors import SettingError

# In the order in which they are taken. What comes after them is refusal.
Step = Literal["fewer_candidates", "no_reranking", "extractive", "stale", "smaller_model"]
STEPS: tuple[Step, ...] = get_args(Step)
# Also the answer_mode that the step sets.
EXTRACTIVE = "extractive"
# A year.
MOST_STALE_SECONDS = 31_536_000


class RefuseRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From how many seconds of waiting work on a priority's requests are refused. None: from those of the next
    higher one that has some; where none has, where the line is full."""

    batch: float | None = None
    normal: float | None = None
    high: float | None = None

    def seconds_of(self, priority: Priority) -> float | None:
        """What holds for a priority. Whoever asks for a lower one is not let in for longer."""
        higher = PRIORITIES[PRIORITIES.index(priority) :]
        return next((one for name in higher if (one := getattr(self, name)) is not None), None)

    @property
    def longest(self) -> float:
        """The most of all seconds; 0 where there are none."""
        return max((getattr(self, name) or 0.0 for name in PRIORITIES), default=0.0)


class RouteRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The policy of one route, a model as clients name it. Seconds of waiting work from which each step is taken.

    running: calls of the route that run upstream at once, of this gateway; waiting: that stand in line for that.
    candidates: that fewer_candidates still reranks. stale_seconds: past an answer's age for which it is kept, and
    served where stale is taken. smaller: the model that smaller_model asks. offered_seconds: over which the load of
    each priority is measured, where the route refuses; over the longest of refuse where that is more. reserved:
    places that are left to those whose load fits, while others bring more than the route can answer. behind:
    models of our Triton whose backlog counts; empty: all that the route calls. calm_share: of a step's seconds,
    below which it is taken back, one step for each calm_seconds.
    """

    running: int = 32
    waiting: int = 256
    fewer_candidates: float | None = None
    candidates: int = 8
    no_reranking: float | None = None
    extractive: float | None = None
    stale: float | None = None
    stale_seconds: float = 86_400.0
    smaller_model: float | None = None
    smaller: str = ""
    refuse: RefuseRow = RefuseRow()
    offered_seconds: float = 3.0
    reserved: int = 0
    behind: list[str] = []
    calm_share: float = 0.5
    calm_seconds: float = 0.5

    @property
    def steps(self) -> list[tuple[Step, float]]:
        """The steps that the route takes, in order, with their seconds."""
        named = ((step, getattr(self, step)) for step in STEPS)
        return [(step, seconds) for step, seconds in named if seconds is not None]


def check_route(where: str, name: str, row: RouteRow, cascades: Mapping[str, bool]) -> None:
    """Raises SettingError naming the key that cannot be. cascades: models that have steps of their own, and whether
    one that is judged answers with a sentence."""
    _check_numbers(where, row)
    _check_order(where, list(_thresholds(row)))
    # A cascade has smaller models in itself.
    is_lacking = row.smaller_model is not None and not row.smaller and name not in cascades
    if is_lacking or (row.smaller_model is None and row.smaller):
        raise SettingError(f"{where}: smaller names the model and smaller_model says from when on; set both")
    if row.smaller == name:
        raise SettingError(f"{where}.smaller is the route itself; name another model")
    if row.extractive is not None and not cascades.get(name, True):
        raise SettingError(
            f'{where}.extractive: no step of models.{name} that is judged has answer_mode = "extractive"; the'
            " cascade can end at its first step: set smaller_model without smaller"
        )


def _check_numbers(where: str, row: RouteRow) -> None:
    for field in ("running", "waiting", "candidates"):
        if getattr(row, field) < 1:
            raise SettingError(f"{where}.{field} must be at least 1")
    if not 0 < row.calm_seconds < math.inf:
        raise SettingError(f"{where}.calm_seconds must be above 0")
    # A store that cannot keep an answer for so long keeps none.
    if not 0 < row.stale_seconds <= MOST_STALE_SECONDS:
        raise SettingError(f"{where}.stale_seconds must be above 0 and at most {MOST_STALE_SECONDS}")
    if not 0 <= row.reserved < row.running:
        raise SettingError(f"{where}.reserved must be at least 0 and below running, which is {row.running}")
    if not 0 < row.offered_seconds < math.inf:
        raise SettingError(f"{where}.offered_seconds must be above 0")
    if not 0 < row.calm_share < 1:
        raise SettingError(f"{where}.calm_share must be above 0 and below 1: a step must not flap")


def _thresholds(row: RouteRow) -> Iterator[tuple[str, float]]:
    yield from row.steps
    for priority in PRIORITIES:
        seconds = getattr(row.refuse, priority)
        if seconds is not None:
            yield f"refuse.{priority}", seconds


def _check_order(where: str, thresholds: list[tuple[str, float]]) -> None:
    for key, seconds in thresholds:
        if not 0 < seconds < math.inf:
            raise SettingError(f"{where}.{key} must be above 0 seconds of waiting work")
    for (before, least), (key, seconds) in pairwise(thresholds):
        if seconds < least:
            raise SettingError(
                f"{where}.{key} ({seconds:g} s) comes after {before} ({least:g} s); it must be at least as much"
            )
