"""Two ways to the same model: its engine called directly, and tritonserver through gRPC."""

from __future__ import annotations

import json
import queue
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trireme.errors import UnavailableError
from trireme.generate.engine import Engine, EngineRequest, Sampling

WAIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Run:
    """One run of several streams at once. `first_token_s` is the median over the streams."""

    tokens: int
    seconds: float
    first_token_s: float

    @property
    def tokens_per_second(self) -> float:
        """Output tokens of all streams together."""
        return self.tokens / self.seconds


class DirectEngine:
    """The engine that a server runs, called through its port from this process: no Triton, no text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._chunks = self._engine.stream()
        self._count = 0

    def run(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Run:
        """All prompts at once, greedy, exactly `max_tokens` tokens each. Blocks; raises TriremeError."""
        sampling = Sampling(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
        began = time.perf_counter()
        for prompt in prompts:
            self._count += 1
            self._engine.submit(EngineRequest(str(self._count), tuple(prompt), sampling))
        first: dict[str, float] = {}
        made, ended = 0, 0
        while ended < len(prompts):
            for chunk in next(self._chunks):
                if chunk.error is not None:
                    raise chunk.error
                made += len(chunk.tokens)
                ended += chunk.is_last
                if chunk.tokens:
                    first.setdefault(chunk.request_id, time.perf_counter() - began)
        return Run(made, time.perf_counter() - began, statistics.median(first.values()))

    def close(self) -> None:
        """Ends the engine."""
        self._engine.close()


@dataclass(slots=True)
class Answer:
    """Times are of one clock for all processes of the machine, in seconds."""

    sent: float
    first: float = 0.0
    done: float = 0.0
    responses: int = 0
    output_tokens: int = 0


class Stream:
    """One gRPC stream to a served model; answers one request at a time."""

    def __init__(self, url: str, model: str, is_streamed: bool = True) -> None:
        """is_streamed: False for each answer in one response."""
        from tritonclient import grpc

        self._is_streamed, self._model = is_streamed, model
        self._client = grpc.InferenceServerClient(url)
        self._events: queue.SimpleQueue[tuple[float, Any, Any]] = queue.SimpleQueue()
        self._client.start_stream(lambda result, error: self._events.put((time.monotonic(), result, error)))

    def send(self, text: str, max_tokens: int, tenant: str = "") -> float:
        """Asks for exactly `max_tokens` tokens, greedy; when that was."""
        parameters = json.dumps({"max_tokens": max_tokens, "temperature": 0.0, "ignore_eos": True})
        values: dict[str, str | bool] = {"text_input": text, "sampling_parameters": parameters}
        values |= {"return_num_output_tokens": True, "stream": self._is_streamed}
        inputs = make_tensors({**values, **({"tenant": tenant} if tenant else {})})
        sent = time.monotonic()
        self._client.async_stream_infer(self._model, inputs, enable_empty_final_response=True)
        return sent

    def next(self) -> tuple[float, Any]:
        """When the next response came, and the message. Raises UnavailableError."""
        at, result, error = self._events.get(timeout=WAIT_SECONDS)
        if error is not None:
            raise UnavailableError(f"{self._model} answered: {error}")
        return at, result.get_response()

    def receive(self, sent: float) -> Answer:
        """The whole answer to what was sent then. Blocks; raises UnavailableError."""
        answer = Answer(sent)
        while not answer.done:
            at, message = self.next()
            if message.outputs:
                answer.first = answer.first or at
                answer.responses += 1
                answer.output_tokens = _read_count(message) or answer.output_tokens
            if message.parameters["triton_final_response"].bool_param:
                answer.done = at
        return answer

    def ask(self, text: str, max_tokens: int, tenant: str = "") -> Answer:
        """One request and its answer."""
        return self.receive(self.send(text, max_tokens, tenant))

    def leave(self) -> None:
        """Ends the stream in the middle of an answer."""
        self._client.stop_stream(cancel_requests=True)

    def close(self) -> None:
        self._client.stop_stream()
        self._client.close()


def _read_count(message: Any) -> int:
    for position, output in enumerate(message.outputs):
        if output.name == "num_output_tokens" and message.raw_output_contents:
            return int.from_bytes(message.raw_output_contents[position][:4], "little")
    return 0


def make_tensors(values: Mapping[str, str | bool]) -> list[Any]:
    """Inputs of tritonclient, of one element each."""
    from tritonclient import grpc

    tensors = []
    for name, value in values.items():
        tensor = grpc.InferInput(name, [1], "BYTES" if isinstance(value, str) else "BOOL")
        array = np.array([value.encode()], dtype=object) if isinstance(value, str) else np.array([value])
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return tensors


class ServedModel:
    """The same model behind tritonserver: a stream for each request that is in flight."""

    def __init__(self, url: str, model: str) -> None:
        self._url, self._model = url, model
        self._streams: list[Stream] = []

    def run(self, texts: Sequence[str], max_tokens: int) -> Run:
        """All texts at once, greedy, exactly `max_tokens` tokens each. Blocks; raises UnavailableError."""
        while len(self._streams) < len(texts):
            self._streams.append(Stream(self._url, self._model))
        pairs = list(zip(self._streams, texts, strict=False))
        sent = [stream.send(text, max_tokens) for stream, text in pairs]
        answers = [stream.receive(at) for (stream, _), at in zip(pairs, sent, strict=True)]
        return summarize(answers)

    def close(self) -> None:
        """Ends the streams."""
        for stream in self._streams:
            stream.close()


def summarize(answers: Sequence[Answer]) -> Run:
    """Answers of requests that were in flight together."""
    seconds = max(answer.done for answer in answers) - min(answer.sent for answer in answers)
    first = statistics.median(answer.first - answer.sent for answer in answers)
    return Run(sum(answer.output_tokens for answer in answers), seconds, first)
