"""From looks at a server to load reports for balancers."""

from __future__ import annotations

from trireme.scale.orca import LoadReport
from trireme.triton.load import Load


class LoadReports:
    """Keeps the newest report. Rates are those between the last two looks that told."""

    def __init__(self, target: float) -> None:
        """target: seconds of waiting work at which a replica is full."""
        self._target = target
        self._last: tuple[float, Load] | None = None
        self._rates = (0.0, 0.0)
        self._load: Load | None = None

    def see(self, load: Load | None, now: float) -> None:
        """The load of a look at `now`; None where the server is gone."""
        self._load = load
        if load is None:
            self._last, self._rates = None, (0.0, 0.0)
            return
        if self._last is not None and now > self._last[0]:
            before, past = self._last[1], now - self._last[0]
            # A server that was started again counts from 0.
            ended = (load.answered - before.answered, load.failed - before.failed)
            self._rates = (max(0.0, ended[0]) / past, max(0.0, ended[1]) / past)
        self._last = (now, load)

    def read(self) -> LoadReport:
        """The newest one. Without a load it says nothing of utilization."""
        load = self._load
        if load is None:
            return LoadReport()
        named = {
            "backlog_seconds": load.backlog_seconds,
            "backlog_is_measured": float(load.is_measured),
            "requests_in_flight": float(load.in_flight),
            **{f"backlog_seconds.{model}": seconds for model, seconds in load.backlog.items()},
        }
        return LoadReport(load.backlog_seconds / self._target, *self._rates, named)
