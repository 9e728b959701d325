"""Two ways to the same model: its engine called directly, and tritonserver through gRPC."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trireme.errors import TriremeError
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
        return Run(made, time.perf_counter() - began, float(np.median(list(first.values()))))

    def close(self) -> None:
        """Ends the engine."""
        self._engine.close()


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
    """The same model behind tritonserver, every request streamed over one gRPC connection."""

    def __init__(self, url: str, model: str) -> None:
        from tritonclient import grpc

        self._client = grpc.InferenceServerClient(url)
        self._model = model
        self._changed = threading.Condition()
        self._began = 0.0
        self._first: dict[str, float] = {}
        self._made: dict[str, int] = {}
        self._error: Any = None
        self._count = 0
        self._client.start_stream(self._take)

    def run(self, texts: Sequence[str], max_tokens: int) -> Run:
        """All texts at once, greedy, exactly `max_tokens` tokens each. Blocks; raises TriremeError."""
        sampling = json.dumps({"max_tokens": max_tokens, "temperature": 0, "ignore_eos": True})
        self._first, self._made, self._error = {}, {}, None
        values = {"sampling_parameters": sampling, "stream": True, "return_num_output_tokens": True}
        tensors = [make_tensors({"text_input": text, **values}) for text in texts]
        self._began = time.perf_counter()
        for inputs in tensors:
            self._count += 1
            self._client.async_stream_infer(self._model, inputs, request_id=str(self._count))
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._error is not None or len(self._made) == len(texts), WAIT_SECONDS
            )
        seconds = time.perf_counter() - self._began
        if not done or self._error is not None:
            raise TriremeError(f"model {self._model} did not answer: {self._error}")
        return Run(sum(self._made.values()), seconds, float(np.median(list(self._first.values()))))

    def close(self) -> None:
        """Ends the connection."""
        self._client.stop_stream()
        self._client.close()

    def _take(self, result: Any, error: Any) -> None:
        now = time.perf_counter() - self._began
        if error is not None:
            with self._changed:
                self._error = error
                self._changed.notify()
            return
        request_id = result.get_response().id
        self._first.setdefault(request_id, now)
        counts = result.as_numpy("num_output_tokens")
        if counts is not None:
            with self._changed:
                self._made[request_id] = int(counts[0])
                self._changed.notify()
