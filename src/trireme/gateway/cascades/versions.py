"""Whether a step's calibration is of the models that answer now. Without that a step is passed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from trireme.errors import SettingError
from trireme.gateway.cascades.plan import CascadePlan, StepPlan
from trireme.gateway.file import LOCAL
from trireme.providers.models import ServedModel

# What is known of our own models may be so old. They are asked every second or so, in the background; a server that
# answers slowly has the same models as before, and a load takes seconds. What caches keep is held to less.
KNOWN_SECONDS = 30.0
# Why a step is passed over, in words for headers and metrics: of another version, or of one that nobody knows.
VERSION, UNKNOWN = "version", "unknown_version"


class Served(Protocol):
    """What our Triton serves, and how old that knowledge is in seconds."""

    @property
    def known(self) -> Mapping[str, ServedModel] | None:
        """By name; None before Triton ever answered."""
        ...

    @property
    def age(self) -> float:
        """Seconds since it was asked for what is known."""
        ...


class StepVersions:
    """For one event loop. `look` after each answer of Triton."""

    def __init__(
        self,
        plans: Mapping[str, CascadePlan],
        served: Served,
        tell: Callable[[str, str, str], None] = lambda model, step, fault: None,
    ) -> None:
        """tell: is told of a step, by model and name, when what keeps it from being used changes; "": nothing."""
        self._plans = plans
        self._served = served
        self._tell = tell
        self._faults: dict[tuple[str, str], str] = {}

    def look(self) -> None:
        """Compare all calibrations with what is served now, and tell of changes. Does not block or raise."""
        for plan in self._plans.values():
            for step in plan.steps:
                self._note(plan.model, step)

    def reason(self, model: str, step: StepPlan) -> str:
        """Why the step is passed over now: VERSION, UNKNOWN, or "" where it may be used."""
        if step.calibration is None or not _is_own(step):
            return ""
        if self._served.known is None or self._served.age > KNOWN_SECONDS:
            return UNKNOWN
        return VERSION if self._note(model, step) else ""

    def fits(self, step: StepPlan) -> bool:
        """Whether the step's calibration is of what our Triton serves now. Tells nobody."""
        return step.calibration is None or (
            self._served.known is not None and not _fault(step, self._served.known)
        )

    def answered(self, model: str, step: StepPlan, said: str) -> str:
        """As `reason`, once the answer is there. said: the model that it names."""
        if step.calibration is None or _is_own(step):
            return self.reason(model, step)
        fitted = dict(step.calibration.versions)[step.label]
        fault = (
            ""
            if said == fitted
            else f"it was fitted on {fitted!r}, and {step.label} answers as {said[:80]!r}"
        )
        self._change(model, step, fault)
        return VERSION if fault else ""

    def details(self) -> list[str]:
        """Of steps that are passed over, why; for people."""
        return [_sentence(model, step, fault) for (model, step), fault in self._faults.items() if fault]

    def _note(self, model: str, step: StepPlan) -> str:
        if step.calibration is None or not _is_own(step) or self._served.known is None:
            return ""
        fault = _fault(step, self._served.known)
        self._change(model, step, fault)
        return fault

    def _change(self, model: str, step: StepPlan, fault: str) -> None:
        key = (model, step.name)
        if self._faults.get(key) != fault:
            self._faults[key] = fault
            self._tell(model, step.name, fault)


def say_change(model: str, step: str, fault: str) -> str:
    """A line for the log."""
    return _sentence(model, step, fault) if fault else f"step {step} of model {model} may be used"


def _sentence(model: str, step: str, fault: str) -> str:
    return f"step {step} of model {model} is not used: {fault}"


def _is_own(step: StepPlan) -> bool:
    return step.targets[0][0] == LOCAL


def _fault(step: StepPlan, known: Mapping[str, ServedModel]) -> str:
    """Why the calibration is not of what is served; "" if it is."""
    name, calibration = step.targets[0][1], step.calibration
    served = known.get(name)
    if served is None or calibration is None:
        return f"our Triton does not serve {name!r}"
    fitted, now = dict(calibration.versions), dict(served.versions)
    others = fitted.keys() - now.keys() - {name}
    if others:
        return f"its calibration is of {min(others)!r}, which {name!r} does not call"
    # A model that writes by itself must be named; of one that calls others, those that were fitted on.
    names = fitted.keys() | ({name} if served.ability == "chat" else set())
    try:
        calibration.check_versions({one: now[one] for one in names if now.get(one)})
    except SettingError as error:
        return str(error)
    return ""
