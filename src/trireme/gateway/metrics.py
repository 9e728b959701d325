"""The gateway's metrics: the rows of observe/metrics.py, one registry for each process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from trireme.gateway.exchange import Exchange
from trireme.observe import metrics as names

# Different values of a label that comes from outside; more become "other".
MOST_VALUES = 200
OTHER = "other"


class BoundedLabel:
    """Lets `known` values of a label through, and the first `most` others; what comes later is "other"."""

    def __init__(self, known: Iterable[str] = (), most: int = MOST_VALUES) -> None:
        self._seen = set(known)
        # Names that somebody makes up cannot take the places of those in the file.
        self._most = len(self._seen) + most

    def is_seen(self, value: str) -> bool:
        """Whether the value has a place of its own."""
        return value in self._seen

    def __call__(self, value: str) -> str:
        if value in self._seen:
            return value
        if len(self._seen) < self._most:
            self._seen.add(value)
            return value
        return OTHER


class GatewayMetrics:
    """Counts what was exchanged. models, targets: those of gateway.toml, whose labels are never "other"."""

    def __init__(self, models: Iterable[str] = (), targets: Iterable[str] = ()) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = CollectorRegistry()
        kinds: dict[str, Any] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        self._made: dict[str, Any] = {}
        self._children: dict[tuple[str, ...], Any] = {}
        for row in names.GATEWAY:
            more = {"buckets": row.buckets} if row.buckets else {}
            self._made[row.name] = kinds[row.kind](
                row.name, row.help, row.labels, registry=self._registry, **more
            )
        # Requests that have no end yet, of all endpoints.
        self.running = 0
        self._tenant, self._model, self._target = BoundedLabel(), BoundedLabel(models), BoundedLabel(targets)

    def begin(self, endpoint: str) -> None:
        """A request came."""
        self.running += 1
        self._child(names.RUNNING, endpoint).inc()

    def end(self, exchange: Exchange, seconds: float) -> None:
        """It ended."""
        self.running -= 1
        self._child(names.RUNNING, exchange.endpoint).dec()
        tenant = self._tenant(exchange.key.tenant) if exchange.key else ""
        # A name that nobody serves is the client's to choose: it must not become a label.
        is_served = exchange.status < 400 or self._model.is_seen(exchange.model)
        model = self._model(exchange.model) if is_served else ""
        self._child(
            names.REQUESTS, exchange.endpoint, tenant, model, str(exchange.status), exchange.outcome
        ).inc()
        self._child(names.DURATION, exchange.endpoint).observe(seconds)
        if exchange.stream and exchange.first_at is not None:
            self._made[names.FIRST.name].labels(exchange.endpoint).observe(
                exchange.first_at - exchange.started
            )
        for attempt in exchange.attempts:
            self._child(names.ATTEMPTS, self._target(attempt.target), attempt.outcome).inc()
        for step in exchange.degraded:
            # Of routes in the file, which are few.
            self._child(names.DEGRADED, exchange.model, step).inc()
        self._count_tokens(exchange, tenant, model)

    def add(self, metric: names.Metric, *labels: str, count: float = 1) -> None:
        """Count; of a metric with tenants, the first label is one."""
        if metric.labels[:1] == ("tenant",):
            labels = (self._tenant(labels[0]), *labels[1:])
        self._child(metric, *labels).inc(count)

    def count_lookup(self, tier: str, outcome: str, seconds: float | None = None) -> None:
        """A tier of cached answers was asked. seconds: that it took."""
        self._child(names.CACHE_REQUESTS, tier, outcome).inc()
        if seconds is not None:
            self._child(names.CACHE_SECONDS, tier).observe(seconds)

    def count_step(self, model: str, step: str, outcome: str, seconds: float | None = None) -> None:
        """See StepTally. Models and steps are those of the file."""
        self._child(names.CASCADE_STEPS, model, step, outcome).inc()
        if seconds is not None:
            self._child(names.CASCADE_SECONDS, model, step).observe(seconds)

    def count(self, metric: names.Metric, *labels: str) -> None:
        """Count one more of these labels, of which there are few."""
        self._child(metric, *labels).inc()

    def set(self, metric: names.Metric, value: float, *labels: str) -> None:
        """The gauge of these labels, of which there are few, as it is now."""
        self._child(metric, *labels).set(value)

    def clear(self, metric: names.Metric) -> None:
        """Forget all values of a gauge: what had them may be there no more."""
        self._made[metric.name].clear()

    def watch(self, metric: names.Metric, read: Callable[[], float]) -> None:
        """`read` gives the gauge's value whenever it is scraped."""
        self._made[metric.name].set_function(read)

    def render(self, open_breakers: Iterable[str]) -> bytes:
        """All of them in Prometheus's text format."""
        from prometheus_client import generate_latest

        gauge = self._made[names.OPEN_BREAKERS.name]
        gauge.clear()
        for target in open_breakers:
            name, mark, key = target.rpartition("#")
            gauge.labels(f"{self._target(name)}{mark}{key}" if mark else self._target(target)).set(1.0)
        return generate_latest(self._registry)

    def _count_tokens(self, exchange: Exchange, tenant: str, model: str) -> None:
        usage = exchange.usage
        if usage is None:
            return
        if exchange.cache_tier:
            # No provider counted them for this request.
            spared = (usage.input_tokens or 0) + (usage.output_tokens or 0)
            self._child(names.CACHE_TOKENS, exchange.cache_tier, tenant).inc(spared)
            return
        if usage.cached_tokens:
            self._child(names.CACHE_TOKENS, "prefix", tenant).inc(usage.cached_tokens)
        counts = {
            "input": usage.input_tokens,
            "cached": usage.cached_tokens,
            "output": usage.output_tokens,
            "reasoning": usage.reasoning_tokens,
        }
        for kind, count in counts.items():
            if count:
                self._child(names.TOKENS, tenant, model, kind).inc(count)

    def _child(self, metric: names.Metric, *values: str) -> Any:
        """The metric of these labels. Finding it by itself takes as long as counting."""
        key = (metric.name, *values)
        child = self._children.get(key)
        if child is None:
            made = self._made[metric.name]
            child = self._children[key] = made.labels(*values) if values else made
        return child
