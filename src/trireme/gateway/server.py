"""Runs the gateway: puts its parts together, binds its port, and ends it in order."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from trireme.access.keys import KeyStore
from trireme.access.tenants import TenantList
from trireme.budget.caps import CapStore
from trireme.budget.ledger import Ledger
from trireme.budget.port import BudgetStore, SpendQueue
from trireme.cache.exact import ExactTier
from trireme.cache.port import CacheStore
from trireme.errors import TriremeError, UnavailableError
from trireme.gateway.caching.answers import Answers, Caching, TierRow
from trireme.gateway.caching.collections import FreshRevisions
from trireme.gateway.caching.fingerprints import Fingerprints
from trireme.gateway.caching.kept_replies import KeptReplies
from trireme.gateway.caching.locks import QuestionLocks
from trireme.gateway.caching.semantic_setup import SemanticStores, new_semantic
from trireme.gateway.caching.validators import Validators
from trireme.gateway.cascades.climb import Cascades
from trireme.gateway.cascades.plan import CascadePlan, check_modes
from trireme.gateway.cascades.versions import StepVersions, say_change
from trireme.gateway.chains import Chains
from trireme.gateway.costs import CostKeeper, CostParts
from trireme.gateway.degrade.policy import Degrade
from trireme.gateway.entries import open_entries
from trireme.gateway.file import LOCAL, GatewayFile
from trireme.gateway.key_ring import KeyRing
from trireme.gateway.ledger_reads import new_sums
from trireme.gateway.live.facts import FactParts
from trireme.gateway.live.hub import new_live
from trireme.gateway.live.recorder import Recorder
from trireme.gateway.log import Log
from trireme.gateway.metrics import GatewayMetrics
from trireme.gateway.own_regions import find_far_names
from trireme.gateway.ports import Ports, ServedModels
from trireme.gateway.replication_watch import ReplicationWatch
from trireme.gateway.spending.bounds import Bounds
from trireme.gateway.spending.burn import BudgetWatch
from trireme.gateway.spending.estimates import OwnEstimates
from trireme.gateway.spending.home import HomeStores
from trireme.gateway.spending.machine_prices import hour_prices_of, own_of
from trireme.gateway.spending.metered import MeteredSpending, SpendingParts
from trireme.gateway.spending.no_budgets import NoBudgets
from trireme.gateway.spending.price_book import PriceBook
from trireme.gateway.spending.spending import Spending
from trireme.gateway.traced_calls import CallRecorder, TracedServer, peers_of
from trireme.gateway.uploads import Documents
from trireme.http_server import listen
from trireme.observe import metrics as names
from trireme.observe.build_info import Build
from trireme.observe.spans import NoSpans, SpanSink
from trireme.providers.attempts import AttemptPolicy, Attempts
from trireme.providers.model_cards import read_card
from trireme.providers.models import ModelServer, ServedModel
from trireme.providers.own_limits import OwnLimits
from trireme.providers.registry import (
    TritonPorts,
    open_backlogs,
    open_model_server,
    open_replicas,
)
from trireme.providers.targets import Entry
from trireme.providers.token_texts import TokenTexts
from trireme.retrieve.replication import Replication
from trireme.retrieve.revisions import CollectionRevisions

BACKLOG = 2048
# That a request waits for the exact tier, which by itself waits for less.
EXACT_SECONDS = 0.1
# The tier keeps to less by itself.
SEMANTIC_SECONDS = 0.2
# Python's own 700 collects after every few requests.
GC_THRESHOLD = 20_000
SWITCH_SECONDS = 0.0005


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """What one gateway process needs. `secrets`: environment variables that gateway.toml may name; never logged.

    open_documents: called once, in the event loop. salt_key: derives the tenants' salts. model_repository: where
    tokenizers of token arrays are, if at hand. The stores are the caller's to close. open_cache: called once, in
    the event loop, and closed there; without it answers are not kept, and equal requests of one process are one.
    """

    file: GatewayFile
    triton: TritonPorts
    keys: KeyStore
    caps: CapStore
    ledger: Ledger
    open_documents: Callable[[], Documents]
    model_repository: Path
    salt_key: bytes = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)
    default_collection: str = "default"
    # Called once, in the event loop.
    open_budgets: Callable[[], Budgets] = NoBudgets
    open_cache: Callable[[], CacheStore] | None = None
    # Of the other regions that are some tenant's home.
    homes: Mapping[str, HomeStores] = field(default_factory=dict)
    replication: Replication | None = None
    revisions: CollectionRevisions | None = None
    # Where the file turns the semantic tier on; it needs open_cache.
    semantic: SemanticStores | None = None
    # Of all models of the file that have steps.
    cascades: Mapping[str, CascadePlan] = field(default_factory=dict)
    costs: CostParts | None = None
    # The caller's to close.
    spans: SpanSink = field(default_factory=NoSpans)
    # What metrics say of this process.
    build: Build = field(default_factory=Build)
    tenants: TenantList | None = None


class Budgets(BudgetStore, SpendQueue, Protocol):
    """Both ports of the budget store, which one object serves."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises SettingError where the port is taken, or the address is none of this machine's."""
    return listen(
        host,
        port,
        port_setting="TRIREME_GATEWAY_PORT",
        host_setting="TRIREME_GATEWAY_HOST",
        backlog=BACKLOG,
    )


def run_gateway(parts: GatewayParts, listening: socket.socket) -> None:
    """Serve on `listening` until SIGTERM or SIGINT; then requests have DRAIN_SECONDS to end. Blocks.

    Raises TriremeError where its parts cannot be opened or closed.
    """
    from trireme.gateway.draining import new_server

    # Modules live as long as the process: the collector need not walk through them again and again.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)
    # Threads read keys and documents meanwhile; by default one keeps the event loop waiting for 5 ms.
    sys.setswitchinterval(SWITCH_SECONDS)
    faults: list[Exception] = []
    server = new_server(partial(_open_watched, parts, faults), parts.file.limits)
    try:
        server.run(sockets=[listening])
    except SystemExit:
        # uvicorn exits by itself where its app does not start.
        if not faults:
            raise
    for fault in faults:
        if isinstance(fault, TriremeError):
            raise fault
        raise UnavailableError(f"the gateway cannot start or stop in order: {type(fault).__name__}") from None


@asynccontextmanager
async def _open_watched(parts: GatewayParts, faults: list[Exception]) -> AsyncIterator[Ports]:
    """As `open_ports`. What it raises is kept for the caller: uvicorn would print a traceback, and go on."""
    try:
        async with open_ports(parts) as ports:
            yield ports
    except Exception as error:
        if not isinstance(error, TriremeError):
            Log().fault("", error)
        faults.append(error)
        raise


@asynccontextmanager
async def open_ports(parts: GatewayParts) -> AsyncIterator[Ports]:
    """Everything behind the handlers, opened in the running event loop and closed in order."""

    async with AsyncExitStack() as stack:
        keys = KeyRing(parts.keys)
        await keys.start()
        stack.push_async_callback(keys.close)
        entries = open_entries(parts.file, parts.triton.url, parts.secrets)
        for entry in entries.values():
            for provider in entry.keys:
                stack.push_async_callback(provider.close)
        metrics, log = GatewayMetrics(parts.file.models, parts.file.targets(), parts.build), Log()
        peers = peers_of(parts.file, parts.triton.url)
        own = open_model_server(parts.triton, _find_far_names(parts))
        server = TracedServer(own, CallRecorder(parts.spans, metrics, peers), LOCAL)
        stack.push_async_callback(server.close)
        served = ServedModels(server, partial(_teach, entries[LOCAL]))
        if parts.file.local.other_regions:
            metrics.watch(names.FAR_MODELS, lambda: len(served.far))
        attempts = Attempts(
            AttemptPolicy(most=parts.file.attempts.most, retry_share=parts.file.attempts.retry_share)
        )
        cascades = new_cascades(parts.cascades, attempts, served, metrics, log)
        await served.start()
        stack.push_async_callback(served.close)
        check_modes(parts.cascades, served.known)
        documents = parts.open_documents()
        stack.push_async_callback(documents.close)
        metrics.watch(names.KEYS, lambda: len(keys))
        metrics.watch(names.KEYS_AGE, lambda: keys.age)
        degrade = Degrade(parts.file, lambda: served.known, open_backlogs(parts.triton), metrics)
        await degrade.start()
        stack.push_async_callback(degrade.close)
        budgets = parts.open_budgets()
        stack.push_async_callback(budgets.close)
        recorder = Recorder()
        spending = _new_spending(parts, budgets, metrics, recorder)
        await spending.start()
        stack.push_async_callback(spending.close)
        await _start_watches(stack, parts, budgets, metrics)
        store = parts.open_cache() if parts.open_cache is not None else None
        fingerprints = _new_fingerprints(parts, served)
        caching = new_caching(parts, store, fingerprints, spending, metrics)
        answers = await _start_answers(caching, parts, store, server, metrics=metrics, log=log)
        stack.push_async_callback(answers.close)
        chains, sums = Chains(parts.file, entries, parts.cascades), new_sums()
        facts = FactParts(
            file=parts.file,
            keys=keys,
            chains=chains,
            served=served,
            degrade=degrade,
            spending=spending,
            budgets=None if isinstance(budgets, NoBudgets) else budgets,
            ledger=parts.ledger,
            metrics=metrics,
            backlogs=open_backlogs(parts.triton),
            replicas=open_replicas(parts.triton),
            sums=sums,
        )
        live = new_live(recorder, facts, parts.build)
        await live.start()
        stack.push_async_callback(live.close)
        yield Ports(
            file=parts.file,
            keys=keys,
            chains=chains,
            attempts=attempts,
            cascades=cascades,
            degrade=degrade,
            spending=spending,
            answers=answers,
            versions=fingerprints,
            validators=Validators(fingerprints, parts.file.cache.http_seconds),
            kept=KeptReplies(store, parts.file.cache.entry_bytes),
            server=server,
            served=served,
            token_texts=TokenTexts(parts.model_repository),
            documents=documents,
            caps=parts.caps,
            ledger=parts.ledger,
            metrics=metrics,
            live=live,
            log=log,
            salt_key=parts.salt_key,
            default_collection=parts.default_collection,
            budgets=budgets,
            costs=parts.costs,
            build=parts.build,
            sums=sums,
            tenants=parts.tenants,
            read_card=partial(read_card, parts.model_repository),
            spans=parts.spans,
            peers=peers,
        )


async def _start_answers(
    caching: Caching,
    parts: GatewayParts,
    store: CacheStore | None,
    server: ModelServer,
    *,
    metrics: GatewayMetrics,
    log: Log,
) -> Answers:
    """The caches, with the semantic tier where the file turns it on."""
    if parts.semantic is not None and store is not None:
        tier, shadow = new_semantic(parts.file, parts.semantic, server, store, metrics=metrics, log=log)
        await tier.start()
        rows = (*caching.tiers, TierRow(tier, SEMANTIC_SECONDS))
        caching = replace(caching, tiers=rows, shadow=shadow)
    answers = Answers(caching)
    await answers.start()
    return answers


async def _start_watches(
    stack: AsyncExitStack, parts: GatewayParts, budgets: Budgets, metrics: GatewayMetrics
) -> None:
    """What only looks: at budgets, at what machines cost, at databases that follow each other."""
    watch = BudgetWatch(parts.caps, budgets, metrics)
    watch.start()
    stack.push_async_callback(watch.close)
    if parts.replication is not None:
        links = ReplicationWatch(parts.replication, metrics)
        await links.start()
        stack.push_async_callback(links.close)
    if parts.costs is not None:
        keeper = _new_cost_keeper(parts, parts.costs, metrics)
        keeper.start()
        stack.push_async_callback(asyncio.to_thread, keeper.close)


def new_cascades(
    plans: Mapping[str, CascadePlan],
    attempts: Attempts,
    served: ServedModels,
    metrics: GatewayMetrics,
    log: Log,
) -> Cascades:
    """The cascades, which look at what is served from the next answer of Triton on."""

    def tell(model: str, step: str, fault: str) -> None:
        metrics.set(names.CASCADE_REFUSED, float(bool(fault)), model, step)
        log.say(say_change(model, step, fault))

    versions = StepVersions(plans, served, tell)
    served.on_known(versions.look)
    return Cascades(attempts, versions, metrics)


def _new_spending(
    parts: GatewayParts, store: Budgets, metrics: GatewayMetrics, recorder: Recorder
) -> Spending:
    """What pays. Raises SettingError for a price of the file that cannot be right."""
    own = OwnEstimates(TokenTexts(parts.model_repository), OwnLimits(parts.model_repository))
    return MeteredSpending(
        SpendingParts(
            file=parts.file,
            caps=parts.caps,
            ledger=parts.ledger,
            store=store,
            queue=store,
            prices=PriceBook(parts.file),
            bounds=Bounds(parts.file, own),
            metrics=metrics,
            release=parts.build.release,
            homes=parts.homes,
            tell=recorder.charge,
        )
    )


def _new_cost_keeper(parts: GatewayParts, costs: CostParts, metrics: GatewayMetrics) -> CostKeeper:
    return CostKeeper(costs, own_of(parts.file), hour_prices_of(parts.file), metrics)


def _new_fingerprints(parts: GatewayParts, served: ServedModels) -> Fingerprints:
    revisions = FreshRevisions(parts.revisions) if parts.revisions is not None else None
    return Fingerprints(parts.file.providers, served, revisions)


def new_caching(
    parts: GatewayParts,
    store: CacheStore | None,
    fingerprints: Fingerprints,
    spending: Spending,
    metrics: GatewayMetrics,
) -> Caching:
    """The caches of the file over `store`; `Answers` closes them."""
    return Caching(
        file=parts.file,
        fingerprints=fingerprints,
        spending=spending,
        # In the order they are asked.
        tiers=[TierRow(ExactTier(store), EXACT_SECONDS)] if store is not None else [],
        locks=QuestionLocks(store) if store is not None else None,
        tally=metrics,
    )


def _teach(entry: Entry, models: Sequence[ServedModel]) -> None:
    """Our own Triton's provider knows what each model can do before it is first asked."""
    from trireme.providers.triton_chat import TritonChat

    for provider in entry.keys:
        if isinstance(provider, TritonChat):
            provider.learn(models)


def _find_far_names(parts: GatewayParts) -> list[str] | None:
    return find_far_names(parts.file.local, parts.file.targets(), LOCAL, parts.model_repository)
