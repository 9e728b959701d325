"""Circuit breakers: what has failed lately is not asked again for a while, and then by one call at first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# Provider, model, number of the provider's key from 0.
CircuitKey = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """A circuit opens after `failures` in a row, each at most `window` seconds after the one before, for `rest` s.

    key_rest: seconds that a key rests which the provider does not take. longest_rest: seconds, also where a
    provider asks for more. circuits: that are remembered at once.
    """

    failures: int = 5
    window: float = 60.0
    rest: float = 10.0
    key_rest: float = 60.0
    longest_rest: float = 600.0
    circuits: int = 1_000


class _Circuit:
    """Open until `until`; 0: closed. `probe`: the one call that may run after that, to see if it works again."""

    __slots__ = ("failures", "last", "probe", "reason", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.last = 0.0
        self.until = 0.0
        self.reason = ""
        self.probe: Permit | None = None


class Permit:
    """A call that a circuit let through. What became of it is told here, at the end by one of the last four."""

    __slots__ = ("_breakers", "key")

    def __init__(self, breakers: Breakers, key: CircuitKey) -> None:
        self._breakers = breakers
        self.key = key

    def answer(self) -> None:
        """Its answer has begun: the circuit closes, and the next failure opens it again."""
        self._breakers._answer(self)

    def succeed(self) -> None:
        """Its answer is whole: failures before it count no more."""
        self._breakers._succeed(self)

    def fail(self, reason: str) -> None:
        """It failed by the provider's fault."""
        self._breakers._fail(self, reason)

    def bench(self, seconds: float, reason: str) -> None:
        """It failed, and the provider is not to be asked for `seconds`; an earlier, later deadline holds."""
        self._breakers._open(self, seconds, reason)

    def release(self) -> None:
        """It says nothing of the provider: it was cancelled, or the client's own fault."""
        self._breakers._release(self)


class Breakers:
    """Circuits by key. For one event loop. Only circuits with failures are kept, and at most `policy.circuits`."""

    def __init__(self, policy: BreakerPolicy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._circuits: dict[CircuitKey, _Circuit] = {}

    def take(self, key: CircuitKey) -> Permit | None:
        """A permit to call, or None while the circuit is open. After that one call alone sees if it works."""
        circuit = self._circuits.get(key)
        permit = Permit(self, key)
        if circuit is None or not circuit.until:
            return permit
        if circuit.probe is not None or self._clock() < circuit.until:
            return None
        circuit.probe = permit
        return permit

    def wait_for(self, key: CircuitKey) -> float:
        """Seconds until `take` may give a permit; 0 where it would now. A running probe's end is not foreseen."""
        circuit = self._circuits.get(key)
        if circuit is None or not circuit.until:
            return 0.0
        left = max(0.0, circuit.until - self._clock())
        return left or (self._policy.rest if circuit.probe is not None else 0.0)

    def reason_of(self, key: CircuitKey) -> str:
        """The fault that opened the circuit last; "" where it is closed."""
        circuit = self._circuits.get(key)
        return circuit.reason if circuit is not None and circuit.until else ""

    def snapshot(self) -> dict[CircuitKey, float]:
        """Seconds until the probe, of every circuit that is not closed; 0 where the probe runs or may run."""
        now = self._clock()
        return {key: max(0.0, c.until - now) for key, c in self._circuits.items() if c.until}

    def _answer(self, permit: Permit) -> None:
        circuit = self._circuits.get(permit.key)
        if circuit is not None and circuit.probe is permit:
            # The count stays one below: an answer that then breaks off opens it at once.
            circuit.until, circuit.probe, circuit.failures = 0.0, None, self._policy.failures - 1
            circuit.last = self._clock()

    def _succeed(self, permit: Permit) -> None:
        circuit = self._circuits.get(permit.key)
        if circuit is None:
            return
        # A call from before the opening does not close it: only the probe knows how it is now.
        if not circuit.until or circuit.probe is permit:
            del self._circuits[permit.key]

    def _fail(self, permit: Permit, reason: str) -> None:
        circuit, now = self._circuit(permit.key), self._clock()
        is_probe = circuit.probe is permit
        if now - circuit.last > self._policy.window:
            circuit.failures = 0
        circuit.failures = min(circuit.failures + 1, self._policy.failures)
        circuit.last = now
        if is_probe or circuit.failures >= self._policy.failures:
            self._open(permit, self._policy.rest, reason)

    def _open(self, permit: Permit, seconds: float, reason: str) -> None:
        circuit = self._circuit(permit.key)
        until = self._clock() + min(seconds, self._policy.longest_rest)
        if until >= circuit.until:
            circuit.until, circuit.reason = until, reason
        self._release(permit)

    def _release(self, permit: Permit) -> None:
        circuit = self._circuits.get(permit.key)
        if circuit is not None and circuit.probe is permit:
            circuit.probe = None

    def _circuit(self, key: CircuitKey) -> _Circuit:
        circuit = self._circuits.get(key)
        if circuit is None:
            while len(self._circuits) >= self._policy.circuits:
                # The one that would be closed first is the least loss.
                del self._circuits[min(self._circuits, key=lambda k: self._circuits[k].until)]
            circuit = self._circuits[key] = _Circuit()
            circuit.last = self._clock()
        return circuit
