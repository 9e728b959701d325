"""Looks at one server again and again: does it answer, which models are ready, what has it to do?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from trireme.errors import UnavailableError
from trireme.observe import metrics as table
from trireme.triton.canary import is_refusal, is_word, smallest_request
from trireme.triton.load import Load, load_of
from trireme.triton.metrics import count_answered, loads_of, read_metrics, read_samples, readiness_of
from trireme.triton.served_models import SPEAKING
from trireme.triton.wire import CHANNEL_OPTIONS

# Of a model to a smallest request. A refusal is an answer too. gone: Triton says that its process is.
Answer = Literal["answered", "gone", "owed"]
Fault = Literal["", "server_away", "server_silent", "metrics_away"]

_READY = "READY"
_COUNTED = table.TRITON_SUCCEEDED.name


@dataclass(frozen=True, slots=True)
class ServerLook:
    """What one look found. fault: why it found nothing more; detail: in words.

    models: those that should be there, by name. not_ready: of them, with the reason in words. loads: what each has
    loaded, another value after each load. answered: requests that each has ended since the server started.
    """

    fault: Fault = ""
    detail: str = ""
    models: tuple[str, ...] = ()
    not_ready: Mapping[str, str] = field(default_factory=dict)
    loads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    answered: Mapping[str, float] = field(default_factory=dict)
    load: Load | None = None


class Probe:
    """Looks from one event loop. No look takes longer than about `seconds`, and none raises."""

    def __init__(
        self, address: str, metrics: tuple[str, int], models: Sequence[str] = (), seconds: float = 1.0
    ) -> None:
        """address: host:port of gRPC. metrics: host and port of the Prometheus page. models: that should be there,
        with all that they call; none: all that the server has or tried to load. Connects when it is first used."""
        import grpc.aio
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        self._address = address
        self._metrics = metrics
        self._wanted = tuple(models)
        self._seconds = seconds
        self._error: type[Any] = grpc.RpcError
        self._messages: Any = service_pb2
        self._channel = grpc.aio.insecure_channel(address, CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._configs: dict[str, Any] = {}

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def look(self) -> ServerLook:
        """One look. Never raises for what the server does."""
        try:
            page, index = await asyncio.gather(self._read_page(), self._read_index())
        except self._error as error:
            self._configs.clear()
            return _fault_of(error, self._address)
        if isinstance(page, UnavailableError):
            return ServerLook("metrics_away", str(page))
        if index is None:
            index = {labels["model"]: (_READY, "") for labels, _ in read_samples(page, _COUNTED)}
        try:
            models = await self._with_steps(self._wanted) if self._wanted else tuple(sorted(index))
            states = await asyncio.gather(*(self._state(model, index, page) for model in models))
            load, loads = load_of(page), loads_of(page)
        except self._error as error:
            return _fault_of(error, self._address)
        except UnavailableError as error:
            return ServerLook("metrics_away", str(error))
        return ServerLook(
            models=models,
            not_ready={model: why for model, why in zip(models, states, strict=True) if why},
            loads={model: loads[model].names for model in models if model in loads},
            answered=count_answered(page),
            load=load,
        )

    async def ask(self, model: str, seconds: float) -> Answer:
        """What a smallest request to the model got within `seconds`. Never raises for what the server does."""
        try:
            config = await self._config(model)
        except self._error:
            return "owed"
        try:
            request = smallest_request(model, config)
            if not config.model_transaction_policy.decoupled:
                answer = await self._stub.ModelInfer(request, timeout=seconds)
                return _answer_of([answer.model_name])
            stream = self._stub.ModelStreamInfer(iter([request]), timeout=seconds)
            return _answer_of([part.error_message async for part in stream])
        except self._error as error:
            said = [error.details() or ""]
            return "answered" if is_refusal(error) else "gone" if not is_word(said) else "owed"

    async def _read_page(self) -> str | UnavailableError:
        try:
            # Of a server that sends a byte now and then, too, no more than `seconds` are waited for.
            return await asyncio.wait_for(
                asyncio.to_thread(read_metrics, *self._metrics, self._seconds), 2 * self._seconds
            )
        except UnavailableError as error:
            return error
        except TimeoutError:
            return UnavailableError(f"no metrics at {self._metrics[0]}:{self._metrics[1]} in time")

    async def _read_index(self) -> dict[str, tuple[str, str]] | None:
        """State and reason of each model that was loaded or tried; None where the server locks its index away."""
        try:
            answer = await self._stub.RepositoryIndex(
                self._messages.RepositoryIndexRequest(), timeout=self._seconds
            )
        except self._error as error:
            if "restricted" in (error.details() or ""):
                return None
            raise
        index: dict[str, tuple[str, str]] = {}
        for entry in answer.models:
            # A folder that nobody asked to load has no state. One version that is ready is enough.
            if entry.state and index.get(entry.name, ("", ""))[0] != _READY:
                index[entry.name] = (entry.state, entry.reason)
        return index

    async def _state(self, model: str, index: Mapping[str, tuple[str, str]], page: str) -> str:
        """Why a model is not ready; "" where it is."""
        state, reason = index.get(model, ("", ""))
        if state != _READY:
            return reason or (f"it is {state}" if state else "the server does not have it")
        answer = await self._stub.ModelReady(
            self._messages.ModelReadyRequest(name=model), timeout=self._seconds
        )
        if not answer.ready:
            return "Triton says that it is not ready"
        said = readiness_of(page).get(model)
        if said is None and (await self._config(model)).backend in SPEAKING:
            return "it has not said yet that its session, files and database answer"
        if said is False:
            return "it says, or has not denied of late, that its session, files or database do not answer"
        return ""

    async def _config(self, model: str) -> Any:
        if model not in self._configs:
            asked = self._messages.ModelConfigRequest(name=model)
            answer = await self._stub.ModelConfig(asked, timeout=self._seconds)
            self._configs[model] = answer.config
        return self._configs[model]

    async def _with_steps(self, names: Iterable[str]) -> tuple[str, ...]:
        """`names` and all models that they call, sorted."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.add(name)
            try:
                config = await self._config(name)
            except self._error as error:
                if error.code().name in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                    raise
                # Not there: `_state` says so.
                continue
            called = config.parameters["steps"].string_value if "steps" in config.parameters else ""
            steps = [step.model_name for step in config.ensemble_scheduling.step]
            waiting += [*steps, *filter(None, called.split(","))]
        return tuple(sorted(found))


def _answer_of(said: Sequence[str]) -> Answer:
    return "answered" if is_word(said) else "gone" if said else "owed"


def _fault_of(error: Any, address: str) -> ServerLook:
    if error.code().name == "DEADLINE_EXCEEDED":
        return ServerLook("server_silent", f"the server at {address} does not answer in time")
    return ServerLook(
        "server_away", f"no server answers at {address}: {error.details() or error.code().name}"
    )
