"""What would answer a call now: the models of its chain as they are loaded, and the collection that is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from trireme.errors import TriremeError
from trireme.gateway.caching.keys import Fingerprint
from trireme.gateway.chains import Chain
from trireme.gateway.file import LOCAL, ProviderRow
from trireme.providers.chat import ChatCall
from trireme.providers.models import ServedModel
from trireme.providers.targets import Target

# What is known of our own models may be so old, or nothing is served from caches.
MODELS_SECONDS = 2.0


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


class Revisions(Protocol):
    """Of collections, fresh."""

    async def read(self, tenant: str, collection: str) -> str:
        """Raises UnavailableError."""
        ...


class Fingerprints:
    """For one event loop."""

    def __init__(
        self, providers: Mapping[str, ProviderRow], served: Served, revisions: Revisions | None = None
    ) -> None:
        self._providers = providers
        self._served = served
        self._revisions = revisions

    def is_greedy(self, chain: Chain) -> bool:
        """Whether who answers decodes greedily where the call names no temperature: rag models do.

        Of a chain the first target answers, of a cascade any."""
        return all(self._is_rag(target) for target in _answering(chain))

    async def read(self, call: ChatCall, chain: Chain) -> Fingerprint | None:
        """None where it cannot be told what would answer: then nothing is kept and nothing is served."""
        answering = _answering(chain)
        targets = tuple(self._words(target) for target in chain.targets)
        if not all(words[-1] for words in targets[: len(answering)]):
            return None
        takes_body = any(call.surface in target.entry.keys[0].surfaces for target in answering)
        if not any(self._is_rag(target) for target in answering):
            return Fingerprint(targets, takes_body)
        collection = call.collection or call.default_collection
        if self._revisions is None:
            return None
        try:
            revision = await self._revisions.read(call.tenant, collection)
        except TriremeError:
            return None
        return Fingerprint(targets, takes_body, (collection, revision))

    async def version_of(self, model: str, tenant: str, collection: str) -> str:
        """See Versions in validators.py: what a model of our own and the collection that it reads are now."""
        found = self._known(model)
        if found is None or not found.digest:
            return ""
        if not collection:
            return found.digest
        if self._revisions is None:
            return ""
        try:
            return f"{found.digest} {await self._revisions.read(tenant, collection)}"
        except TriremeError:
            return ""

    def _words(self, target: Target) -> tuple[str, ...]:
        """The last one is "" where it cannot be told what the target is."""
        row = self._providers[target.entry.name]
        name = (target.entry.name, row.kind, row.url, target.model)
        if row.kind != "triton":
            # Its version is what its answers name: Answers compares it.
            return (*name, "named by its answers")
        model = self._own_model(target)
        return (*name, "" if model is None else model.digest)

    def _is_rag(self, target: Target) -> bool:
        model = self._own_model(target)
        return model is not None and model.ability == "answer"

    def _own_model(self, target: Target) -> ServedModel | None:
        """The model of this machine's Triton that the target is, as far as that is known now."""
        row = self._providers[target.entry.name]
        is_own = target.entry.name == LOCAL and not row.url
        return self._known(target.model) if is_own else None

    def _known(self, model: str) -> ServedModel | None:
        if self._served.known is None or self._served.age > MODELS_SECONDS:
            return None
        return self._served.known.get(model)


def _answering(chain: Chain) -> tuple[Target, ...]:
    """Those whose answers are kept: the first target, or all of a cascade."""
    return chain.targets if chain.plan is not None else chain.targets[:1]
