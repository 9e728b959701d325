"""The `generator` backend: text in, text out, one piece at a time; tensors as in Triton's vLLM backend.

Decoupled: `execute` hands requests to the engine and returns; a thread of the generator sends what comes.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from trireme.artifacts.config_writer import PARAMETERS
from trireme.artifacts.contracts import (
    ADAPTERS,
    CACHED_FLAG,
    INDEX,
    LOGPROBS,
    REASONING,
    REASONING_FLAG,
    TOOL_CALLS,
    TOOL_CALLS_FLAG,
)
from trireme.artifacts.manifest import read_manifest, verify_files
from trireme.errors import InvalidInputError, SettingError, TriremeError
from trireme.generate.chat import ChatTemplate
from trireme.generate.engine import EngineOptions
from trireme.generate.messages import parse_messages, parse_tools
from trireme.generate.model_files import read_eos_token_ids
from trireme.generate.pieces import Piece
from trireme.generate.registry import open_engine
from trireme.generate.sampling import parse_parameters
from trireme.generate.service import GenerateRequest, Generator, ServiceOptions
from trireme.generate.tokenizer import LlmTokenizer
from trireme.generate.tool_choice import NONE, ToolChoice, hold_to_choice, parse_tool_choice
from trireme.triton.backends.client_watch import Client, ClientWatch
from trireme.triton.backends.config import ModelConfig
from trireme.triton.backends.generator_metrics import GeneratorMetrics
from trireme.triton.backends.llm_spans import llm_facts, llm_spans
from trireme.triton.backends.model import BackendModel
from trireme.triton.backends.reply import INTERNAL
from trireme.triton.backends.signals import WorkSource
from trireme.triton.backends.tensors import read_scalar
from trireme.triton.backends.traced import NOBODY, Asked
from trireme.types import DEFAULT_TENANT

CANCEL_PARAMETER = "cancel"
# Of a request that only wants to know how many tokens its prompt has.
COUNT_PARAMETER = "count_tokens"
# Request parameters that begin so are Triton's or the gateway's, for logs and traces.
FOREIGN_PREFIXES = ("triton_", "trireme_")
# A request id that may be named in a cancel must not be one that others can guess.
MIN_CANCEL_ID = 32
MAX_TENANT = 512


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which outputs a request asked for. `prefix` goes before the text."""

    prefix: str = ""
    finish_reason: bool = False
    input_tokens: bool = False
    output_tokens: bool = False
    cached_tokens: bool = False
    logprobs: bool = False
    index: bool = False
    tool_calls: bool = False
    reasoning: bool = False


@dataclass(slots=True, eq=False)
class _OpenRequest:
    """One open request, and how many of its answers have not ended. `ids`: the generator's, as it accepts them."""

    client: Client
    triton_id: str
    wanted: Wanted
    asked: Asked = NOBODY
    began: float = 0.0
    left: int = 1
    ids: list[str] = field(default_factory=list)
    output_tokens: int = 0
    is_over: bool = False


class GeneratorModel(BackendModel):
    """One engine behind Triton. Every request ends with exactly one final response."""

    known_parameters = frozenset(PARAMETERS["generator"])

    def load(self, config: ModelConfig) -> None:
        manifest = read_manifest(config.version_dir)
        verify_files(config.version_dir, manifest)
        tokenizer = LlmTokenizer.load(config.version_dir)
        template = ChatTemplate.load(config.version_dir, tokenizer)
        options = EngineOptions(
            model_dir=config.version_dir,
            # Our parent is tritonserver.
            owner_pid=os.getppid(),
            eos_token_ids=read_eos_token_ids(config.version_dir),
            max_model_len=manifest.max_length,
            max_num_seqs=config.read_int("max_num_seqs"),
            max_num_batched_tokens=config.read_int("max_num_batched_tokens"),
            max_waiting=config.read_int("max_waiting"),
            prefix_caching=config.read_flag("prefix_caching"),
            kv_cache_gb=config.read_number("kv_cache_gb"),
            gpu_memory_utilization=config.read_number("gpu_memory_utilization"),
            tensor_parallel_size=config.read_int("tensor_parallel_size"),
            device_id=config.device_id,
            threads=config.read_int("threads"),
            adapters=tuple(manifest.adapters),
            adapter_rank=max(manifest.adapters.values(), default=0),
        )
        _check_adapters(config, options.adapters)
        service = ServiceOptions(
            max_model_len=manifest.max_length,
            max_text_bytes=config.read_int("max_text_bytes"),
            chat_text_input=config.read_flag("chat_text_input"),
            max_num_batched_tokens=options.max_num_batched_tokens,
            max_num_seqs=options.max_num_seqs,
            # Configurations written before it was there do not say it.
            tool_parser=config.parameters.get("tool_parser", ""),
        )
        self._default_max_tokens = config.read_int("default_max_tokens")
        self._has_logprobs, self._has_index = LOGPROBS in config.outputs, INDEX in config.outputs
        engine = open_engine(config.read_text("engine"), options)
        self._generator = Generator(engine, tokenizer, template, service)
        self._generator.warm_up(is_short=not self.may_warm_up)
        self._generator_metrics = GeneratorMetrics(self.metrics, self._generator)
        self._open: dict[int, _OpenRequest] = {}
        self._lock = threading.Lock()
        self._watch = ClientWatch()

    def is_ready(self) -> bool:
        return self._generator.is_ready()

    def close(self) -> None:
        self._watch.close()
        self._generator.close()
        self._generator_metrics.close()

    def work_source(self) -> WorkSource:
        """See BackendModel. The unit is an output token; Triton hands requests over at once."""
        generator = self._generator
        work = generator.work
        return WorkSource(
            generator.work_totals,
            work.rate,
            generator.waiting,
            input_token_work=lambda: work.input_token_work,
        )

    def execute(self, requests: list[Any]) -> None:
        """Accepts each request or sends its error; never raises, returns before there is an answer."""
        for request in requests:
            client, asked = Client(request.get_response_sender()), self.replies.read(request)
            try:
                self._start(request, client, asked)
            except TriremeError as error:
                self._send(client, self.replies.error_response(error), is_last=True)
                self.replies.note(asked, error.code, 0.0)
            except Exception:
                self._send(client, self.replies.error_response(self.replies.unexpected()), is_last=True)
                self.replies.note(asked, INTERNAL, 0.0)

    def _start(self, request: Any, client: Client, who: Asked) -> None:
        parameters = _read_parameters(request)
        if CANCEL_PARAMETER in parameters:
            self._cancel_by_id(str(parameters[CANCEL_PARAMETER]))
            wanted = Wanted(finish_reason=self._flag(request, "return_finish_reason"))
            response = self.pb.InferenceResponse(self._tensors(Piece(finish_reason="cancelled"), wanted))
            self._send(client, response, is_last=True)
            return
        is_count = _read_flag(parameters, COUNT_PARAMETER)
        asked, wanted = self._read(request, parameters)
        if is_count:
            self._count(asked, wanted, client)
            return
        count = asked.parameters.n
        opened = _OpenRequest(client, request.request_id(), wanted, who, time.monotonic(), count)
        with self._lock:
            self._open[id(opened)] = opened
        # Also what still waits or makes no token now.
        self._watch.add(opened, client.is_gone, lambda: self._cancel(opened))
        try:
            for index in range(count):
                one = replace(asked, parameters=asked.parameters.of_answer(index))
                opened.ids.append(self._generator.accept(one, partial(self._deliver, opened, index)))
        except Exception:
            # What was accepted of it before has no receiver any more.
            opened.is_over = True
            self._forget(opened)
            self._cancel(opened)
            raise
        if opened.is_over:
            # One of its answers failed while the others were accepted.
            self._cancel(opened)

    def _count(self, asked: GenerateRequest, wanted: Wanted, client: Client) -> None:
        """Answers at once, without the engine."""
        piece = Piece(finish_reason="stop", input_tokens=self._generator.count_tokens(asked))
        wanted = replace(wanted, prefix="", finish_reason=True, input_tokens=True)
        self._send(client, self.pb.InferenceResponse(self._tensors(piece, wanted)), is_last=True)

    def _read(self, request: Any, parameters: dict[str, Any]) -> tuple[GenerateRequest, Wanted]:
        text = read_scalar(self.pb, request, "text_input")
        messages = read_scalar(self.pb, request, "messages")
        if (text is None) == (messages is None):
            raise InvalidInputError("send text_input or messages: one of them, not both")
        stream = self._flag(request, "stream")
        exclude = read_scalar(self.pb, request, "exclude_input_in_output")
        if exclude is False and (stream or text is None):
            raise InvalidInputError(
                "exclude_input_in_output can be false only for text_input that is not streamed"
            )
        sampling = read_scalar(self.pb, request, "sampling_parameters")
        if sampling is None:
            # The generate endpoint passes what is no tensor as request parameters.
            sampling = json.dumps({k: v for k, v in parameters.items() if not k.startswith(FOREIGN_PREFIXES)})
        tenant = read_scalar(self.pb, request, "tenant")
        if tenant is not None and not 1 <= len(tenant) <= MAX_TENANT:
            raise InvalidInputError(f"tenant must have 1 to {MAX_TENANT} characters, got {len(tenant)}")
        tools, choice = self._read_tools(request)
        read = parse_parameters(sampling, self._default_max_tokens)
        asked = GenerateRequest(
            parameters=replace(read, sampling=hold_to_choice(read.sampling, choice, tools)),
            text=text,
            messages=None if messages is None else parse_messages(messages),
            tools=() if choice.mode == NONE else tools,
            stream=stream,
            tenant=tenant or DEFAULT_TENANT,
            wants_calls=self._flag(request, TOOL_CALLS_FLAG),
            choice=choice,
            wants_reasoning=self._flag(request, REASONING_FLAG),
        )
        wanted = Wanted(
            prefix=text if text is not None and not stream and not exclude else "",
            finish_reason=self._flag(request, "return_finish_reason"),
            input_tokens=self._flag(request, "return_num_input_tokens"),
            output_tokens=self._flag(request, "return_num_output_tokens"),
            cached_tokens=self._flag(request, CACHED_FLAG),
            logprobs=asked.parameters.sampling.logprobs is not None,
            index=asked.parameters.n > 1,
            tool_calls=asked.wants_calls,
            reasoning=asked.wants_reasoning,
        )
        if wanted.index and not self._has_index:
            raise InvalidInputError(f"n: config.pbtxt lacks the output {INDEX}; write it again")
        if wanted.logprobs and not self._has_logprobs:
            raise InvalidInputError(f"logprobs: config.pbtxt lacks the output {LOGPROBS}; write it again")
        return asked, wanted

    def _read_tools(self, request: Any) -> tuple[tuple[dict[str, Any], ...], ToolChoice]:
        tools = parse_tools(read_scalar(self.pb, request, "tools") or "")
        choice = parse_tool_choice(read_scalar(self.pb, request, "tool_choice") or "", tools)
        if choice.is_forced and not self._flag(request, TOOL_CALLS_FLAG):
            raise InvalidInputError(f"tool_choice: a call that must be made goes with {TOOL_CALLS_FLAG}")
        return tools, choice

    def _flag(self, request: Any, name: str) -> bool:
        return bool(read_scalar(self.pb, request, name))

    def _deliver(self, opened: _OpenRequest, index: int, piece: Piece) -> None:
        """Called by the generator's thread."""
        if opened.is_over:
            return
        opened.left -= piece.is_last
        is_last = piece.error is not None or opened.left == 0
        try:
            if piece.error is not None:
                response = self.replies.error_response(piece.error)
            else:
                response = self.pb.InferenceResponse(self._tensors(piece, opened.wanted, index))
        except Exception:
            response, is_last = self.replies.error_response(self.replies.unexpected()), True
        if is_last:
            opened.is_over = True
            self._forget(opened)
            if opened.left or not piece.is_last:
                self._cancel(opened)
        self._send(opened.client, response, is_last=is_last)
        if piece.is_last:
            opened.output_tokens += piece.output_tokens
            self._record(opened, piece)
        if is_last:
            outcome = piece.error.code if piece.error is not None else piece.finish_reason or INTERNAL
            seconds = time.monotonic() - opened.began
            facts = llm_facts(replace(piece, output_tokens=opened.output_tokens))
            self.replies.note(opened.asked, outcome, seconds, is_long=True, attributes=facts)

    def _cancel(self, opened: _OpenRequest) -> None:
        for request_id in list(opened.ids):
            self._generator.cancel(request_id)

    def _record(self, opened: _OpenRequest, piece: Piece) -> None:
        if opened.asked.span and piece.times is not None:
            for span in llm_spans(opened.asked, piece.times):
                self.spans.put(span)

    def _tensors(self, piece: Piece, wanted: Wanted, index: int = 0) -> list[Any]:
        tensors = [self._strings("text_output", wanted.prefix + piece.text)]
        if wanted.finish_reason:
            tensors.append(self._strings("finish_reason", piece.finish_reason))
        if wanted.input_tokens and piece.is_last:
            tensors.append(self.pb.Tensor("num_input_tokens", np.array([piece.input_tokens], np.uint32)))
        if wanted.output_tokens and piece.is_last:
            tensors.append(self.pb.Tensor("num_output_tokens", np.array([piece.output_tokens], np.uint32)))
        if wanted.logprobs:
            entries = [one.as_json() for one in piece.logprobs]
            tensors.append(self._strings(LOGPROBS, json.dumps(entries)))
        if wanted.index:
            tensors.append(self.pb.Tensor(INDEX, np.array([index], np.uint32)))
        if wanted.reasoning and piece.reasoning:
            tensors.append(self._strings(REASONING, piece.reasoning))
        if wanted.tool_calls and piece.tool_calls:
            tensors.append(self._strings(TOOL_CALLS, json.dumps([one.as_json() for one in piece.tool_calls])))
        if wanted.cached_tokens and piece.is_last and piece.cached_tokens is not None:
            tensors.append(self.pb.Tensor("num_cached_tokens", np.array([piece.cached_tokens], np.uint32)))
        return tensors

    def _strings(self, name: str, text: str) -> Any:
        return self.pb.Tensor(name, np.array([text.encode()], dtype=object))

    def _send(self, client: Client, response: Any, *, is_last: bool) -> None:
        flags = self.pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL if is_last else 0
        client.send(response, flags, is_last=is_last)

    def _cancel_by_id(self, triton_id: str) -> None:
        if len(triton_id) < MIN_CANCEL_ID:
            raise InvalidInputError(
                f"cancel takes a request id of at least {MIN_CANCEL_ID} characters, such as a UUID's hex digits"
            )
        with self._lock:
            found = [opened for opened in self._open.values() if opened.triton_id == triton_id]
        for opened in found:
            self._cancel(opened)

    def _forget(self, opened: _OpenRequest) -> None:
        self._watch.remove(opened)
        with self._lock:
            self._open.pop(id(opened), None)


def _check_adapters(config: ModelConfig, built: tuple[str, ...]) -> None:
    """Raises SettingError where config.pbtxt, which clients are told of, names others than were built."""
    named = tuple(filter(None, config.parameters.get(ADAPTERS, "").split(",")))
    if named != built:
        raise SettingError(
            f"config.pbtxt of model {config.name} names the adapters {', '.join(named) or 'none'}, its build has"
            f" {', '.join(built) or 'none'}: build the model again"
        )


def _read_parameters(request: Any) -> dict[str, Any]:
    """The parameters of a request. Raises InvalidInputError for what is not UTF-8."""
    try:
        parameters: dict[str, Any] = json.loads(request.parameters() or "{}")
    except (UnicodeDecodeError, ValueError):
        raise InvalidInputError("a parameter of the request is not valid UTF-8; send UTF-8") from None
    return parameters


def _read_flag(parameters: dict[str, Any], name: str) -> bool:
    """Takes the parameter `name` out; false where it is not there. Raises InvalidInputError for another value."""
    value = parameters.pop(name, False)
    flag = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise InvalidInputError(f"{name} must be true or false, got {value!r:.40}")
    return flag
