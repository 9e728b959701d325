"""The gate of every build: past a threshold, nothing is placed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trireme.errors import GateError


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a figure must at least (`least`) or at most (`most`) be, by the figure's name."""

    least: Mapping[str, float]
    most: Mapping[str, float]

    def named(self) -> dict[str, float]:
        """All limits by the names that recipes give them: max_NAME and min_NAME."""
        most = {f"max_{name}": limit for name, limit in self.most.items()}
        return most | {f"min_{name}": limit for name, limit in self.least.items()}


@dataclass(frozen=True, slots=True)
class Gate:
    """What the figures of a build must be. `name` is what is built; `advice` says what to do about a failure."""

    name: str
    thresholds: Thresholds
    advice: str = "choose a higher precision or set other thresholds in the recipe"

    def check(self, figures: Mapping[str, float]) -> None:
        """Raises GateError with all figures when one is past its threshold. NaN is past every one."""
        failed = [
            f"{name} {figures[name]:.6f} is below {limit}"
            for name, limit in self.thresholds.least.items()
            if not figures[name] >= limit
        ] + [
            f"{name} {figures[name]:.6f} is above {limit}"
            for name, limit in self.thresholds.most.items()
            if not figures[name] <= limit
        ]
        if failed:
            every = ", ".join(f"{name}={value:.6f}" for name, value in sorted(figures.items()))
            raise GateError(
                f"{self.name} is too far from its original, nothing was placed: {'; '.join(failed)}"
                f" (all figures: {every}); {self.advice}"
            )
