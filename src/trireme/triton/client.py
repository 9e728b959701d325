"""A gRPC client of the served models: typed calls in, typed errors out. async_client.py is its twin."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np

from trireme.errors import TriremeError, UnavailableError
from trireme.rag.ports import AnswerMode, AnswerPart
from trireme.triton import calls
from trireme.triton.call_route import CallRoute, metadata_of
from trireme.triton.calls import GeneratedPart
from trireme.triton.wire import (
    CHANNEL_OPTIONS,
    Outputs,
    Rows,
    Value,
    answer_of,
    call_error,
    infer_request,
    is_final,
    outputs_of,
    stream_error,
    stream_request,
)
from trireme.types import Embedding, FloatArray, Hit, InputType, SearchMode


class TritonClient:
    """Calls one server. Every call blocks at most `timeout` seconds and raises TriremeError."""

    def __init__(self, url: str, timeout: float = 60.0, route: CallRoute | None = None) -> None:
        """url: host:port of the gRPC endpoint. Connects when it is first used.

        route: what balancers are told of its calls, where `route_calls` says nothing.
        """
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        self._messages: Any = service_pb2
        self._channel = grpc.insecure_channel(url, CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._url = url
        self._timeout = timeout
        self._route = route or CallRoute()

    def __enter__(self) -> TritonClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def embed(
        self,
        texts: Sequence[str],
        input_type: InputType,
        model: str = "embedding",
        batch_size: int = 32,
        *,
        bulk: bool = False,
    ) -> FloatArray:
        """Embeddings [len(texts), dimensions] of texts, `batch_size` texts a request.

        bulk: runs after all interactive requests, and is not counted as one.
        """
        parts: list[FloatArray] = []
        for start in range(0, len(texts), batch_size):
            inputs = calls.embed_inputs(texts[start : start + batch_size], input_type)
            try:
                found = self.infer(model, inputs, bulk=bulk, outputs=calls.VECTOR_OUTPUTS)
            except TriremeError as error:
                raise calls.vectors_error(model, error) from None
            parts.append(calls.read_vectors(model, found))
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    def embed_all(
        self,
        texts: Sequence[str],
        input_type: InputType,
        model: str,
        outputs: Sequence[str],
        *,
        bulk: bool = False,
    ) -> list[Embedding]:
        """What a model makes of each text, in one request, of the tensors in `outputs`: see calls.store_outputs."""
        found = self.infer(model, calls.embed_inputs(texts, input_type), bulk=bulk, outputs=outputs)
        return calls.read_embeddings(model, found, outputs, len(texts))

    def search(
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
        """The best passages, best first. None leaves the server's default.

        `filter` is a JSON object that the metadata of every passage found must contain.
        """
        inputs = calls.search_inputs(
            query, top_k=top_k, tenant=tenant, collection=collection, filter=filter, search_mode=search_mode
        )
        return calls.read_hits(self.infer(model, inputs))

    def ask(
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
    ) -> Generator[AnswerPart, None, None]:
        """The parts of an answer as they come; the last has citations and usage. None leaves the server's default.

        sampling: parameters of the LLM, such as max_tokens. asks_evidence, asks_prompt: for what AnswerPart says of
        them. Closing the generator ends the answer on the server.
        """
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
        for outputs in self.stream(model, inputs):
            yield calls.read_answer_part(outputs)

    def generate(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        tenant: str | None = None,
        *,
        sampling: Mapping[str, Any] | None = None,
        stream: bool = True,
        model: str = "llm",
    ) -> Generator[GeneratedPart, None, None]:
        """The parts of the LLM's text as they come; the last has finish_reason and token counts.

        prompt: a text, or messages of {"role", "content"}. sampling: max_tokens, temperature, stop and so on.
        Closing the generator ends the request on the server.
        """
        for outputs in self.stream(model, calls.generate_inputs(prompt, tenant, sampling, stream=stream)):
            yield calls.read_generated(outputs)

    def stream(self, model: str, inputs: Mapping[str, Value]) -> Generator[Outputs, None, None]:
        """Output arrays by name of each response of a decoupled model. Inputs are single values.

        Waits at most the client's timeout for each response. Closing the generator cancels the request.
        """
        answers: queue.Queue[Any] = queue.Queue()
        call = self._stub.ModelStreamInfer(
            iter([stream_request(model, inputs)]), metadata=metadata_of(model, self._route)
        )
        # tritonclient's own streams leave a thread behind for each one that is cancelled.
        reader = threading.Thread(target=_read_stream, args=(call, answers.put, self._url), daemon=True)
        reader.start()
        has_ended = False
        try:
            while not has_ended:
                answer = answers.get(timeout=self._timeout)
                if isinstance(answer, TriremeError):
                    has_ended = True
                    raise answer
                has_ended = is_final(answer)
                if answer.outputs:
                    yield outputs_of(answer)
        except queue.Empty:
            raise UnavailableError(f"model {model} sent nothing for {self._timeout:.0f} s") from None
        finally:
            # A cancel that meets the end of its request can crash tritonserver before 25.01.
            if not has_ended:
                call.cancel()
            reader.join(self._timeout)

    def infer(self, model: str, inputs: Rows, *, bulk: bool = False, outputs: Sequence[str] = ()) -> Outputs:
        """Output arrays by name, of `outputs` or of all. Inputs are rows of str, int (INT32) or float (FP32)."""
        import grpc

        try:
            response = self._stub.ModelInfer(
                infer_request(model, inputs, bulk=bulk, outputs=outputs),
                timeout=self._timeout,
                metadata=metadata_of(model, self._route, bulk=bulk),
            )
        except grpc.RpcError as error:
            raise call_error(error, self._url) from None
        return answer_of(response)

    def is_ready(self, model: str = "") -> bool:
        """Whether the server, or one model, says it is ready. Never raises."""
        import grpc

        try:
            if model:
                answer = self._stub.ModelReady(
                    self._messages.ModelReadyRequest(name=model),
                    timeout=self._timeout,
                    metadata=metadata_of(model, self._route),
                )
            else:
                answer = self._stub.ServerReady(self._messages.ServerReadyRequest(), timeout=self._timeout)
        except grpc.RpcError:
            return False
        return bool(answer.ready)


def _read_stream(call: Any, put: Callable[[Any], None], url: str) -> None:
    """Each response of `call`, then the error that ended it; nothing after a final response is waited for."""
    import grpc

    has_begun = False
    try:
        for message in call:
            put(stream_error(message, url) if message.error_message else message.infer_response)
            has_begun = has_begun or bool(message.infer_response.outputs)
        put(UnavailableError("the server ended the stream before its last response; try again"))
    except grpc.RpcError as error:
        put(call_error(error, url, has_begun=has_begun))
