"""The `rag` backend: a question in, an answer with citations out, streamed."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from trireme.artifacts.config_writer import PARAMETERS
from trireme.artifacts.contracts import EVIDENCE, EVIDENCE_FLAG, PROMPT, PROMPT_FLAG, RERANK_DEPTH
from trireme.errors import InvalidInputError, SettingError, TriremeError, UnavailableError
from trireme.observe.spans import SpanValue
from trireme.observe.work import Waiting
from trireme.rag.answer import answer
from trireme.rag.ports import ANSWER_MODES, AnswerOptions, AnswerPart, Question, Usage
from trireme.rag.prompt import PROMPT_FILE, read_prompt
from trireme.rag.relevance import RELEVANCE_FILE, read_relevance
from trireme.settings import read_settings
from trireme.triton.backends.client_watch import Client, ClientWatch
from trireme.triton.backends.config import ModelConfig
from trireme.triton.backends.model import BackendModel
from trireme.triton.backends.own_port import OwnPort
from trireme.triton.backends.rag_steps import GoneError, StepNames, TritonSteps
from trireme.triton.backends.reply import INTERNAL
from trireme.triton.backends.signals import WorkSource
from trireme.triton.backends.stages import GONE, Stages
from trireme.triton.backends.tensors import read_scalar, read_top_k
from trireme.triton.backends.traced import Asked
from trireme.triton.wire import own_address

# Answers in the making, each in a thread that mostly waits; and those that may wait for a thread.
MAX_RUNNING = 64
MAX_WAITING = 256


@dataclass(frozen=True, slots=True)
class RagRequest:
    """One request as it was sent. `sampling_parameters` is JSON for the LLM, with our defaults in it.

    asks_evidence, asks_prompt: for the outputs of these names.
    """

    question: Question
    stream: bool
    sampling_parameters: str
    asks_evidence: bool = False
    asks_prompt: bool = False


class RagModel(BackendModel):
    """Answers each request in a thread of its own, so that none waits for another's LLM."""

    known_parameters = frozenset(PARAMETERS["rag"])

    def load(self, config: ModelConfig) -> None:
        settings = read_settings()
        self._tenant, self._collection = settings.tenant, settings.collection
        self._names = StepNames(*config.read_text("steps").split(","))
        self._default_top_k = config.read_int("default_top_k")
        self._max_top_k = config.read_int("max_top_k")
        self._default_max_tokens = config.read_int("default_max_tokens")
        self._options = AnswerOptions(
            context_passages=config.read_int("context_passages"),
            extractive_threshold=_read_float(config, "extractive_threshold"),
            relevance_threshold=_read_float(config, "relevance_threshold"),
            relevance=read_relevance(config.version_dir.parent / RELEVANCE_FILE),
        )
        self._template = read_prompt(config.version_dir.parent / PROMPT_FILE)
        self._waiting, self._lock = 0, threading.Lock()
        self._places = threading.BoundedSemaphore(MAX_RUNNING + MAX_WAITING)
        self._port = OwnPort(own_address(settings.host, settings.grpc_port))
        self._watch = ClientWatch()
        self._threads = ThreadPoolExecutor(MAX_RUNNING, thread_name_prefix="rag")

    def close(self) -> None:
        self._port.close()
        self._threads.shutdown(cancel_futures=True)
        self._watch.close()

    def is_ready(self) -> bool:
        return self._port.is_ready()

    def execute(self, requests: list[Any]) -> None:
        """Takes the requests and returns at once; their answers come from threads."""
        for request in requests:
            client = Client(request.get_response_sender())
            who = self.replies.read(request)
            try:
                asked = self._read(request)
                has_place = self._places.acquire(blocking=False)
                self.work.offer(1.0, is_refused=not has_place)
                if not has_place:
                    raise UnavailableError(
                        f"{MAX_RUNNING} answers are in the making and {MAX_WAITING} wait; try again later"
                    )
            except TriremeError as error:
                self._send_error(client, error)
                self.replies.note(who, error.code, 0.0)
            except Exception:
                self._send_error(client, self.replies.unexpected())
                self.replies.note(who, INTERNAL, 0.0)
            else:
                with self._lock:
                    self._waiting += 1
                self._threads.submit(self._answer, asked, client, time.monotonic(), who)

    def work_source(self) -> WorkSource:
        """See BackendModel. The unit is an answer; the rate is all threads over the seconds of an answer."""
        return WorkSource(self.work.totals, self.rate, lambda: Waiting(self._waiting, float(self._waiting)))

    def _read(self, request: Any) -> RagRequest:
        def read(name: str) -> Any:
            return read_scalar(self.pb, request, name)

        text = read("text_input")
        if not str(text or "").strip():
            raise InvalidInputError("text_input is empty; send a question")
        mode: Any = read("answer_mode") or "auto"
        if mode not in ANSWER_MODES:
            raise InvalidInputError(f"answer_mode must be one of {', '.join(ANSWER_MODES)}, got {mode!r}")
        tenant, collection = read("tenant"), read("collection")
        question = Question(
            text=text,
            mode=mode,
            top_k=read_top_k(read("top_k"), self._default_top_k, self._max_top_k),
            rerank_depth=_read_depth(read(RERANK_DEPTH)),
            tenant=self._tenant if tenant is None else tenant,
            collection=self._collection if collection is None else collection,
        )
        sampling = write_sampling(read("sampling_parameters"), self._default_max_tokens)
        flags = bool(read(EVIDENCE_FLAG)), bool(read(PROMPT_FLAG))
        return RagRequest(question, bool(read("stream")), sampling, *flags)

    def _answer(self, asked: RagRequest, client: Client, came: float, who: Asked) -> None:
        """One request from its first step to its last response. Never raises."""
        began = time.monotonic()
        with self._lock:
            self._waiting -= 1
        self.work.wait(began - came)
        outcome, stages = "ok", Stages(who, self.spans)
        facts: dict[str, SpanValue] = {}
        try:
            steps = TritonSteps(
                self.pb,
                self._names,
                sampling_parameters=asked.sampling_parameters,
                tenant=asked.question.tenant,
                is_gone=client.is_gone,
                watch=self._watch,
                port=self._port,
                stages=stages,
            )
            parts = answer(
                asked.question,
                steps,
                self._options,
                self._template,
                asks_prompt=asked.asks_prompt,
                stage=stages.stage,
            )
            with closing(parts):
                facts = self._send_parts(asked, parts, client)
        except GoneError:
            outcome = GONE
            client.send(None, self.pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL, is_last=True)
        except TriremeError as error:
            outcome = error.code
            self._send_error(client, error)
        except Exception:
            outcome = INTERNAL
            self._send_error(client, self.replies.unexpected())
        finally:
            seconds = time.monotonic() - came
            self.replies.note(who, outcome, seconds, is_long=True, attributes=facts)
            self._places.release()
            self.rate.add(MAX_RUNNING, time.monotonic() - began)

    def _send_parts(
        self, asked: RagRequest, parts: Iterator[AnswerPart], client: Client
    ) -> dict[str, SpanValue]:
        """Sends them; what the answer's span says of it."""
        facts: dict[str, SpanValue] = {}
        said: list[str] = []
        prompt: tuple[Mapping[str, str], ...] = ()
        for part in parts:
            if client.is_gone():
                raise GoneError
            said.append(part.text)
            prompt = prompt or part.prompt
            facts = facts if part.usage is None else _facts_of(part.usage)
            if asked.stream:
                evidence = part.evidence if asked.asks_evidence else None
                self._send(client, dataclasses.replace(part, evidence=evidence))
            elif part.usage is not None:
                self._send(client, dataclasses.replace(part, text="".join(said), prompt=prompt))
        return facts

    def _send(self, client: Client, part: AnswerPart) -> None:
        tensors = [self._tensor("text_output", part.text)]
        is_last = part.usage is not None
        if part.usage is not None:
            citations = [dataclasses.asdict(citation) for citation in part.citations]
            tensors += [
                self._tensor("citations", json.dumps(citations, ensure_ascii=False)),
                self._tensor("usage", json.dumps(dataclasses.asdict(part.usage))),
                self._tensor("finish_reason", part.finish_reason),
            ]
        if part.evidence is not None:
            tensors.append(self._tensor(EVIDENCE, json.dumps(dataclasses.asdict(part.evidence))))
        if part.prompt:
            tensors.append(self._tensor(PROMPT, json.dumps(part.prompt, ensure_ascii=False)))
        flags = self.pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL if is_last else 0
        client.send(self.pb.InferenceResponse(output_tensors=tensors), flags, is_last=is_last)

    def _send_error(self, client: Client, error: TriremeError) -> None:
        response = self.replies.error_response(error)
        client.send(response, self.pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL, is_last=True)

    def _tensor(self, name: str, text: str) -> Any:
        return self.pb.Tensor(name, np.array([text.encode()], dtype=object))


def write_sampling(text: str | None, max_tokens: int) -> str:
    """The request's sampling parameters as JSON with the defaults of an answer: greedy, `max_tokens` long.

    Raises InvalidInputError for what is not a JSON object; the generator checks the keys.
    """
    try:
        given = json.loads(text or "{}")
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise InvalidInputError('sampling_parameters must be a JSON object, such as {"max_tokens": 64}')
    for key, usual in (
        ("n", (1, "1")),
        ("response_format", ({"type": "text"},)),
        ("structured_outputs", ({},)),
    ):
        if given.get(key) is not None and given[key] not in usual:
            raise InvalidInputError(
                f"{key}: an answer from passages is one text with citations; leave it out"
            )
    return json.dumps({"max_tokens": max_tokens, "temperature": 0, **given})


def _facts_of(usage: Usage) -> dict[str, SpanValue]:
    """Figures of an answer, no words of it."""
    said: dict[str, SpanValue] = {
        "trireme.answer_mode": usage.answer_mode,
        "trireme.passages": usage.passages,
        "trireme.sentences": usage.sentences,
        "trireme.context_passages": usage.context_passages,
        "trireme.grounded": usage.grounded,
    }
    if usage.second_opinion:
        said["trireme.second_opinion"] = usage.second_opinion
    return said


def _read_depth(depth: int | None) -> int | None:
    if depth is not None and depth < 0:
        raise InvalidInputError(f"{RERANK_DEPTH} must be at least 0, got {depth}")
    return depth


def _read_float(config: ModelConfig, key: str) -> float:
    raw = config.read_text(key)
    try:
        return float(raw)
    except ValueError:
        raise SettingError(f"parameter {key} of model {config.name} must be a number, got {raw!r}") from None
