"""What is known of one tritonserver: is it ready, why not, and has it anything left to do?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from time import monotonic, time

from trireme.agent.options import AgentOptions
from trireme.triton.load import Load
from trireme.triton.probe import Answer, ServerLook

# Of a fault. A look that found one of PATIENT is not believed at once.
FAULT_KINDS = (
    "starting",
    "server_away",
    "server_silent",
    "metrics_away",
    "metrics_foreign",
    "no_models",
    "model_not_ready",
    "model_cold",
    "model_gone",
    "model_silent",
    "draining",
)
PATIENT = frozenset({"server_silent", "metrics_away"})


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the replica gets no traffic. kind: one of FAULT_KINDS. model: "" where it is not one model's."""

    kind: str
    text: str
    model: str = ""


@dataclass(slots=True)
class _Model:
    """What is known of one. asked_at: when the question that has no answer yet was sent; None: none is out."""

    loads: tuple[str, ...] = ()
    is_warm: bool = False
    is_silent: bool = False
    is_gone: bool = False
    asked_at: float | None = None
    answered_before: float = 0.0
    due: float = 0.0
    # Number of that question: what was asked before a new load is not believed.
    turn: int = 0


class Replica:
    """Learns by `see` and `hear`; says by `faults`. For one event loop; nothing blocks or raises."""

    def __init__(self, options: AgentOptions, clock: Callable[[], float] = monotonic) -> None:
        """Not ready before the first look."""
        self._options = options
        self._clock = clock
        self._look: ServerLook | None = None
        self._load: Load | None = None
        self._misses = 0
        self._models: dict[str, _Model] = {}
        self._turns = count(1)
        self._quiet_since: float | None = None
        self._answered = -1.0
        self.marked_at: float | None = None
        # Looks by what they found: "ok" or the kind of the fault.
        self.polls: dict[str, int] = {}
        # Unix time of the last look, and how long it took; of each kind of fault when it was last there.
        self.polled_at = 0.0
        self.look_seconds = 0.0
        self.faulty_at: dict[str, float] = {}

    @property
    def load(self) -> Load | None:
        """Of the last look that told; None where the server is gone, or has not told yet."""
        return self._load

    @property
    def is_draining(self) -> bool:
        """Whether `mark` was called: there is no way back but a new agent."""
        return self.marked_at is not None

    @property
    def is_ready(self) -> bool:
        """Whether the replica should get traffic."""
        return not self.faults()

    def mark(self) -> None:
        """From now on it is not ready. Idempotent."""
        if self.marked_at is None:
            self.marked_at = self._clock()
            # What was idle before it may still be sent requests.
            self._quiet_since = None

    def see(self, look: ServerLook) -> None:
        """One look, of which there is one each `poll` seconds."""
        kind = look.fault or "ok"
        self.polls[kind] = self.polls.get(kind, 0) + 1
        self.polled_at = time()
        self._misses = self._misses + 1 if look.fault in PATIENT else 0
        is_early = look.fault in PATIENT and self._misses < self._options.misses
        if not (is_early and self._look is not None and not self._look.fault):
            self._look = look
            if look.fault:
                # A server that comes back has everything to prove.
                self._models.clear()
            else:
                self._see_models(look)
        self._see_load(look)
        for fault in self.faults():
            self.faulty_at[fault.kind] = self.polled_at

    def faults(self) -> tuple[Fault, ...]:
        """Why it is not ready; () where it is."""
        return (*self._drain_faults(), *self._server_faults())

    def due(self) -> list[tuple[str, int]]:
        """Models to be asked for an answer now, each with the number of the question; they count as asked."""
        if self.is_draining or self._look is None or self._look.fault:
            return []
        now, due = self._clock(), []
        for name, model in self._models.items():
            if model.asked_at is None and model.due <= now and name not in self._look.not_ready:
                model.asked_at, model.turn = now, next(self._turns)
                model.answered_before = self._look.answered.get(name, 0.0)
                due.append((name, model.turn))
        return due

    def hear(self, name: str, turn: int, answer: Answer) -> None:
        """How the question `turn` to a model ended. One that was answering others meanwhile is only busy."""
        model = self._models.get(name)
        if model is None or model.turn != turn or model.asked_at is None:
            return
        took, model.asked_at = self._clock() - model.asked_at, None
        counted = self._look.answered.get(name, 0.0) if self._look else 0.0
        is_busy = counted > model.answered_before
        if answer == "answered" or (answer == "owed" and is_busy):
            model.is_warm, model.is_silent, model.is_gone = True, False, False
        else:
            # No answer brings nobody back: a question that breaks off with its server is owed, too.
            model.is_gone = model.is_gone or answer == "gone"
            # What is refused at once, as by a server that is full, says nothing yet.
            model.is_silent = answer == "owed" and took >= self._options.hung
        is_well = model.is_warm and not model.is_gone and not model.is_silent
        model.due = self._clock() + (self._options.canary if is_well else 0.0)

    def quiet_seconds(self) -> float:
        """How long nothing has run, waited or ended, as far as metrics tell. A server that is gone is idle."""
        return 0.0 if self._quiet_since is None else self._clock() - self._quiet_since

    def _drain_faults(self) -> Iterable[Fault]:
        if self.is_draining:
            yield Fault("draining", "it is about to be ended, and takes no new requests")

    def _server_faults(self) -> Iterable[Fault]:
        look = self._look
        if look is None:
            yield Fault("starting", "the server was not asked yet")
        elif look.fault:
            yield Fault(look.fault, look.detail)
        elif not look.models:
            yield Fault("no_models", "the server has no model")
        else:
            for name, why in look.not_ready.items():
                yield Fault("model_not_ready", f"model {name}: {why}", name)
            for name, model in self._models.items():
                if name in look.not_ready:
                    continue
                if model.is_gone:
                    yield Fault("model_gone", f"the process of model {name} ended", name)
                elif model.is_silent:
                    text = f"model {name} has not answered for {self._options.hung:.0f} s"
                    yield Fault("model_silent", text, name)
                elif not model.is_warm:
                    yield Fault("model_cold", f"model {name} has not answered since it was loaded", name)

    def _see_models(self, look: ServerLook) -> None:
        for name in [name for name in self._models if name not in look.models]:
            del self._models[name]
        for name in look.models:
            model = self._models.setdefault(name, _Model())
            loads = look.loads.get(name, ())
            is_new = bool(loads) and bool(model.loads) and loads != model.loads
            if name in look.not_ready or is_new:
                self._models[name] = _Model(loads=loads)
            elif loads:
                model.loads = loads

    def _see_load(self, look: ServerLook) -> None:
        if look.fault == "server_away":
            self._load = None
            self._quiet_since = self._clock() if self._quiet_since is None else self._quiet_since
        elif look.load is not None:
            self._load = look.load
            is_quiet = look.load.in_flight == 0 and look.load.answered == self._answered
            self._answered = look.load.answered
            if not is_quiet:
                self._quiet_since = None
            elif self._quiet_since is None:
                self._quiet_since = self._clock()
