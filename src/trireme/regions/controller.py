"""Runs beside one Envoy: probes the other regions, keeps their order, and writes it where Envoy reads it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from time import monotonic

from trireme.errors import UnavailableError
from trireme.regions.loading import Loading
from trireme.regions.open_connections import OpenConnections
from trireme.regions.options import RegionOptions
from trireme.regions.pages import serving
from trireme.regions.probe import Probe
from trireme.regions.state import RegionState
from trireme.scale.near_routes import LOADS
from trireme.scale.region_values import Region
from trireme.scale.values import Values, read_values


class Controller:
    """Threads over a `RegionState`: one that probes each region, and others for names, loads and connections."""

    def __init__(
        self, state: RegionState, options: RegionOptions, values: Values, notice: Callable[[str], None]
    ) -> None:
        """Starts nothing."""
        self._state = state
        self._options = options
        self._tls = values.envoy.region_tls
        self._notice = notice
        self.loading = Loading(state, options, values)
        self._connections = OpenConnections(values, options.answer)
        self._ended = threading.Event()
        self._failed: Exception | None = None

    def end(self) -> None:
        """Makes `run` return soon. Does not block."""
        self._ended.set()

    def run(self, parent: int = 0) -> None:
        """Blocks until `end`, or until the process `parent` is gone, 0 for none. The order stays; nothing spills.

        Raises UnavailableError where a thread fails: one that goes on and looks no more would keep an old order.
        """
        # Before any answer: what the files said before, or the order of values.yaml.
        self._state.look(monotonic(), self._notice)
        threads = [
            threading.Thread(target=self._guarded, args=(self._probe, one), name=one.name, daemon=True)
            for one in self._state.regions
        ]
        others = {
            "names": self._look_up,
            "connections": self._keep_open,
            **({"loads": self._ask_loads} if self.loading.is_asked else {}),
        }
        for name, work in others.items():
            threads.append(threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True))
        for thread in threads:
            thread.start()
        try:
            while not self._ended.wait(self._options.probe):
                self._state.look(monotonic(), self._notice)
                if parent and os.getppid() != parent:
                    break
        finally:
            # Threads that still wait for an answer end with the process.
            self._ended.set()
            self.loading.stop(self._notice)
        if self._failed is not None:
            error = self._failed
            raise UnavailableError(f"the controller cannot go on: {type(error).__name__}: {error}")

    def _guarded(self, work: Callable[..., None], *arguments: Region) -> None:
        try:
            work(*arguments)
        except Exception as error:
            # `run` tells it, and ends.
            self._failed = error
            self._ended.set()

    def _probe(self, region: Region) -> None:
        addresses, turn = self._state.addresses[region.name], 0
        with closing(Probe(region.host, region.port, self._tls, self._options.answer)) as probe:
            while not self._ended.is_set():
                due = monotonic() + self._options.probe
                known = addresses.known
                answer = probe.measure(known[turn % len(known)] if known else "")
                if answer.outcome != "ok":
                    # A balancer with several addresses may have lost one.
                    turn += 1
                self._state.hear(region.name, answer)
                if self.loading.spills and answer.outcome == "ok":
                    self.loading.far.hear(region.name, probe.read(LOADS))
                self._ended.wait(max(0.0, due - monotonic()))

    def _ask_loads(self) -> None:
        with closing(self.loading.near) as near:
            while not self._ended.is_set():
                due = monotonic() + self._options.probe
                near.measure()
                # At once: what is older makes the share swing.
                self.loading.decide(self._notice)
                self._ended.wait(max(0.0, due - monotonic()))

    def _keep_open(self) -> None:
        while not self._ended.is_set():
            # Soon again until there is one, as while Envoy starts.
            is_open = self._connections.ask()
            self._ended.wait(self._options.warm if is_open else self._options.probe)

    def _look_up(self) -> None:
        named = [one for one in self._state.addresses.values() if one.is_name]
        while named and not self._ended.is_set():
            for one in named:
                one.refresh()
            self._ended.wait(self._options.resolve)


def run_controller(options: RegionOptions, notice: Callable[[str], None], parent: int = 0) -> None:
    """Serves until SIGTERM or SIGINT, or until the process `parent` is gone. Raises TriremeError.

    For the main thread.
    """
    values = read_values(options.values)
    state = RegionState(values, options)
    controller = Controller(state, options, values, notice)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda *_: controller.end())
    try:
        with serving(state, options, controller.loading):
            others = ", ".join(one.region for one in state.standings())
            notice(f"Regions after {values.own_region}: {others}. HTTP {options.host}:{options.port}.")
            asked = values.envoy.controller.port
            if values.envoy.region_listen is not None and asked != options.port:
                notice(
                    f"Other regions ask for this one's loads at envoy.controller, port {asked}, and not at --port"
                    f" {options.port}: they will send nothing here by load."
                )
            controller.run(parent)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
