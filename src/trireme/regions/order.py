"""In which order regions are asked: the nearest first, and no change for what may be chance. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Nearer:
    """When a region goes before another: for `hold` seconds at least `percent` and `seconds` nearer, both."""

    percent: float
    seconds: float
    hold: float

    def is_met(self, nearer: float, farther: float) -> bool:
        """Whether a round trip of `nearer` seconds is so much shorter than one of `farther`."""
        gain = farther - nearer
        return gain >= self.seconds and gain * 100 >= farther * self.percent


class Order:
    """The order of the other regions. `look` changes it.

    A region that has a place keeps it until another has been nearer as `rule` says. One without a known round trip
    keeps its place whatever the others do. A new one comes last until its round trip is known, and then goes
    where that says, without a wait.
    """

    def __init__(self, regions: Iterable[str], placed: Iterable[str], rule: Nearer) -> None:
        """regions: all, in the order to begin with. placed: those that have a place already, in their order."""
        known = tuple(regions)
        self._placed = [one for one in placed if one in known]
        self._new = [one for one in known if one not in self._placed]
        self._rule = rule
        # A pair, the later one first, and since when it has been nearer.
        self._since: dict[tuple[str, str], float] = {}

    @property
    def regions(self) -> tuple[str, ...]:
        """All, the first to be asked first."""
        return (*self._placed, *self._new)

    def look(self, round_trips: Mapping[str, float | None], now: float) -> tuple[str, ...]:
        """The order after what is known at `now`, a clock's seconds. round_trips: None or missing: not known."""
        known = {one: trip for one, trip in round_trips.items() if trip is not None}
        for one in [new for new in self._new if new in known]:
            self._place(one, known)
        self._keep_times(known, now)
        # The places of those whose round trip is known; all others stand where they stood.
        places = [at for at, one in enumerate(self._placed) if one in known]
        moving = self._sort([self._placed[at] for at in places], now)
        for at, one in zip(places, moving, strict=True):
            self._placed[at] = one
        return self.regions

    def _place(self, one: str, known: Mapping[str, float]) -> None:
        farther = (at for at, other in enumerate(self._placed) if known.get(other, 0.0) > known[one])
        self._placed.insert(next(farther, len(self._placed)), one)
        self._new.remove(one)

    def _keep_times(self, known: Mapping[str, float], now: float) -> None:
        since = {}
        for at, before in enumerate(self._placed):
            for one in self._placed[at + 1 :]:
                both = one in known and before in known
                if both and self._rule.is_met(known[one], known[before]):
                    since[one, before] = self._since.get((one, before), now)
        self._since = since

    def _sort(self, some: list[str], now: float) -> list[str]:
        """Neighbours change places while the later one has been nearer long enough; ends, for none goes back."""
        moved = True
        while moved:
            moved = False
            for at, (before, one) in enumerate(pairwise(some)):
                began = self._since.get((one, before))
                if began is not None and now - began >= self._rule.hold:
                    del self._since[one, before]
                    some[at], some[at + 1] = one, before
                    moved = True
                    break
        return some
