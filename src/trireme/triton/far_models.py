"""What is served while near servers are silent: asked by gRPC of the balancer, which goes to another region."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from trireme.errors import NotFoundError, TriremeError, UnavailableError
from trireme.triton.async_client import AsyncTritonClient
from trireme.triton.call_route import CallRoute, route_calls
from trireme.triton.calls import ModelFacts
from trireme.triton.served_models import ServedModel

# How old what a model's configuration said may be, and what models are served that no near server has.
FACTS_SECONDS = 30.0
MISSING_SECONDS = 3.0
# That one question may take, and for how long near servers are waited for: of those that were silent before less.
SECONDS = 2.0
NEAR_SECONDS, SILENT_SECONDS = 2.0, 0.5
MOST_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class _Said:
    """Of one model. model: None where there is none of the name, or nobody ever said what it is."""

    model: ServedModel | None
    is_answer: bool


class FarModels:
    """Models by what the balancer's servers say, wherever they are. For one event loop.

    Neither digests nor versions: those are of near servers, and calls may be answered by others at any time.
    """

    def __init__(self, client: AsyncTritonClient, names: Iterable[str]) -> None:
        """names: of models that may be served. The client is the caller's to close."""
        self._client = client
        self._names = frozenset(names)
        self._facts: dict[str, tuple[float, ModelFacts]] = {}

    def may_miss(self, near: Collection[str]) -> bool:
        """Whether there may be models beside those of near servers."""
        return not self._names <= frozenset(near)

    async def read(self, but: Collection[str] = ()) -> list[ServedModel]:
        """All that are there, by name, but those; one that does not answer now, and did before, is not ready.

        To be run as a task: it changes the route of the task's calls. Raises UnavailableError where nobody answers.
        """
        # Whoever asks first asks for all: their tenant's rules are not everybody's.
        route_calls(CallRoute())
        places = asyncio.Semaphore(MOST_AT_ONCE)

        async def ask(name: str) -> _Said:
            async with places:
                return await self._ask(name)

        waiting = sorted({*self._names, *self._facts, *await self._list()} - set(but))
        said: dict[str, _Said] = {}
        while waiting:
            said |= zip(waiting, await asyncio.gather(*map(ask, waiting)), strict=True)
            steps = {step for one in said.values() if one.model for step in one.model.steps}
            waiting = sorted(steps - said.keys() - set(but))
        if not any(one.is_answer for one in said.values()):
            raise UnavailableError("no tritonserver answers, here or in another region")
        found = {name: one.model for name, one in said.items() if one.model is not None}
        own = {**dict.fromkeys(but, True), **{name: model.is_ready for name, model in found.items()}}
        return [
            replace(model, is_ready=model.is_ready and all(own.get(step, False) for step in model.steps))
            for _, model in sorted(found.items())
        ]

    async def _list(self) -> list[str]:
        """Names of what one server has; none where it does not say."""
        try:
            return await self._client.read_names(SECONDS)
        except TriremeError:
            return []

    async def _ask(self, name: str) -> _Said:
        until, facts = self._facts.get(name, (0.0, None))
        is_answer = is_ready = False
        try:
            if facts is None or time.monotonic() >= until:
                facts = await self._client.read_facts(name, SECONDS)
                self._facts[name] = (time.monotonic() + FACTS_SECONDS, facts)
            is_ready = await self._client.read_ready(name, SECONDS)
            is_answer = True
        except NotFoundError:
            self._facts.pop(name, None)
            return _Said(None, is_answer=True)
        except TriremeError:
            # A region that is full refuses: what was there still is.
            pass
        if facts is None:
            return _Said(None, is_answer)
        model = ServedModel(
            name,
            facts.kind,
            is_ready,
            inputs=facts.inputs,
            alternatives=facts.alternatives,
            steps=facts.steps,
            adapters=facts.adapters,
            is_far=True,
        )
        return _Said(model, is_answer)


class NearOrFarModels:
    """What near servers serve, and beside it what others do. For one event loop, one `read` at a time."""

    def __init__(self, read_near: Callable[[], list[ServedModel]], far: FarModels) -> None:
        """read_near: blocks. Raises UnavailableError where no near server answers."""
        self._read_near = read_near
        self._far = far
        self._near: asyncio.Task[list[ServedModel]] | None = None
        self._is_silent = False
        self._missing: tuple[float, list[ServedModel]] = (0.0, [])

    async def read(self) -> list[ServedModel]:
        """By name. Raises the near servers' UnavailableError where nobody answers."""
        # An answer to a question of long ago would say too late what is loaded: it only ends the silence.
        asked = self._begin() if self._near is None or self._near.done() else None
        if asked is not None:
            await asyncio.wait([asked], timeout=SILENT_SECONDS if self._is_silent else NEAR_SECONDS)
            if _is_told(asked):
                return await self._join(asked.result())
        self._is_silent = True
        try:
            far = await asyncio.create_task(self._far.read())
        except UnavailableError:
            if asked is not None and asked.done():
                return asked.result()
            raise
        return await self._join(asked.result()) if asked is not None and _is_told(asked) else far

    def _begin(self) -> asyncio.Task[list[ServedModel]]:
        self._near = asyncio.create_task(asyncio.to_thread(self._read_near))
        self._near.add_done_callback(self._note)
        return self._near

    def _note(self, asked: asyncio.Task[list[ServedModel]]) -> None:
        # Asking for the exception keeps one that nobody waits for from being printed.
        self._is_silent = not _is_told(asked)

    async def _join(self, near: list[ServedModel]) -> list[ServedModel]:
        """With models that no near server has: an entry of its own may have lost all of its servers."""
        names = {model.name for model in near}
        if not self._far.may_miss(names):
            return near
        until, missing = self._missing
        if time.monotonic() >= until:
            try:
                missing = await asyncio.create_task(self._far.read(names))
            except UnavailableError:
                missing = []
            self._missing = (time.monotonic() + MISSING_SECONDS, missing)
        beside = [model for model in missing if model.name not in names]
        return sorted([*near, *beside], key=lambda model: model.name)


def _is_told(asked: asyncio.Task[list[ServedModel]]) -> bool:
    return asked.done() and not asked.cancelled() and asked.exception() is None
