"""Why a chat model of our own server cannot take a call, naming the field: nothing is ignored."""

from __future__ import annotations

from collections.abc import Iterator

from trireme.providers.abilities import say_what_it_does
from trireme.providers.chat import (
    ChatCall,
    Foreign,
    Image,
    Message,
    Part,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
)
from trireme.providers.models import Ability

SHOWN_NAMES = 5
# See generate.sampling, which is not for the gateway to import.
MAX_ANSWERS = 16


def fault_of(call: ChatCall, model: str, ability: Ability | None, alternatives: int | None = None) -> str:
    """ "" where `model` can take the call. ability None: not known yet, so what depends on it is not looked at.

    alternatives: see ServedModel.
    """
    if ability not in (None, "chat", "answer"):
        return f"model: {say_what_it_does(model, ability)} and does not chat; name another"
    faults = [_unknown(call), *_options(call), *_tools(call), *_parts(call)]
    if ability == "answer":
        faults += _of_answers(call, model)
    elif ability == "chat":
        faults += [*_of_chats(call, model), _of_logprobs(call, model, alternatives)]
    return next(filter(None, faults), "")


def _unknown(call: ChatCall) -> str:
    # null is how some clients write what they leave out.
    names = [name for name in call.unknown if call.body.get(name, name) is not None]
    if not names:
        return ""
    shown = ", ".join(name[:40] for name in names[:SHOWN_NAMES])
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f"{shown}{more}: not a field that models of this server take; leave it out"


def _options(call: ChatCall) -> Iterator[str]:
    if call.choices > MAX_ANSWERS:
        yield f"n: models of this server give at most {MAX_ANSWERS} answers, not {call.choices}; leave it out"
    if call.reasoning_effort is not None:
        yield "reasoning_effort: models of this server have none to set; leave it out"


def _tools(call: ChatCall) -> Iterator[str]:
    if call.tools:
        yield "tools: models of this server call none; leave them out"
    if call.tool_choice not in (None, "none"):
        yield "tool_choice: models of this server call no tools; leave it out or send none"
    if call.parallel_tool_calls is not None:
        yield "parallel_tool_calls: models of this server call no tools; leave it out"


def _parts(call: ChatCall) -> Iterator[str]:
    for position, message in enumerate(call.messages):
        where = f"messages[{position}]"
        if message.role == "tool":
            yield f"{where}: models of this server call no tools, so there is no result of one; leave it out"
        for part in message.parts:
            yield _part(where, part, message)


def _part(where: str, part: Part, message: Message) -> str:
    match part:
        case Text():
            return ""
        case Image():
            return f"{where} has an image: models of this server read text alone; leave it out"
        case Foreign(kind=kind):
            return f"{where} has a part of type {kind[:40]!r}: models of this server read text alone; leave it out"
        case ToolUse() | ToolResult():
            return f"{where} has a tool call or its result: models of this server call no tools; leave it out"
        case Thinking():
            return "" if message.role == "assistant" else f"{where} has thinking that is not an assistant's"


def _of_chats(call: ChatCall, model: str) -> Iterator[str]:
    for field in ("collection", "passages", "answer_mode"):
        if getattr(call, field) is not None:
            yield f"{field}: model {model!r} chats and reads no passages; leave it out, or ask a model that answers"
    if call.prompt is None and not call.messages:
        yield "messages: empty; send at least one"


def _of_logprobs(call: ChatCall, model: str, alternatives: int | None) -> str:
    field = "logprobs" if call.surface == "completions" else "top_logprobs"
    if call.logprobs is None:
        return ""
    if alternatives is None:
        return f"logprobs: the configuration of model {model!r} is older than they are; leave it out"
    if call.logprobs > alternatives:
        most = "no alternatives" if alternatives == 0 else f"at most {alternatives} alternatives"
        return f"{field}: the engine of model {model!r} names {most} of a token; send {alternatives}"
    return ""


def _of_answers(call: ChatCall, model: str) -> Iterator[str]:
    if call.choices != 1:
        yield f"n: model {model!r} gives one answer, not {call.choices}; leave it out or send 1"
    if call.response_format is not None and call.response_format.get("type") != "text":
        yield f'response_format: model {model!r} answers with citations; leave it out or send {{"type": "text"}}'
    if call.logprobs:
        yield f"top_logprobs: model {model!r} says the log-probabilities of its own tokens alone; send 0"
    if call.prompt is not None:
        yield f"prompt: model {model!r} answers questions; send them as a chat"
    elif [message.role for message in call.messages] != ["user"]:
        yield (
            f"messages: model {model!r} answers one question at a time and has a prompt of its own; send exactly"
            " one message, of role user, without a system message and without earlier turns"
        )
    elif not call.messages[0].text.strip():
        yield "messages[0] holds no question"
