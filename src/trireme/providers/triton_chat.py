"""Chats with our own server: its generators and its rag models, over gRPC."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from trireme.artifacts.contracts import (
    CACHED_FLAG,
    EVIDENCE,
    EVIDENCE_FLAG,
    PROMPT,
    RERANK_DEPTH,
    TOOL_CALLS_FLAG,
    split_adapter,
)
from trireme.errors import (
    DeadlineError,
    InvalidInputError,
    NotFoundError,
    PromptTooLongError,
    TriremeError,
    UnavailableError,
    UnsupportedError,
)
from trireme.providers.abilities import ability_of
from trireme.providers.chat import (
    STRUCTURED,
    ChatCall,
    Event,
    Findings,
    Finished,
    FinishReason,
    Source,
    Sources,
    Started,
    Surface,
    TextDelta,
    ThinkingDelta,
    Usage,
    is_content,
)
from trireme.providers.logprobs import cut_entries
from trireme.providers.models import Ability, ServedModel
from trireme.providers.port import AttemptLimits, ProviderError, Remedy
from trireme.providers.triton_address import without_address
from trireme.providers.triton_choices import Choices
from trireme.providers.triton_faults import fault_of
from trireme.providers.triton_messages import (
    read_tool_calls,
    write_choice,
    write_messages,
    write_tools,
)
from trireme.triton import calls
from trireme.triton.async_client import AsyncTritonClient
from trireme.triton.wire import NoServerError, Outputs, Parameter, Value

# Request parameters of the gateway's own: backends take no notice of them, logs and traces do.
USER_PARAMETER = "trireme_user"
COUNT_PARAMETER = "count_tokens"
# The server ends the call so much later than we do: our own end says in words what was late.
GRACE_SECONDS = 0.5
_SAMPLING = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)
# The first row that fits. A parent stands behind its children.
_REMEDIES: tuple[tuple[type[TriremeError], Remedy, str], ...] = (
    (PromptTooLongError, "larger", "too_long"),
    (InvalidInputError, "give_up", "invalid"),
    (UnsupportedError, "give_up", "invalid"),
    (NotFoundError, "give_up", "not_found"),
    (DeadlineError, "next", "timeout"),
    (NoServerError, "next", "connect"),
    (UnavailableError, "again", "overloaded"),
)
_FIELD = re.compile(r"(tools|tool_choice|logprobs|response_format|structured_outputs|messages|stop)\b")
_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "tool_calls": "tool_use"}


class TritonChat:
    """See ChatProvider. Models of ability chat (generators) and answer (rag); each field is done or refused.

    A model may be named with one of its adapters, as MODEL:ADAPTER.
    """

    surfaces: tuple[Surface, ...] = ()

    def __init__(self, client: AsyncTritonClient) -> None:
        """Closes the client when it is closed."""
        self._client = client
        self._abilities: dict[str, Ability] = {}
        # Those that take the question for cached tokens, the one for findings, and how many passages are reranked.
        self._flagged: set[str] = set()
        self._finding: set[str] = set()
        self._deep: set[str] = set()
        self._alternatives: dict[str, int | None] = {}
        self._calling: set[str] = set()

    def learn(self, models: Sequence[ServedModel]) -> None:
        """What each model can do, in place of what was known: `find_fault` asks nobody."""
        self._abilities = {model.name: model.ability for model in models}
        self._flagged = {model.name for model in models if model.takes_cached_flag}
        self._finding = {model.name for model in models if model.says_findings}
        self._deep = {model.name for model in models if model.takes_rerank_depth}
        self._alternatives = {model.name: model.alternatives for model in models}
        self._calling = {model.name for model in models if model.takes_tools}

    def find_fault(self, call: ChatCall, model: str) -> str:
        """See ChatProvider. Of a model not learned yet only what no model of ours can do; `chat` finds the rest."""
        alternatives, takes_tools = self._alternatives.get(model), model in self._calling
        return fault_of(call, model, self._abilities.get(model), alternatives, takes_tools=takes_tools)

    async def chat(self, call: ChatCall, model: str, limits: AttemptLimits) -> AsyncGenerator[Event, None]:
        """See ChatProvider."""
        has_content = False
        try:
            ability = await self._check(call, model, limits.first)
            async with aclosing(self._events(call, model, ability, limits)) as events:
                async for event in events:
                    has_content = has_content or is_content(event)
                    yield event
        except TriremeError as error:
            raise provider_error(error, has_content=has_content) from None

    async def count_tokens(self, call: ChatCall, model: str) -> int:
        """See ChatProvider. Of a rag model nothing can be counted: its prompt holds what it finds."""
        try:
            if await self._check(call, model) == "answer":
                raise UnsupportedError(
                    f"the prompt of model {model!r} holds passages that it finds; count with the model that writes"
                )
            inputs = _prompt_inputs(call) | {"return_num_input_tokens": True}
            inputs["tenant"] = call.tenant
            parameters = {**_parameters(call), COUNT_PARAMETER: True}
            served = split_adapter(model)[0]
            async with aclosing(self._client.stream(served, inputs, parameters=parameters)) as responses:
                counts = [int(outputs["num_input_tokens"][0]) async for outputs in responses]
        except UnsupportedError:
            raise
        except TriremeError as error:
            raise provider_error(error, has_content=False) from None
        return counts[0]

    async def close(self) -> None:
        """See ChatProvider."""
        await self._client.close()

    async def _check(self, call: ChatCall, model: str, seconds: float = 0.0) -> Ability:
        """Raises ProviderError for what the model cannot do, and for a model that is not there."""
        if model not in self._abilities:
            self._abilities[model] = await self._ask_ability(model, seconds)
        if fault := self.find_fault(call, model):
            # Found late, of a model that nobody had told of: another target may do it.
            raise ProviderError(fault, "next", "invalid")
        return self._abilities[model]

    async def _ask_ability(self, model: str, seconds: float) -> Ability:
        served, adapter = split_adapter(model)
        try:
            facts = await self._client.read_facts(served, seconds)
            is_there = adapter in facts.adapters if adapter else served == model
            ability = ability_of(served, facts.kind, facts.inputs) if is_there else None
        except NotFoundError:
            ability = None
        if ability is None:
            # Unlike a collection, another target may have what is meant.
            raise ProviderError(f"no model {model[:80]!r} is served here", "next", "not_found")
        if CACHED_FLAG in facts.inputs:
            self._flagged.add(model)
        if EVIDENCE_FLAG in facts.inputs:
            self._finding.add(model)
        if RERANK_DEPTH in facts.inputs:
            self._deep.add(model)
        if TOOL_CALLS_FLAG in facts.inputs:
            self._calling.add(model)
        self._alternatives[model] = facts.alternatives
        return ability

    async def _events(
        self, call: ChatCall, model: str, ability: Ability, limits: AttemptLimits
    ) -> AsyncGenerator[Event, None]:
        is_answer = ability == "answer"
        served, adapter = split_adapter(model)
        if is_answer:
            takes_depth = model in self._deep
            inputs = _answer_inputs(call, says_findings=model in self._finding, takes_depth=takes_depth)
        else:
            inputs = _generate_inputs(
                call, adapter, asks_cached=model in self._flagged, asks_parts=model in self._calling
            )
        read = _read_answer if is_answer else _read_generated
        patience = _Patience(limits)
        stream = self._client.stream(
            served,
            inputs,
            parameters=_parameters(call),
            patience=patience.seconds_left,
            seconds=limits.total + GRACE_SECONDS,
        )
        choices = Choices(call.choices)
        try:
            async with aclosing(stream) as responses:
                async for outputs in responses:
                    if not patience.has_begun:
                        patience.has_begun = True
                        yield Started(model)
                    for event in choices.read(read(outputs, call)):
                        yield event
        except DeadlineError:
            if not patience.is_last:
                raise
            raise DeadlineError(f"model {model} did not end its answer within {limits.total:.0f} s") from None
        if not choices.have_ended:
            raise ProviderError(f"model {model} ended its answer without a reason", "again", "cut")


class _Patience:
    """How long the next part of one answer may take."""

    def __init__(self, limits: AttemptLimits) -> None:
        self._limits = limits
        self._end = time.monotonic() + limits.total
        self.has_begun = False
        # Whether it is the time of the whole answer that ends first.
        self.is_last = False

    def seconds_left(self) -> float:
        """From now on; 0 once the time of the whole answer is over."""
        part = self._limits.between if self.has_begun else self._limits.first
        whole = max(0.0, self._end - time.monotonic())
        self.is_last = whole <= part
        return min(part, whole)


def provider_error(error: TriremeError, *, has_content: bool) -> ProviderError:
    """What our server's error means for the attempt. has_content: a part of the answer was there before it."""
    if isinstance(error, ProviderError):
        return error
    text = without_address(str(error)) if isinstance(error, UnavailableError) else str(error)
    for kind_of_error, remedy, kind in _REMEDIES:
        if isinstance(error, kind_of_error):
            found = ProviderError(text, remedy, "cut" if has_content and kind == "overloaded" else kind)
            # Where it names a field, it begins with it.
            named = _FIELD.match(text) if kind == "invalid" else None
            found.param = named[1] if named else ""
            return found
    return ProviderError(text, "next", "internal")


def _parameters(call: ChatCall) -> dict[str, Parameter]:
    return {USER_PARAMETER: call.user} if call.user else {}


def _generate_inputs(
    call: ChatCall, adapter: str, *, asks_cached: bool, asks_parts: bool
) -> dict[str, Value]:
    prompt: Any = call.prompt if call.prompt is not None else write_messages(call.messages)
    sampling = _sampling(call)
    if call.stop:
        # Nothing else says which one was found.
        sampling["include_stop_str_in_output"] = True
    if adapter:
        sampling["lora_name"] = adapter
    return calls.generate_inputs(
        prompt,
        call.tenant,
        sampling,
        stream=call.stream,
        asks_cached=asks_cached,
        tools=write_tools(call),
        tool_choice=write_choice(call),
        # Log-probabilities go with the whole text. A prompt's text is as the model writes it.
        asks_parts=asks_parts and call.prompt is None and (call.logprobs is None or bool(call.tools)),
    )


def _answer_inputs(call: ChatCall, *, says_findings: bool, takes_depth: bool) -> dict[str, Value]:
    mode: Any = call.eased_mode or call.answer_mode
    return calls.ask_inputs(
        call.messages[0].text,
        mode=mode,
        top_k=call.passages,
        tenant=call.tenant,
        collection=call.collection or call.default_collection or None,
        sampling=_sampling(call),
        stream=call.stream,
        asks_evidence=call.asks_evidence and says_findings,
        asks_prompt=call.asks_prompt and says_findings,
        rerank_depth=call.rerank_depth if takes_depth else None,
    )


def _prompt_inputs(call: ChatCall) -> dict[str, Value]:
    if call.prompt is not None:
        return {"text_input": call.prompt}
    inputs: dict[str, Value] = {"messages": json.dumps(write_messages(call.messages))}
    if tools := write_tools(call):
        inputs["tools"] = json.dumps(tools)
    return inputs


def _sampling(call: ChatCall) -> dict[str, Any]:
    given = {name: getattr(call, name) for name in _SAMPLING}
    sampling = {name: value for name, value in given.items() if value is not None}
    if call.logprobs is not None:
        sampling |= {"logprobs": True, "top_logprobs": call.logprobs}
    if call.choices > 1:
        sampling["n"] = call.choices
    form = call.response_format
    if form is not None:
        is_vllms = form.get("type") == STRUCTURED
        sampling |= {STRUCTURED: form[STRUCTURED]} if is_vllms else {"response_format": form}
    return {**sampling, "stop": list(call.stop)} if call.stop else sampling


def _read_generated(outputs: Outputs, call: ChatCall) -> list[Event]:
    part = calls.read_generated(outputs)
    # A stop string is held back until it is whole: it ends the last part, and an answer ends with none by chance.
    # It may stand in the reasoning of an answer that came to nothing else.
    said = part.text or part.reasoning
    ended = [stop for stop in call.stop if part.finish_reason == "stop" and said.endswith(stop)]
    stop = max(ended, key=len, default="")
    text = part.text.removesuffix(stop)
    reasoning = part.reasoning if part.text else part.reasoning.removesuffix(stop)
    entries = cut_entries(part.logprobs, text) if stop else part.logprobs
    events: list[Event] = [ThinkingDelta(reasoning, choice=part.index)] if reasoning else []
    if text or entries:
        events.append(TextDelta(text, part.index, entries))
    only_first = call.parallel_tool_calls is False
    events += read_tool_calls(part.tool_calls, choice=part.index, only_first=only_first)
    if part.finish_reason:
        events.append(Usage(part.input_tokens, part.output_tokens, part.cached_tokens))
        finished = Finished("stop_sequence", stop_sequence=stop) if stop else _finished(part.finish_reason)
        events.append(replace(finished, choice=part.index))
    return events


def _read_answer(outputs: Outputs, call: ChatCall) -> list[Event]:
    said = {name: values[0].decode() for name, values in outputs.items()}
    events: list[Event] = []
    if EVIDENCE in said or PROMPT in said:
        details = json.loads(said.get(EVIDENCE, "{}"))
        logprobs = tuple(details.pop("token_logprobs", ()))
        events.append(Findings(logprobs, details, tuple(json.loads(said.get(PROMPT, "[]")))))
    # Before the text: who has heard that has heard all that goes with it.
    if said["text_output"]:
        events.append(TextDelta(said["text_output"]))
    if "usage" in said:
        details = json.loads(said["usage"])
        citations = calls.read_answer_part(outputs).citations
        sources = tuple(
            Source(
                one.number,
                one.id,
                one.source,
                one.start,
                one.end,
                one.score,
                one.support,
                one.text,
                one.document,
            )
            for one in citations
        )
        events.append(Sources(sources, details))
        # An older rag does not say what was cached.
        cached = details.get("cached_tokens")
        events.append(Usage(details["prompt_tokens"], details["completion_tokens"], cached))
        events.append(_finished(said["finish_reason"]))
    return events


def _finished(reason: str) -> Finished:
    if reason not in _REASONS:
        raise ProviderError(f"the server ended the answer before it was complete ({reason})", "again", "cut")
    return Finished(_REASONS[reason])
