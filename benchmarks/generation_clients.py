"""Two ways to the same model: OpenVINO GenAI's pipeline called directly, and tritonserver through gRPC."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trireme.errors import TriremeError
from trireme.generate.engine import EngineOptions
from trireme.generate.openvino import count_blocks
from trireme.generate.openvino_properties import compile_properties

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


class DirectPipeline:
    """ContinuousBatchingPipeline in this process, stepped in a loop: as fast as the library goes."""

    def __init__(self, options: EngineOptions) -> None:
        import openvino
        import openvino_genai as genai

        properties = compile_properties(options.threads)
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = count_blocks(options, str(properties["KV_CACHE_PRECISION"]))
        scheduler.enable_prefix_caching = options.prefix_caching
        scheduler.max_num_seqs = options.max_num_seqs
        scheduler.max_num_batched_tokens = options.max_num_batched_tokens
        self._openvino: Any = openvino
        self._genai: Any = genai
        self._pipeline = genai.ContinuousBatchingPipeline(
            str(options.model_dir), scheduler, "CPU", properties
        )
        self._count = 0

    def run(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Run:
        """All prompts at once, greedy, exactly `max_tokens` tokens each. Blocks."""
        config = self._genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos = max_tokens, False, True
        began = time.perf_counter()
        handles = []
        for prompt in prompts:
            self._count += 1
            tokens = self._openvino.Tensor(np.array([prompt], np.int64))
            handles.append(self._pipeline.add_request(self._count, tokens, config))
        first: dict[int, float] = {}
        made = 0
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            for number, handle in enumerate(handles):
                while handle.can_read():
                    for output in handle.read().values():
                        made += len(output.generated_ids)
                        first.setdefault(number, time.perf_counter() - began)
        return Run(made, time.perf_counter() - began, float(np.median(list(first.values()))))


class ServedModel:
    """The same model behind tritonserver, every request streamed over one gRPC connection."""

    def __init__(self, url: str, model: str) -> None:
        from tritonclient import grpc

        self._grpc: Any = grpc
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
        tensors = [self._inputs(text, sampling) for text in texts]
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

    def _inputs(self, text: str, sampling: str) -> list[Any]:
        values = {
            "text_input": (np.array([text.encode()], dtype=object), "BYTES"),
            "sampling_parameters": (np.array([sampling.encode()], dtype=object), "BYTES"),
            "stream": (np.array([True]), "BOOL"),
            "return_num_output_tokens": (np.array([True]), "BOOL"),
        }
        tensors = []
        for name, (array, datatype) in values.items():
            tensor = self._grpc.InferInput(name, [1], datatype)
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        return tensors

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
