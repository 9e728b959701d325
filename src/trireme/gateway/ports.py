"""What the gateway's steps and handlers work with, put together once by `gateway/server.py`."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trireme.access.tenants import TenantList
from trireme.budget.caps import CapStore
from trireme.budget.ledger import Ledger
from trireme.budget.port import BudgetStore
from trireme.errors import TriremeError
from trireme.gateway.caching.answers import Answers
from trireme.gateway.caching.kept_replies import KeptReplies
from trireme.gateway.caching.validators import Validators, Versions
from trireme.gateway.cascades.climb import Cascades
from trireme.gateway.chains import Chains
from trireme.gateway.costs import CostParts
from trireme.gateway.degrade.policy import Degrade
from trireme.gateway.file import GatewayFile
from trireme.gateway.key_ring import KeyRing
from trireme.gateway.ledger_reads import LedgerReads, new_looks, new_sums
from trireme.gateway.log import Log
from trireme.gateway.metrics import GatewayMetrics
from trireme.gateway.spending.spending import Spending
from trireme.gateway.uploads import Documents
from trireme.observe.build_info import Build
from trireme.providers.attempts import Attempts
from trireme.providers.model_cards import ModelCard
from trireme.providers.models import ModelServer, ServedModel
from trireme.providers.token_texts import TokenTexts

if TYPE_CHECKING:
    from trireme.gateway.live.hub import Live

# Caches serve nothing of a model that was asked for longer ago than 2 s.
ASK_SECONDS = 0.75


class ServedModels:
    """What our Triton serves, by name, asked now and then in the background: no chat waits for it.

    For one event loop. `start` before use, `close` after it.
    """

    def __init__(
        self,
        server: ModelServer,
        tell: Callable[[Sequence[ServedModel]], None] = lambda _: None,
        seconds: float = ASK_SECONDS,
    ) -> None:
        """tell: is told of every answer."""
        self._server = server
        self._tell = tell
        self._look: Callable[[], None] = lambda: None
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")
        # As it was when Triton last answered; None before it ever did.
        self.known: Mapping[str, ServedModel] | None = None

    def on_known(self, look: Callable[[], None]) -> None:
        """`look` is called after each answer, when `known` is of it."""
        self._look = look

    async def start(self) -> None:
        """Ask, and go on doing so. A Triton that is away is asked again."""
        with suppress(TriremeError):
            await self.read()
        self._task = asyncio.create_task(self._keep_asking())

    async def close(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def read(self) -> Mapping[str, ServedModel]:
        """As it is now. Raises UnavailableError where Triton does not answer."""
        began = time.monotonic()
        models = await self._server.models()
        self._asked_at = began
        self.known = {model.name: model for model in models}
        self._tell(models)
        self._look()
        return self.known

    @property
    def far(self) -> list[str]:
        """Of what is known, the names of models for which another region answers."""
        return [model.name for model in (self.known or {}).values() if model.is_far]

    @property
    def age(self) -> float:
        """Seconds since Triton was asked for what is known; infinite before it ever answered."""
        return time.monotonic() - self._asked_at

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            # Asking must go on, whatever one answer was.
            with suppress(Exception):
                await self.read()


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything behind the handlers. `salt_key` derives the salts of tenants.

    caps, ledger, costs, tenants: they block, so they run in threads. budgets: None where nothing is spent
    nor held.
    """

    file: GatewayFile
    keys: KeyRing
    chains: Chains
    attempts: Attempts
    cascades: Cascades
    degrade: Degrade
    spending: Spending
    answers: Answers
    versions: Versions
    validators: Validators
    kept: KeptReplies
    server: ModelServer
    served: ServedModels
    token_texts: TokenTexts
    documents: Documents
    caps: CapStore
    ledger: Ledger
    metrics: GatewayMetrics
    live: Live
    log: Log
    salt_key: bytes = field(repr=False)
    default_collection: str
    budgets: BudgetStore | None = None
    costs: CostParts | None = None
    build: Build = field(default_factory=Build)
    # Turns at the ledger: long sums, and what takes milliseconds.
    sums: LedgerReads = field(default_factory=new_sums)
    looks: LedgerReads = field(default_factory=new_looks)
    tenants: TenantList | None = None
    # What the folder of one of our own models says; None where it is not at hand. Blocks some milliseconds.
    read_card: Callable[[str], ModelCard | None] = lambda _: None
    # Unix seconds.
    started: int = field(default_factory=lambda: int(time.time()))

    def salt_of(self, tenant: str) -> str:
        """What keeps a tenant's cached prefixes apart at a provider, and tells nothing of its name."""
        return hmac.new(self.salt_key, tenant.encode(), hashlib.sha256).hexdigest()
