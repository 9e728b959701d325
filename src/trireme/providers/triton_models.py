"""What our own server does beside chats: its encoders, its rerankers, its classifiers and its searches."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.artifacts.contracts import (
    ADAPTER_MARK,
    CACHED_FLAG,
    EVIDENCE_FLAG,
    OVER_LENGTH,
    RERANK_DEPTH,
    TOOL_CALLS_FLAG,
)
from trireme.errors import DeadlineError, InvalidInputError, NotFoundError, OverLengthError, TriremeError
from trireme.providers.abilities import ability_of, say_what_it_does
from trireme.providers.models import Ability, Embedded, Reranked, SearchCall, ServedModel
from trireme.providers.triton_address import unaddressed
from trireme.providers.triton_chat import USER_PARAMETER
from trireme.triton import calls
from trireme.triton.async_client import AsyncTritonClient
from trireme.triton.calls import ModelFacts
from trireme.triton.far_models import FarModels, NearOrFarModels
from trireme.triton.many_servers import read_models_of_all
from trireme.triton.served_models import ServedModel as NamedModel
from trireme.triton.served_models import read_served_models, versions_of
from trireme.triton.wire import Outputs, Rows
from trireme.types import Classified, Hit, InputType, OverLength

# How old an answer of `models` may be, and what a model's configuration said.
INDEX_SECONDS = 0.5
FACTS_SECONDS = 30.0
# Batches of one request that run side by side.
BATCHES_AT_ONCE = 4


class TritonModels:
    """See ModelServer. Callers that ask for the models at the same time share one question."""

    def __init__(
        self,
        client: AsyncTritonClient,
        host: str,
        http_port: int,
        metrics_port: int,
        hosts: Sequence[str] = (),
        *,
        far_names: Iterable[str] | None = None,
    ) -> None:
        """The ports of the same server tell which models are ready. Closes the client when it is closed.

        hosts: of the servers behind the client's address, where there are several; the ports are theirs. far_names:
        of models that the address may answer for by another region, where it does; None: it does not.
        """
        self._client = client
        ports = (http_port, metrics_port)
        read = (
            partial(read_models_of_all, hosts, *ports) if hosts else partial(read_served_models, host, *ports)
        )
        self._read: Callable[[], Awaitable[list[NamedModel]]] = (
            partial(asyncio.to_thread, read)
            if far_names is None
            else NearOrFarModels(read, FarModels(client, far_names)).read
        )
        self._index: list[ServedModel] = []
        self._index_until = 0.0
        self._asking: asyncio.Task[list[ServedModel]] | None = None
        self._facts: dict[str, tuple[float, ModelFacts]] = {}

    @unaddressed
    async def models(self) -> list[ServedModel]:
        """See ModelServer. At most INDEX_SECONDS old."""
        if time.monotonic() < self._index_until:
            return list(self._index)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
            # Whoever waited may be gone by the time that it fails.
            self._asking.add_done_callback(_look_at)
        return list(await asyncio.shield(self._asking))

    @unaddressed
    async def embed(
        self,
        texts: Sequence[str],
        model: str,
        input_type: InputType | None = None,
        dimensions: int | None = None,
        seconds: float | None = None,
        *,
        over_length: OverLength | None = None,
    ) -> Embedded:
        """See ModelServer."""
        facts = await self._facts_of(model, "embed", seconds)
        size, policy = max(1, facts.max_batch_size), _policy(facts, over_length)
        inputs = [
            calls.embed_inputs(texts[start : start + size], input_type, dimensions, policy)
            for start in range(0, len(texts), size)
        ]
        answers = await self._infer_all(model, inputs, seconds, facts.vector_outputs)
        if not answers:
            nothing = np.zeros(0, np.int32)
            return Embedded(np.zeros((0, 0), np.float32), nothing, nothing)
        return Embedded(
            np.concatenate([calls.read_vectors(model, outputs) for outputs in answers]),
            _joined(model, answers, "token_count").reshape(-1),
            _joined(model, answers, "truncated_tokens").reshape(-1),
        )

    @unaddressed
    async def rerank(
        self,
        query: str,
        passages: Sequence[str],
        model: str,
        seconds: float | None = None,
        *,
        over_length: OverLength | None = None,
    ) -> Reranked:
        """See ModelServer."""
        policy = _policy(await self._facts_of(model, "rerank", seconds), over_length)
        if not passages:
            return Reranked(np.zeros(0, np.float32), np.zeros(0, np.int32))
        inputs: Rows = {"query": [[query]], "passages": [list(passages)], **_said(policy, 1)}
        outputs = await self._client.infer(model, inputs, seconds=seconds)
        return Reranked(outputs["score"][0], outputs["truncated_tokens"][0])

    @unaddressed
    async def classify(
        self,
        texts: Sequence[str],
        model: str,
        seconds: float | None = None,
        *,
        over_length: OverLength | None = None,
    ) -> list[Classified]:
        """See ModelServer."""
        facts = await self._facts_of(model, "classify", seconds)
        size, policy = max(1, facts.max_batch_size), _policy(facts, over_length)
        parts = [texts[start : start + size] for start in range(0, len(texts), size)]
        inputs: list[Rows] = [
            {"text": [[text] for text in part], **_said(policy, len(part))} for part in parts
        ]
        return [
            Classified(tuple(label.decode() for label in labels), scores)
            for outputs in await self._infer_all(model, inputs, seconds)
            for labels, scores in zip(outputs["label"], outputs["score"], strict=True)
        ]

    @unaddressed
    async def search(self, call: SearchCall) -> list[Hit]:
        """See ModelServer."""
        await self._facts_of(call.model, "search", call.seconds)
        inputs = calls.search_inputs(
            call.query,
            top_k=call.top_k,
            tenant=call.tenant,
            collection=call.collection,
            filter=call.filter or None,
            search_mode=call.mode,
            rerank_depth=call.rerank_depth,
        )
        parameters = {USER_PARAMETER: call.user} if call.user else {}
        outputs = await self._client.infer(call.model, inputs, parameters=parameters, seconds=call.seconds)
        return calls.read_hits(outputs)

    async def close(self) -> None:
        """See ModelServer."""
        await self._client.close()

    async def _ask(self) -> list[ServedModel]:
        found = []
        everything = await self._read()
        for served in everything:
            ability = ability_of(served.name, served.kind, served.inputs)
            if ability is not None:
                takes_flag = CACHED_FLAG in served.inputs
                model = ServedModel(
                    served.name,
                    ability,
                    served.is_ready,
                    served.digest,
                    takes_flag,
                    served.alternatives,
                    versions_of(served.name, everything),
                    EVIDENCE_FLAG in served.inputs,
                    RERANK_DEPTH in served.inputs,
                    served.is_far,
                    TOOL_CALLS_FLAG in served.inputs,
                )
                names = (f"{served.name}{ADAPTER_MARK}{adapter}" for adapter in served.adapters)
                found += [model, *(replace(model, name=name) for name in names)]
        self._index, self._index_until = found, time.monotonic() + INDEX_SECONDS
        return found

    async def _facts_of(self, model: str, wanted: Ability, seconds: float | None) -> ModelFacts:
        """What its configuration says. Raises InvalidInputError where the model is for something else."""
        facts = await self._read_facts(model, seconds)
        ability = ability_of(model, facts.kind, facts.inputs)
        if ability is None:
            raise NotFoundError(f"no model {model[:80]!r} is served here")
        if ability != wanted:
            raise InvalidInputError(f"model: {say_what_it_does(model, ability)}; name another", "model")
        return facts

    async def _read_facts(self, model: str, seconds: float | None) -> ModelFacts:
        until, facts = self._facts.get(model, (0.0, None))
        if facts is None or time.monotonic() >= until:
            # A server that hangs must not keep whoever has a deadline.
            facts = await self._client.read_facts(model, seconds or 0.0)
            self._facts[model] = (time.monotonic() + FACTS_SECONDS, facts)
        return facts

    async def _infer_all(
        self, model: str, inputs: Sequence[Rows], seconds: float | None, outputs: Sequence[str] = ()
    ) -> list[Outputs]:
        """One answer for each request, in order, all within `seconds`. outputs: those wanted; none: all."""
        if len(inputs) == 1:
            return [await self._client.infer(model, inputs[0], seconds=seconds, outputs=outputs)]
        ends = None if seconds is None else time.monotonic() + seconds
        places = asyncio.Semaphore(BATCHES_AT_ONCE)

        async def infer(rows: Rows, first: int) -> Outputs:
            async with places:
                left = None if ends is None else ends - time.monotonic()
                if left is not None and left <= 0:
                    raise DeadlineError(f"model {model} did not answer every batch in time; send fewer texts")
                try:
                    return await self._client.infer(model, rows, seconds=left, outputs=outputs)
                except OverLengthError as error:
                    raise _renumbered(error, first) from None

        size = len(inputs[0]["text"]) if inputs else 0
        tasks = [asyncio.create_task(infer(rows, n * size)) for n, rows in enumerate(inputs)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            # The first error ends them all.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _policy(facts: ModelFacts, over_length: OverLength | None) -> OverLength | None:
    """What is sent: a configuration of before there was a choice does not take it, and cuts.

    Raises InvalidInputError for split of such a model.
    """
    if OVER_LENGTH in facts.inputs:
        return over_length
    if over_length == "split":
        raise InvalidInputError(
            f"over_length: the configuration of {facts.name!r} does not take it; write it anew with"
            " build/write_configs.py, or leave split out",
            OVER_LENGTH,
        )
    return None


def _said(over_length: OverLength | None, rows: int) -> Rows:
    return {} if over_length is None else {OVER_LENGTH: [[over_length]] * rows}


def _renumbered(error: OverLengthError, first: int) -> OverLengthError:
    """The error of a batch that begins with the request's row `first`, in the request's own numbers."""
    row, said = re.fullmatch(r"(?:row (\d+): )?(.*)", str(error), re.DOTALL).groups()  # type: ignore[union-attr]
    return OverLengthError(f"row {first + int(row or 0)}: {said}")


def _joined(model: str, answers: Sequence[Outputs], name: str) -> npt.NDArray[Any]:
    if not all(name in outputs for outputs in answers):
        # A search asks its encoder for less, and Triton's cache tells requests apart by their inputs alone.
        raise TriremeError(
            f"model {model} did not say {name}: the server's response cache holds an answer to another one; send"
            " input_type, or turn the cache off (TRIREME_RESPONSE_CACHE_BYTES=0)"
        )
    parts: list[npt.NDArray[Any]] = [outputs[name] for outputs in answers]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _look_at(task: asyncio.Task[list[ServedModel]]) -> None:
    if not task.cancelled():
        task.exception()
