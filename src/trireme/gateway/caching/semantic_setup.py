"""Puts the semantic tier together: the file's rules, our Triton's models, the index, and what promises stand at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trireme.cache.index import SemanticIndex
from trireme.cache.port import CacheStore
from trireme.cache.promise import Promises, PromiseStore
from trireme.cache.semantic import SemanticLimits, SemanticParts, SemanticTier
from trireme.gateway.caching.semantic_models import SemanticRules, ServedEmbedder, ServedScorer
from trireme.gateway.caching.semantic_watch import GatewaySemanticWatch
from trireme.gateway.caching.shadow import ShadowChecks, read_text
from trireme.gateway.file import GatewayFile
from trireme.gateway.log import Log
from trireme.gateway.metrics import GatewayMetrics
from trireme.providers.models import ModelServer


@dataclass(frozen=True, slots=True)
class SemanticStores:
    """What a gateway with a semantic tier needs beside its other parts. The tier closes what the two open.

    embedder: the model that the index is of. thresholds: share of false hits on held-out pairs -> threshold.
    """

    open_index: Callable[[], SemanticIndex]
    open_promises: Callable[[], PromiseStore]
    embedder: str
    thresholds: Mapping[float, float]


def is_wanted(file: GatewayFile) -> bool:
    """Whether the file turns the tier on for anybody."""
    rows = [row.semantic for row in file.models.values()] + [row.semantic for row in file.tenants.values()]
    return any(row is not None and row.max_false_hits > 0 for row in rows)


def new_semantic(
    file: GatewayFile,
    stores: SemanticStores,
    server: ModelServer,
    cache: CacheStore,
    *,
    metrics: GatewayMetrics,
    log: Log,
    limits: SemanticLimits | None = None,
) -> tuple[SemanticTier, ShadowChecks]:
    """The tier, to be started, and its shadow checks. Within the event loop. Raises SettingError for a promise that
    has no threshold."""
    rules = SemanticRules(file, stores.thresholds)
    watch = GatewaySemanticWatch(metrics, log)
    promises = Promises(stores.open_promises(), watch.stands)
    tier = SemanticTier(
        SemanticParts(
            index=stores.open_index(),
            store=cache,
            embedder=ServedEmbedder(server, stores.embedder),
            scorer=ServedScorer(server),
            promises=promises,
            watch=watch,
            rule_of=rules,
            read_text=read_text,
        ),
        limits,
    )
    return tier, ShadowChecks(promises, rules, watch)
