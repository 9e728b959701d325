"""The asynchronous twin of client.py: the same calls, over grpc.aio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType
from typing import Any

import numpy as np

from trireme.errors import DeadlineError, NotFoundError, TriremeError, UnavailableError
from trireme.rag.ports import AnswerMode, AnswerPart
from trireme.triton import calls
from trireme.triton.call_route import CallRoute, metadata_of
from trireme.triton.calls import GeneratedPart, ModelFacts
from trireme.triton.left_calls import end_call, result_of
from trireme.triton.traced import note_trace
from trireme.triton.wire import (
    CHANNEL_OPTIONS,
    Outputs,
    Parameter,
    Rows,
    Value,
    answer_of,
    call_error,
    client_error,
    infer_request,
    is_final,
    outputs_of,
    stream_error,
    stream_request,
)
from trireme.types import FloatArray, Hit, InputType, SearchMode


class AsyncTritonClient:
    """Calls one server from one event loop. Every call takes at most `timeout` seconds and raises TriremeError."""

    def __init__(self, url: str, timeout: float = 60.0, route: CallRoute | None = None) -> None:
        """url: host:port of the gRPC endpoint. For a running event loop; connects when it is first used.

        route: what balancers are told of its calls, where `route_calls` says nothing.
        """
        import grpc.aio
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        self._messages: Any = service_pb2
        self._channel = grpc.aio.insecure_channel(url, CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._url = url
        self._timeout = timeout
        self._route = route or CallRoute()

    async def __aenter__(self) -> AsyncTritonClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def embed(
        self,
        texts: Sequence[str],
        input_type: InputType,
        model: str = "embedding",
        batch_size: int = 32,
        *,
        bulk: bool = False,
    ) -> FloatArray:
        """See TritonClient.embed. One request after the other: callers that want several at once gather calls."""
        parts: list[FloatArray] = []
        for start in range(0, len(texts), batch_size):
            inputs = calls.embed_inputs(texts[start : start + batch_size], input_type)
            try:
                found = await self.infer(model, inputs, bulk=bulk, outputs=calls.VECTOR_OUTPUTS)
            except TriremeError as error:
                raise calls.vectors_error(model, error) from None
            parts.append(calls.read_vectors(model, found))
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    async def search(
        self,
        query: str,
        top_k: int | None = None,
        tenant: str | None = None,
        collection: str | None = None,
        model: str = "search",
        *,
        filter: str | None = None,
        search_mode: SearchMode | None = None,
    ) -> list[Hit]:
        """See TritonClient.search."""
        inputs = calls.search_inputs(
            query, top_k=top_k, tenant=tenant, collection=collection, filter=filter, search_mode=search_mode
        )
        return calls.read_hits(await self.infer(model, inputs))

    async def ask(
        self,
        question: str,
        mode: AnswerMode | None = None,
        top_k: int | None = None,
        tenant: str | None = None,
        collection: str | None = None,
        *,
        sampling: Mapping[str, Any] | None = None,
        stream: bool = True,
        model: str = "rag",
        asks_evidence: bool = False,
        asks_prompt: bool = False,
    ) -> AsyncGenerator[AnswerPart, None]:
        """See TritonClient.ask."""
        inputs = calls.ask_inputs(
            question,
            mode=mode,
            top_k=top_k,
            tenant=tenant,
            collection=collection,
            sampling=sampling,
            stream=stream,
            asks_evidence=asks_evidence,
            asks_prompt=asks_prompt,
        )
        async with aclosing(self.stream(model, inputs)) as responses:
            async for outputs in responses:
                yield calls.read_answer_part(outputs)

    async def generate(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        tenant: str | None = None,
        *,
        sampling: Mapping[str, Any] | None = None,
        stream: bool = True,
        model: str = "llm",
    ) -> AsyncGenerator[GeneratedPart, None]:
        """See TritonClient.generate."""
        inputs = calls.generate_inputs(prompt, tenant, sampling, stream=stream)
        async with aclosing(self.stream(model, inputs)) as responses:
            async for outputs in responses:
                yield calls.read_generated(outputs)

    async def stream(
        self,
        model: str,
        inputs: Mapping[str, Value],
        *,
        parameters: Mapping[str, Parameter] = MappingProxyType({}),
        patience: Callable[[], float] | None = None,
        seconds: float | None = None,
    ) -> AsyncGenerator[Outputs, None]:
        """See TritonClient.stream. Closing the generator, or cancelling its task, cancels the request.

        patience: asked before each response how many seconds it may take; else `timeout`. seconds: of all of it;
        the server is told them (grpc-timeout), and whatever stands in between. Raises DeadlineError.
        """
        import grpc.aio

        request = stream_request(model, inputs, parameters=parameters)
        metadata = (*metadata_of(model, self._route), *note_trace(request))
        call = self._stub.ModelStreamInfer(iter([request]), timeout=seconds, metadata=metadata)
        has_ended = has_begun = False
        try:
            while not has_ended:
                message = await self._read(call, model, patience() if patience else self._timeout)
                if message is grpc.aio.EOF:
                    has_ended = True
                    raise await _ended_early(call, self._url, has_begun=has_begun)
                response = message.infer_response
                if message.error_message:
                    has_ended = True
                    raise stream_error(message, self._url)
                has_ended = is_final(response)
                if response.outputs:
                    has_begun = True
                    yield outputs_of(response)
        except grpc.RpcError as error:
            has_ended = True
            raise call_error(error, self._url, has_begun=has_begun) from None
        finally:
            # A cancel that meets the end of its request can crash tritonserver before 25.01, and a call that is
            # dropped before its status is there counts as cancelled.
            if has_ended:
                await asyncio.wait([asyncio.ensure_future(call.code())], timeout=self._timeout)
            else:
                end_call(call)

    async def _read(self, call: Any, model: str, seconds: float) -> Any:
        """The next message of a stream."""
        try:
            return await result_of(call, call.read(), seconds)
        except DeadlineError:
            raise DeadlineError(f"model {model} sent nothing for {seconds:.0f} s") from None

    async def infer(
        self,
        model: str,
        inputs: Rows,
        *,
        bulk: bool = False,
        parameters: Mapping[str, Parameter] = MappingProxyType({}),
        seconds: float | None = None,
        outputs: Sequence[str] = (),
    ) -> Outputs:
        """See TritonClient.infer. seconds: in place of `timeout` where they are fewer; the server is told them."""
        import grpc

        limit = self._timeout if seconds is None else min(self._timeout, seconds)
        try:
            request = infer_request(model, inputs, bulk=bulk, parameters=parameters, outputs=outputs)
            metadata = (*metadata_of(model, self._route, bulk=bulk), *note_trace(request))
            call = self._stub.ModelInfer(request, timeout=limit, metadata=metadata)
            response = await result_of(call, call)
        except grpc.RpcError as error:
            raise call_error(error, self._url) from None
        return answer_of(response)

    async def read_facts(self, model: str, seconds: float = 0.0) -> ModelFacts:
        """What the model's configuration says of it. seconds: in place of `timeout`. Raises NotFoundError."""
        import grpc

        try:
            request = self._messages.ModelConfigRequest(name=model)
            call = self._stub.ModelConfig(
                request, timeout=seconds or self._timeout, metadata=metadata_of(model, self._route)
            )
            answer = await result_of(call, call)
        except grpc.RpcError as error:
            typed = call_error(error, self._url)
            if isinstance(typed, NotFoundError):
                typed = NotFoundError(f"no model {model[:80]!r} is served here")
            raise typed from None
        return calls.read_facts(answer.config)

    async def read_names(self, seconds: float = 0.0) -> list[str]:
        """Models that one server has loaded. seconds: in place of `timeout`."""
        import grpc

        try:
            request = self._messages.RepositoryIndexRequest(ready=True)
            call = self._stub.RepositoryIndex(
                request, timeout=seconds or self._timeout, metadata=metadata_of("", self._route)
            )
            answer = await result_of(call, call)
        except grpc.RpcError as error:
            raise call_error(error, self._url) from None
        return sorted({one.name for one in answer.models})

    async def read_ready(self, model: str, seconds: float = 0.0) -> bool:
        """As is_ready of a model, and raises TriremeError where nobody says. seconds: in place of `timeout`."""
        import grpc

        try:
            request = self._messages.ModelReadyRequest(name=model)
            call = self._stub.ModelReady(
                request, timeout=seconds or self._timeout, metadata=metadata_of(model, self._route)
            )
            answer = await result_of(call, call)
        except grpc.RpcError as error:
            raise call_error(error, self._url) from None
        return bool(answer.ready)

    async def is_ready(self, model: str = "") -> bool:
        """See TritonClient.is_ready."""
        import grpc

        try:
            if model:
                request = self._messages.ModelReadyRequest(name=model)
                answer = await self._stub.ModelReady(
                    request, timeout=self._timeout, metadata=metadata_of(model, self._route)
                )
            else:
                request = self._messages.ServerReadyRequest()
                answer = await self._stub.ServerReady(request, timeout=self._timeout)
        except grpc.RpcError:
            return False
        return bool(answer.ready)


async def _ended_early(call: Any, url: str, *, has_begun: bool) -> TriremeError:
    """Why a stream ended before a final response."""
    import grpc

    status = await call.code()
    if status is grpc.StatusCode.OK:
        return UnavailableError("the server ended the stream before its last response; try again")
    return client_error(status.name, await call.details() or "", url, has_begun=has_begun)
