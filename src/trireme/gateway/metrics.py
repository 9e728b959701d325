"""The gateway's metrics: its rows of observe/metrics.py, one registry for each process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from trireme.gateway.exchange import Exchange
from trireme.observe import metrics as names
from trireme.observe.build_info import Build
from trireme.observe.labels import BoundedLabel
from trireme.observe.registry import MetricPage
from trireme.observe.spans import SpanCounts

NANOS = 1_000_000_000


class GatewayMetrics:
    """Counts what was exchanged. models, targets: those of gateway.toml, whose labels are never "other"."""

    def __init__(
        self, models: Iterable[str] = (), targets: Iterable[str] = (), build: Build | None = None
    ) -> None:
        build = build or Build()
        self._page = MetricPage("gateway", names.GATEWAY, build)
        self._release = build.release
        self._children: dict[tuple[str, ...], Any] = {}
        # Of spans, as counted so far.
        self._spans: dict[str, int] = {}
        # Labels of gauges that are set as a whole.
        self._replaced: dict[str, frozenset[tuple[str, ...]]] = {}
        # Requests that have no end yet, of all endpoints.
        self.running = 0
        targets = tuple(targets)
        self._tenant, self._model, self._target = BoundedLabel(), BoundedLabel(models), BoundedLabel(targets)
        self._target_model = BoundedLabel(target.partition(":")[2] for target in targets)

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
        if not exchange.is_endless:
            self._child(names.DURATION, exchange.endpoint).observe(seconds)
        if exchange.stream and exchange.first_at is not None:
            self._child(names.FIRST, exchange.endpoint).observe(exchange.first_at - exchange.started)
        if model and exchange.status < 400 and exchange.outcome == "ok":
            self._child(names.SUCCESSES, tenant, model, self._release).inc()
        for attempt in exchange.attempts:
            target = self._name(attempt.target, is_served=attempt.outcome == "ok")
            self._child(names.ATTEMPTS, target, attempt.outcome).inc()
        for step in exchange.degraded:
            # Of routes in the file, which are few.
            self._child(names.DEGRADED, exchange.model, step).inc()
        self._count_tokens(exchange, tenant, model)

    def name_model(self, model: str, *, is_served: bool) -> str:
        """The label of a provider's model; "other" of one that nobody serves: a client may make it up."""
        return self._target_model(model) if is_served or self._target_model.is_seen(model) else names.OTHER

    def add(self, metric: names.Metric, *labels: str, count: float = 1) -> None:
        """Count; of a metric with tenants, the first label is one."""
        if metric.labels[:1] == ("tenant",):
            labels = (self._tenant(labels[0]), *labels[1:])
        self._child(metric, *labels).inc(count)

    def spend(self, tenant: str, model: str, provider: str, nanos: int, *, is_served: bool = True) -> None:
        """An attempt, or a hit of a cache, was charged so many billionths of a US dollar. model: as asked for.

        is_served: whether it was answered. A name that nobody serves is the client's to choose, as in `end`.
        """
        named = self._model(model) if is_served or self._model.is_seen(model) else ""
        labels = (self._tenant(tenant), named, provider, self._release)
        self._child(names.COST, *labels).inc(nanos / NANOS)

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

    def observe(self, metric: names.Metric, seconds: float, *labels: str) -> None:
        """One more value of the histogram of these labels, of which there are few."""
        self._child(metric, *labels).observe(seconds)

    def replace(self, metric: names.Metric, series: Mapping[tuple[str, ...], float]) -> None:
        """The gauge has these values by their labels, and no other series any more. For few labels, and for gauges
        that are set in no other way."""
        made = self._page.family(metric)
        # A scrape meanwhile finds each series that stays.
        for labels, value in series.items():
            made.labels(*labels).set(value)
        for labels in self._replaced.get(metric.name, frozenset()) - series.keys():
            made.remove(*labels)
        self._replaced[metric.name] = frozenset(series)

    def watch(self, metric: names.Metric, read: Callable[[], float]) -> None:
        """`read` gives the gauge's value whenever it is scraped."""
        self._page.family(metric).set_function(read)

    def count_spans(self, counts: SpanCounts) -> None:
        """Brings the counters of spans to these."""
        for outcome in names.SPAN_OUTCOMES:
            count = getattr(counts, outcome)
            self._child(names.SPANS, outcome).inc(count - self._spans.get(outcome, 0))
            self._spans[outcome] = count

    def render(self, open_breakers: Iterable[str]) -> bytes:
        """All of them in Prometheus's text format."""
        gauge = self._page.family(names.OPEN_BREAKERS)
        gauge.clear()
        for target in open_breakers:
            name, mark, key = target.rpartition("#")
            shown = self._name(name if mark else target, is_served=False)
            gauge.labels(f"{shown}{mark}{key}" if mark else shown).set(1.0)
        return self._page.render()

    def _name(self, target: str, *, is_served: bool) -> str:
        """The label of a target. One that never answered is its provider's "other": clients may make it up."""
        if is_served or self._target.is_seen(target):
            return self._target(target)
        return f"{target.partition(':')[0]}:{names.OTHER}"

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
            child = self._children[key] = self._page.of(metric, *values)
        return child
