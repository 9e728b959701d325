"""A gRPC client of the served models: typed calls in, typed errors out."""

from __future__ import annotations

import dataclasses
import json
import queue
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np

from trireme.errors import (
    InvalidInputError,
    NotFoundError,
    TriremeError,
    UnavailableError,
    UnsupportedError,
)
from trireme.rag.ports import AnswerMode, AnswerPart, Citation, Usage
from trireme.triton.wire import BULK_ID, Value, is_final, outputs_of, stream_request, strip_code
from trireme.types import FloatArray, Hit, InputType, SearchMode

Rows = dict[str, list[list[Any]]]

# Of the two priorities of a text encoder: behind every request that says nothing.
BULK_PRIORITY = 2

_ERRORS: dict[str, type[TriremeError]] = {
    "INVALID_ARGUMENT": InvalidInputError,
    "INVALID_ARG": InvalidInputError,
    "NOT_FOUND": NotFoundError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": UnavailableError,
    "UNIMPLEMENTED": UnsupportedError,
    "UNSUPPORTED": UnsupportedError,
}
# Triton's words for a stub that is gone, and for models of a server that stops.
_PASSING = ("is not healthy", "has no available versions", "server is stopping", "Server is stopping")


@dataclasses.dataclass(frozen=True, slots=True)
class GeneratedPart:
    """A part of the LLM's text. The last one has the finish_reason (stop, length, cancelled) and the counts."""

    text: str
    finish_reason: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


class TritonClient:
    """Calls one server. Every call blocks at most `timeout` seconds and raises TriremeError."""

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        """url: host:port of the gRPC endpoint."""
        from tritonclient import grpc

        self._grpc = grpc
        self._client = grpc.InferenceServerClient(url)
        # Of streams, made when the first one is opened.
        self._channel: Any = None
        self._url = url
        self._timeout = timeout

    def __enter__(self) -> TritonClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        if self._channel is not None:
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

        bulk: behind every request that is not, and not counted as somebody who waits.
        """
        parts: list[FloatArray] = []
        for start in range(0, len(texts), batch_size):
            rows = texts[start : start + batch_size]
            inputs: Rows = {"text": [[t] for t in rows], "input_type": [[input_type] for _ in rows]}
            parts.append(self.infer(model, inputs, bulk=bulk)["embedding"])
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

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
        inputs: Rows = {"query": [[query]]}
        given = {"top_k": top_k, "tenant": tenant, "collection": collection}
        given |= {"filter": filter, "search_mode": search_mode}
        inputs |= {name: [[value]] for name, value in given.items() if value is not None}
        outputs = self.infer(model, inputs)
        columns = [[value.decode() for value in outputs[name][0]] for name in ("id", "text", "metadata")]
        scores = [float(score) for score in outputs["score"][0]]
        return [Hit(*row) for row in zip(*columns, scores, strict=True)]

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
    ) -> Generator[AnswerPart, None, None]:
        """The parts of an answer as they come; the last has citations and usage. None leaves the server's default.

        sampling: parameters of the LLM, such as max_tokens. Closing the generator ends the answer on the server.
        """
        given = {"answer_mode": mode, "top_k": top_k, "tenant": tenant, "collection": collection}
        inputs: dict[str, Value] = {"text_input": question, "stream": stream}
        inputs |= {name: value for name, value in given.items() if value is not None}
        if sampling is not None:
            inputs["sampling_parameters"] = json.dumps(dict(sampling))
        for outputs in self.stream(model, inputs):
            yield _answer_part({name: values[0].decode() for name, values in outputs.items()})

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
        is_text = isinstance(prompt, str)
        inputs: dict[str, Any] = {"text_input": prompt} if is_text else {"messages": json.dumps(list(prompt))}
        inputs |= {"stream": stream, "exclude_input_in_output": True}
        inputs |= dict.fromkeys(
            ("return_finish_reason", "return_num_input_tokens", "return_num_output_tokens"), True
        )
        if tenant is not None:
            inputs["tenant"] = tenant
        if sampling is not None:
            inputs["sampling_parameters"] = json.dumps(dict(sampling))
        for outputs in self.stream(model, inputs):
            yield GeneratedPart(
                text=outputs["text_output"][0].decode(),
                finish_reason=outputs["finish_reason"][0].decode(),
                input_tokens=int(outputs["num_input_tokens"][0]) if "num_input_tokens" in outputs else 0,
                output_tokens=int(outputs["num_output_tokens"][0]) if "num_output_tokens" in outputs else 0,
            )

    def stream(self, model: str, inputs: Mapping[str, Value]) -> Generator[dict[str, Any], None, None]:
        """Output arrays by name of each response of a decoupled model. Inputs are single values.

        Waits at most the client's timeout for each response. Closing the generator cancels the request.
        """
        answers: queue.Queue[Any] = queue.Queue()
        call = self._open_stream(model, inputs)
        # tritonclient's own streams leave a thread behind for each one that is cancelled.
        reader = threading.Thread(target=_read_stream, args=(call, answers.put), daemon=True)
        reader.start()
        has_ended = False
        try:
            while not has_ended:
                answer = answers.get(timeout=self._timeout)
                if isinstance(answer, TriremeError):
                    has_ended = True
                    raise answer
                if isinstance(answer, Exception):
                    has_ended = True
                    raise self._typed(answer.code().name, answer.details() or "")  # type: ignore[attr-defined]
                response = answer.infer_response
                if answer.error_message:
                    has_ended = True
                    raise self._typed("", answer.error_message.removeprefix(f"[request id: {response.id}] "))
                has_ended = is_final(response)
                if response.outputs:
                    yield outputs_of(response)
        except queue.Empty:
            raise UnavailableError(f"model {model} sent nothing for {self._timeout:.0f} s") from None
        finally:
            # A cancel that meets the end of its request can crash tritonserver before 25.01.
            if not has_ended:
                call.cancel()
            reader.join(self._timeout)

    def _open_stream(self, model: str, inputs: Mapping[str, Value]) -> Any:
        import grpc
        from tritonclient.grpc import service_pb2_grpc

        if self._channel is None:
            self._channel = grpc.insecure_channel(self._url, [("grpc.max_receive_message_length", -1)])
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        return stub.ModelStreamInfer(iter([stream_request(model, inputs)]))

    def infer(self, model: str, inputs: Rows, *, bulk: bool = False) -> dict[str, Any]:
        """Output arrays by name. Inputs are rows of str (STRING), int (INT32) or float (FP32)."""
        from tritonclient.utils import InferenceServerException

        tensors = [self._tensor(name, rows) for name, rows in inputs.items()]
        try:
            result = self._client.infer(
                model,
                tensors,
                request_id=BULK_ID if bulk else "",
                priority=BULK_PRIORITY if bulk else 0,
                client_timeout=self._timeout,
            )
        except InferenceServerException as error:
            status = str(error.status() or "").rpartition(".")[2]
            raise self._typed(status, str(error.message())) from None
        outputs = {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}
        if not outputs:
            raise InvalidInputError(
                "the response cache of the server kept an error of this very request as an empty answer;"
                " change the request, or turn the cache off (TRIREME_RESPONSE_CACHE_BYTES=0)"
            )
        return outputs

    def is_ready(self, model: str = "") -> bool:
        """Whether the server, or one model, says it is ready. Never raises."""
        from tritonclient.utils import InferenceServerException

        try:
            answer = self._client.is_model_ready(model) if model else self._client.is_server_ready()
        except InferenceServerException:
            return False
        return bool(answer)

    def _tensor(self, name: str, rows: list[list[Any]]) -> Any:
        first = rows[0][0] if rows[0] else ""
        if isinstance(first, str):
            array = np.array([[v.encode() for v in row] for row in rows], dtype=object).reshape(len(rows), -1)
            datatype = "BYTES"
        else:
            array = np.array(rows, np.int32 if isinstance(first, int) else np.float32)
            datatype = "INT32" if isinstance(first, int) else "FP32"
        tensor = self._grpc.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        return tensor

    def _typed(self, status: str, message: str) -> TriremeError:
        for request_id in ("<id_unknown>", BULK_ID):
            message = message.removeprefix(f"[request id: {request_id}] ")
        code, message = strip_code(message)
        if not code and (unavailable := self._unavailable(status, message)):
            return UnavailableError(unavailable)
        return _ERRORS.get(code or status, TriremeError)(message)

    def _unavailable(self, status: str, message: str) -> str:
        """What to say where it is the server and not the request that is at fault, else nothing."""
        if status == "UNAVAILABLE" and "onnect" in message:
            return f"no server answers at {self._url}; start one with: make serve"
        if status in ("UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED"):
            return f"the server at {self._url} did not answer ({message}); try again"
        # What Triton calls an internal error, or not found, while a process or the server ends.
        if any(said in message for said in _PASSING):
            return f"the server at {self._url} lost a process ({message}); try again once it is started"
        return ""


def _read_stream(call: Any, put: Callable[[Any], None]) -> None:
    """Each message of `call`, then what ended it; nothing after a final response is waited for."""
    import grpc

    try:
        for message in call:
            put(message)
        put(UnavailableError("the server ended the stream before its last response; try again"))
    except grpc.RpcError as error:
        put(error)


def _answer_part(outputs: dict[str, str]) -> AnswerPart:
    if "usage" not in outputs:
        return AnswerPart(outputs["text_output"])
    # A newer server may count more.
    known = {field.name for field in dataclasses.fields(Usage)}
    given = {key: value for key, value in json.loads(outputs["usage"]).items() if key in known}
    usage: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    return AnswerPart(
        outputs["text_output"],
        tuple(Citation(**citation) for citation in json.loads(outputs["citations"])),
        Usage(**usage),
        outputs["finish_reason"],
    )
