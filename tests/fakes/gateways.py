"""A gateway over fakes, on a real socket of this machine, in a thread of its own."""

import asyncio
import http.client
import json
import threading
import time
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path

from fakes.memory_caps import MemoryCaps
from fakes.memory_costs import MemoryCosts, MemoryReleases
from fakes.memory_ledger import MemoryLedger
from trireme.access.keys import Key, KeySet, digest_of
from trireme.cost.releases import Deploy
from trireme.errors import InvalidInputError
from trireme.gateway.caching.answers import Answers
from trireme.gateway.caching.kept_replies import KeptReplies
from trireme.gateway.caching.validators import Validators
from trireme.gateway.cascades.plan import check_modes
from trireme.gateway.chains import Chains
from trireme.gateway.costs import CostParts
from trireme.gateway.degrade.policy import Degrade
from trireme.gateway.draining import new_server
from trireme.gateway.file import GatewayFile, parse_gateway_file
from trireme.gateway.key_ring import KeyRing
from trireme.gateway.live.facts import FactParts
from trireme.gateway.live.hub import new_live
from trireme.gateway.live.recorder import Recorder
from trireme.gateway.log import Log
from trireme.gateway.metrics import GatewayMetrics
from trireme.gateway.ports import Ports, ServedModels
from trireme.gateway.server import bind, new_cascades
from trireme.gateway.spending.spending import Spending
from trireme.gateway.traced_calls import CallRecorder, TracedServer, peers_of
from trireme.observe.build_info import Build
from trireme.observe.spans import NoSpans
from trireme.providers.attempts import AttemptPolicy, Attempts
from trireme.providers.models import ServedModel
from trireme.providers.port import AttemptLimits
from trireme.providers.targets import Entry
from trireme.providers.token_texts import TokenTexts

SECRET = "tr-secret"
ANN = Key("key_ann", "acme", "ann")


class Keys:
    """A key store of a few keys that never change."""

    def __init__(self, keys):
        self._keys = {digest_of(secret): key for secret, key in keys.items()}
        self.waits = []

    def read(self, revision):
        return None if revision == 1 else KeySet(1, self._keys)

    def count(self, key_id, limit):
        return self.waits.pop(0) if self.waits else 0.0


class Models:
    """A model server of the given models that does nothing else."""

    def __init__(self, models):
        self.served = models

    async def models(self):
        return self.served

    async def close(self):
        return None


class Echo:
    """A provider that answers with what `script(call, model)` gives: events, errors, and awaitables to wait for."""

    surfaces = ("openai", "anthropic", "completions", "responses")

    def __init__(self, script):
        self._script = script
        self.calls = []
        self.open = 0

    def find_fault(self, call, model):
        return ""

    async def chat(self, call, model, limits):
        self.calls.append(call)
        self.open += 1
        try:
            for step in self._script(call, model):
                if isinstance(step, Exception):
                    raise step
                if asyncio.iscoroutine(step):
                    await step
                else:
                    yield step
        finally:
            self.open -= 1

    async def count_tokens(self, call, model):
        if not call.messages:
            raise InvalidInputError("no messages")
        return len(call.messages[-1].text.split())

    async def close(self):
        return None


class NoVersions:
    """Nobody knows what models are loaded: no answer has a tag."""

    async def version_of(self, model, tenant, collection):
        return ""


class FakeGateway:
    """Serves on a free port while it is entered. `log` holds the lines it wrote."""

    def __init__(
        self,
        provider,
        *,
        keys=None,
        file=None,
        models=None,
        documents=None,
        server=None,
        limits=None,
        policy=None,
        spending=None,
        answers=None,
        budgets=None,
        versions=None,
        cache_store=None,
        cascades=None,
        backlogs=None,
        degrade_clock=None,
        spans=None,
    ):
        self.provider = provider
        self.keys = Keys(keys or {SECRET: ANN})
        self.file = (
            parse_gateway_file((file or "").encode(), "gateway.toml")
            if not isinstance(file, GatewayFile)
            else file
        )
        self.model_server = server or Models(models or [ServedModel("llm", "chat", True)])
        self._documents = documents
        self._limits = limits or AttemptLimits()
        self._policy = policy or AttemptPolicy(pause=0.0)
        self._spending = spending or Spending()
        # An Answers, or what makes one of the served models, the spending and the metrics.
        self._answers = answers or Answers()
        self._versions = versions or NoVersions()
        self._cache_store = cache_store
        self.caps = MemoryCaps()
        self.ledger = MemoryLedger()
        self._budgets = budgets
        self.book, self.releases = MemoryCosts(self.ledger), MemoryReleases()
        self._cascades = cascades or {}
        self._backlogs = backlogs
        self._degrade_clock = degrade_clock
        self.recorder = Recorder()
        self._spans = spans or NoSpans()
        self.log = StringIO()
        self.ports = None
        # A TenantList, and what reads a model's card; set before it is entered.
        self.tenants = None
        self.read_card = lambda name: None

    def __enter__(self):
        self._listening = bind("127.0.0.1", 0)
        self.port = self._listening.getsockname()[1]
        self._server = new_server(self._open_ports, self.file.limits)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listening]}, daemon=True
        )
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the gateway ended while it started"
            self._thread.join(0.01)
        return self

    def __exit__(self, *_):
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()

    @asynccontextmanager
    async def _open_ports(self):
        ring = KeyRing(self.keys)
        await ring.start()
        served = ServedModels(self.model_server)
        metrics, log = GatewayMetrics(), Log(self.log)
        attempts = Attempts(self._policy)
        cascades = new_cascades(self._cascades, attempts, served, metrics, log)
        await served.start()
        check_modes(self._cascades, served.known)
        clock = self._degrade_clock or time.monotonic
        degrade = Degrade(self.file, lambda: served.known, self._backlogs, metrics, clock)
        self._loop = asyncio.get_running_loop()
        await degrade.start()
        await self._spending.start()
        if not isinstance(self._answers, Answers):
            self._answers = self._answers(served, self._spending, metrics)
        await self._answers.start()
        entries = {
            name: Entry(name, (self.provider,), self._limits, row.region)
            for name, row in self.file.providers.items()
        }
        chains = Chains(self.file, entries, self._cascades)
        live = new_live(
            self.recorder,
            FactParts(
                file=self.file,
                keys=ring,
                chains=chains,
                served=served,
                degrade=degrade,
                spending=self._spending,
                budgets=self._budgets,
                ledger=self.ledger,
                metrics=metrics,
            ),
            Build("1.2", "f" * 40, "r1"),
        )
        await live.start()
        peers = peers_of(self.file, "127.0.0.1:8001")
        server = TracedServer(self.model_server, CallRecorder(self._spans, metrics, peers), "local")
        self.ports = Ports(
            file=self.file,
            keys=ring,
            chains=chains,
            attempts=attempts,
            cascades=cascades,
            degrade=degrade,
            spending=self._spending,
            answers=self._answers,
            versions=self._versions,
            validators=Validators(self._versions, self.file.cache.http_seconds),
            kept=KeptReplies(self._cache_store, self.file.cache.entry_bytes),
            server=server,
            served=served,
            token_texts=TokenTexts(Path("model_repository")),
            documents=self._documents,
            caps=self.caps,
            ledger=self.ledger,
            metrics=metrics,
            live=live,
            log=log,
            salt_key=b"salt",
            default_collection="default",
            budgets=self._budgets,
            costs=CostParts(self.book, self.releases, Deploy(0, "")),
            tenants=self.tenants,
            read_card=self.read_card,
            spans=self._spans,
            peers=peers,
        )
        try:
            yield self.ports
        finally:
            await live.close()
            await degrade.close()
            await self._answers.close()
            await self._spending.close()
            await served.close()
            await ring.close()
            await self.provider.close()

    def run(self, coroutine):
        """What a coroutine gives in the gateway's own loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def ask(self, method, path, body=None, headers=None, secret=SECRET):
        """Status, headers and body of one request; `body` is sent as JSON unless it is bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = {"authorization": f"Bearer {secret}"} if secret else {}
            raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, raw, {**sent, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def connections(self):
        """Of clients, open now."""
        return list(self._server.server_state.connections)

    def lines(self):
        """The log's lines, decoded."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]
