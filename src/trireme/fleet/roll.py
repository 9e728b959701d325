"""A rolling restart: one replica after the other leaves the balancer, ends its calls, and is started anew."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from trireme.agent.drain import DrainReport
from trireme.errors import TriremeError, UnavailableError
from trireme.fleet.control import RollState
from trireme.fleet.envoy_process import Seen

LOOK_SECONDS = 0.05


class Rollable(Protocol):
    """What a rolling restart does with a replica; see fleet.replica.Replica."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> tuple[str, int]: ...

    def hold(self) -> None: ...

    def let_go(self) -> None: ...

    def drain(self, seconds: float) -> DrainReport: ...

    def start_anew(self) -> None: ...

    def forget_drain(self) -> None: ...

    def has_come_back(self) -> bool: ...

    def is_ready(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class RollTiming:
    """Seconds. seen: until Envoy has seen a change. others: for the other replicas to be ready before one leaves.

    back: for a server that was started anew to be ready.
    """

    seen: float = 20.0
    others: float = 120.0
    back: float = 180.0


DEFAULT_TIMING = RollTiming()


class _CancelledError(UnavailableError):
    """The fleet is stopped."""


class Roll(threading.Thread):
    """One rolling restart of `chosen` among `replicas`, in a thread of its own. `state` says how far it is."""

    def __init__(
        self,
        replicas: Sequence[Rollable],
        chosen: Sequence[Rollable],
        seen: Callable[[], Mapping[tuple[str, int], Seen]],
        *,
        drain_seconds: float,
        publish: Callable[[], None],
        notice: Callable[[str], None],
        timing: RollTiming = DEFAULT_TIMING,
    ) -> None:
        """Starts nothing. seen: what Envoy does with each replica. publish: tells Envoy of states that changed.

        notice: is told of each replica, and of a failure.
        """
        super().__init__(name="rolling restart", daemon=True)
        self._replicas = replicas
        self._chosen = chosen
        self._seen = seen
        self._drain_seconds = drain_seconds
        self._publish = publish
        self._notice = notice
        self._timing = timing
        self._cancelled = threading.Event()
        self.state = RollState("running")

    def cancel(self) -> None:
        """Ends it soon, wherever it is. Does not block."""
        self._cancelled.set()

    def run(self) -> None:
        """Restarts them one by one; the first that does not come back ends it. Never raises."""
        done: tuple[str, ...] = ()
        try:
            for replica in self._chosen:
                self.state = RollState("running", done, replica.name)
                started = monotonic()
                self._restart(replica)
                done = (*done, replica.name)
                self._notice(f"Replica {replica.name} was restarted in {monotonic() - started:.1f} s.")
            self.state = RollState("done", done)
        except TriremeError as error:
            self.state = RollState("failed", done, error=str(error))
            if not isinstance(error, _CancelledError):
                self._notice(f"The restart stopped: {error}.")

    def _restart(self, replica: Rollable) -> None:
        for other in self._replicas:
            if other is not replica:
                self._wait_for(
                    lambda other=other: self._serves(other),  # type: ignore[misc]
                    self._timing.others,
                    f"replica {other.name} is not ready, so replica {replica.name} was not restarted",
                )
        replica.hold()
        try:
            self._publish()
            self._wait_for(
                lambda: self._seen().get(replica.key) == "draining",
                self._timing.seen,
                f"Envoy does not say that replica {replica.name} is draining",
            )
            self._drain(replica)
            replica.start_anew()
            self._wait_for(
                replica.has_come_back,
                self._timing.back,
                f"replica {replica.name} was not ready {self._timing.back:.0f} s after its start",
            )
        except TriremeError as error:
            raise type(error)(f"replica {replica.name}: {error}") from None
        finally:
            replica.let_go()
            self._publish()
        self._wait_for(
            lambda: self._serves(replica),
            self._timing.others,
            f"replica {replica.name} has started, and its agent does not say that it is ready",
        )

    def _drain(self, replica: Rollable) -> None:
        """Raises UnavailableError where calls are left: they would be cut off."""
        drained: list[DrainReport | TriremeError] = []

        def drain() -> None:
            try:
                drained.append(replica.drain(self._drain_seconds))
            except TriremeError as error:
                drained.append(error)

        thread = threading.Thread(target=drain, name="drain", daemon=True)
        thread.start()
        while thread.is_alive():
            self._check_cancelled()
            thread.join(LOOK_SECONDS)
        outcome = drained[0]
        if isinstance(outcome, DrainReport) and outcome.is_empty:
            return
        # It goes on serving.
        replica.forget_drain()
        if isinstance(outcome, TriremeError):
            raise outcome
        left = outcome.pending + outcome.waiting + outcome.running
        raise UnavailableError(
            f"{left} calls had not ended after {self._drain_seconds:g} s, so it was not restarted: try again, or"
            " wait longer with --drain-seconds"
        )

    def _serves(self, replica: Rollable) -> bool:
        return self._seen().get(replica.key) == "healthy" and replica.is_ready()

    def _wait_for(self, condition: Callable[[], bool], seconds: float, refusal: str) -> None:
        deadline = monotonic() + seconds
        while not condition():
            self._check_cancelled()
            if monotonic() > deadline:
                raise UnavailableError(refusal)
            self._cancelled.wait(LOOK_SECONDS)

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise _CancelledError("the stack was stopped")
