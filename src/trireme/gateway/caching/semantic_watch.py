"""What the gateway says of its semantic cache: metrics, and a line of the log when it turns itself off or on."""

from __future__ import annotations

from trireme.cache.promise import Standing
from trireme.gateway.log import Log
from trireme.gateway.metrics import GatewayMetrics
from trireme.observe import metrics as names


class GatewaySemanticWatch:
    """A SemanticWatch; `stands` is what `Promises` tells."""

    def __init__(self, metrics: GatewayMetrics, log: Log) -> None:
        self._metrics = metrics
        self._log = log

    def looked(self, outcome: str, seconds: float) -> None:
        """See SemanticWatch.looked. The seconds are counted with those of all tiers."""
        self._metrics.count(names.SEMANTIC_LOOKUPS, outcome)

    def worked(self, outcome: str) -> None:
        """See SemanticWatch.worked."""
        self._metrics.count(names.SEMANTIC_WORK, outcome)

    def stands(self, standing: Standing, changed: bool) -> None:
        """How a promise stands."""
        scope = standing.scope
        self._metrics.set(names.SEMANTIC_UPPER, standing.upper, scope)
        self._metrics.set(names.SEMANTIC_CHECKS, standing.checks - standing.false, scope, "agreed")
        self._metrics.set(names.SEMANTIC_CHECKS, standing.false, scope, "differed")
        self._metrics.set(names.SEMANTIC_IS_ON, float(standing.is_on), scope)
        if changed:
            state = "on again" if standing.is_on else "off"
            self._log.say(
                f"semantic cache of {scope} is {state}: {standing.false} of {standing.checks} checks differed, "
                f"at most {standing.upper:.2%} of its hits are false"
            )
