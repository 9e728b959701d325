"""What one controller knows of loads, and the shares of calls that it lets leave by them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from trireme.regions.loads import FarLoads, Loads, NearLoads
from trireme.regions.options import RegionOptions
from trireme.regions.spill import Spill
from trireme.regions.state import RegionState
from trireme.scale.values import Values

# Looks at another region's loads until what it said is no longer believed.
BELIEVED_LOOKS = 5


class Loading:
    """Near and far loads, and shares. One thread measures, one for each region hears, one decides; all may read."""

    def __init__(self, state: RegionState, options: RegionOptions, values: Values) -> None:
        """Measures and writes nothing."""
        self._state = state
        self.spills = values.envoy.spill
        # Other regions may spill where this one does not.
        self.is_asked = self.spills or values.envoy.region_listen is not None
        self.near = NearLoads(values, options.endpoints, options.answer)
        self.far = FarLoads(BELIEVED_LOOKS * options.probe + options.answer)
        self._lock = threading.Lock()
        self._has_stopped = False
        self._spill = Spill(tuple(entry.name for entry in values.models), options.endpoints)

    @property
    def shares(self) -> Mapping[str, int]:
        """Of a hundred calls of each entry how many leave; {} where none may."""
        return self._spill.shares if self.spills else {}

    def far_loads(self) -> Loads:
        """Of the region to which calls would go: the first in order that answers."""
        first = next((one.region for one in self._state.standings() if one.answers), "")
        return self.far.of(first)

    def decide(self, notice: Callable[[str], None]) -> None:
        """Decides the shares anew. Blocks for the disk; never raises. Does nothing after `stop`."""
        with self._lock:
            if self.spills and not self._has_stopped:
                self._spill.decide(self.near.known, self.far_loads(), notice)

    def stop(self, notice: Callable[[str], None]) -> None:
        """All calls stay: nobody looks any more."""
        with self._lock:
            self._has_stopped = True
            if self.spills:
                self._spill.decide({}, {}, notice)
