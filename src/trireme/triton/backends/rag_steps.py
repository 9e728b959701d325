"""The steps of an answer as requests to the server's other models: BLS, and a stream of the LLM."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from trireme.artifacts.contracts import CACHED_FLAG
from trireme.errors import TriremeError
from trireme.observe.spans import NoSpans
from trireme.rag.ports import Generated, Question
from trireme.triton.backends.bls import call_model
from trireme.triton.backends.client_watch import ClientWatch
from trireme.triton.backends.own_port import OwnPort
from trireme.triton.backends.stages import Stages
from trireme.triton.backends.tensors import float_tensor, string_tensor
from trireme.triton.backends.traced import NOBODY
from trireme.triton.calls import read_logprobs
from trireme.triton.wire import Outputs, Value
from trireme.types import Embedding, FloatArray, Hit

# Of a log-probability in the usage: there may be hundreds.
LOGPROB_DIGITS = 4


_NOBODYS = Stages(NOBODY, NoSpans())


class GoneError(Exception):
    """The client has gone away: nobody reads the answer. Never leaves the backend."""


@dataclass(frozen=True, slots=True)
class StepNames:
    """Which model is which step."""

    embedder: str
    retriever: str
    reranker: str
    generator: str


class TritonSteps:
    """The steps of one request. Blocks the calling thread; raises GoneError where the client went away.

    A model's error comes back with its code and the model's name in front.
    """

    def __init__(
        self,
        pb: Any,
        names: StepNames,
        *,
        sampling_parameters: str,
        tenant: str,
        is_gone: Callable[[], bool],
        watch: ClientWatch,
        port: OwnPort,
        stages: Stages = _NOBODYS,
    ) -> None:
        """sampling_parameters: JSON for the LLM, which is asked over `port`. stages: whom the steps are for."""
        self._stages = stages
        self._pb = pb
        self._names = names
        self._sampling_parameters = sampling_parameters
        self._tenant = tenant
        self._is_gone = is_gone
        self._watch = watch
        self._port = port

    def embed(self, question: str) -> Embedding:
        """See Steps.embed."""
        inputs = [self._row("text", question), self._row("input_type", "query")]
        wanted = ("embedding", "token_count", "truncated_tokens")
        found = self._call(self._names.embedder, inputs, wanted)
        tokens, cut = (int(found[name].reshape(-1)[0]) for name in wanted[1:])
        return Embedding(np.asarray(found["embedding"], np.float32).reshape(-1), tokens, cut)

    def retrieve(self, question: Question, vector: FloatArray) -> list[Hit]:
        """See Steps.retrieve."""
        inputs = [
            float_tensor(self._pb, "embedding", [vector]),
            self._row("query", question.text),
            self._pb.Tensor("top_k", np.array([[question.top_k]], np.int32)),
            self._row("collection", question.collection),
            self._row("tenant", question.tenant),
        ]
        found = self._call(self._names.retriever, inputs, ("id", "text", "metadata", "score"))
        columns = [
            [value.decode() for value in found[name].reshape(-1)] for name in ("id", "text", "metadata")
        ]
        scores = found["score"].reshape(-1).tolist()
        return [Hit(*row) for row in zip(*columns, scores, strict=True)]

    def rank(self, question: str, texts: Sequence[str], prior: FloatArray) -> FloatArray:
        """See Steps.rank."""
        inputs = [
            self._row("query", question),
            string_tensor(self._pb, "passages", [texts]),
            float_tensor(self._pb, "prior", [prior]),
        ]
        found = self._call(self._names.reranker, inputs, ("score",))
        return np.asarray(found["score"], np.float32).reshape(-1)

    def generate(self, messages: Sequence[dict[str, str]]) -> Generator[Generated, None, None]:
        """See Steps.generate. The LLM's request is ended when the client goes away or the generator is closed."""
        self._check_client()
        call = self._port.call(
            self._names.generator, self._llm_inputs(messages), self._stages.asked.parameters
        )
        responses = call.responses()
        with (
            self._watch.watching(lambda: self._is_gone() or call.is_silent(), call.end),
            closing(responses),
        ):
            for outputs in responses:
                yield _generated(outputs)
        self._check_client()

    def _llm_inputs(self, messages: Sequence[dict[str, str]]) -> dict[str, Value]:
        flags = ["stream", "return_finish_reason", "return_num_input_tokens", "return_num_output_tokens"]
        if CACHED_FLAG in self._port.inputs_of(self._names.generator):
            flags.append(CACHED_FLAG)
        return {
            "messages": json.dumps(list(messages), ensure_ascii=False),
            "sampling_parameters": self._sampling_parameters,
            "tenant": self._tenant,
            **dict.fromkeys(flags, True),
        }

    def _call(self, model: str, inputs: list[Any], outputs: Sequence[str]) -> Outputs:
        self._check_client()
        found = call_model(self._pb, model, inputs, outputs, self._stages.asked)
        if not found:
            raise TriremeError(
                f"model {model}: the server's response cache kept an error as an empty answer; change the question,"
                " or turn the cache off (TRIREME_RESPONSE_CACHE_BYTES=0)"
            )
        return found

    def _check_client(self) -> None:
        if self._is_gone():
            raise GoneError

    def _row(self, name: str, text: str) -> Any:
        """One text."""
        return string_tensor(self._pb, name, [[text]])


def _generated(outputs: Outputs) -> Generated:
    text = outputs["text_output"].reshape(-1)[0].decode() if "text_output" in outputs else ""
    reason = outputs["finish_reason"].reshape(-1)[0].decode() if "finish_reason" in outputs else ""
    counts = [
        int(outputs[name].reshape(-1)[0]) if name in outputs else None
        for name in ("num_input_tokens", "num_output_tokens", "num_cached_tokens")
    ]
    logprobs = tuple(round(float(entry["logprob"]), LOGPROB_DIGITS) for entry in read_logprobs(outputs))
    return Generated(text, reason, counts[0] or 0, counts[1] or 0, counts[2], logprobs)
