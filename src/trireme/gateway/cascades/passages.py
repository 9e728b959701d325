"""The prompt of a rag model in place of a client's question: what it found is not lost to the step behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trireme.providers.chat import ChatCall, Message, Text

Prompt = Sequence[Mapping[str, str]]


def with_prompt(call: ChatCall, prompt: Prompt) -> ChatCall:
    """The call as a chat of these messages, in its body too, which a provider of the client's format gets. Pure.

    call: one question of one user, as rag models take it. What its body says of anything else stays.
    """
    messages = tuple(Message(_role(one), (Text(one["content"]),)) for one in prompt)
    # What they chose is in the prompt; a chat model takes none of them.
    chosen = replace(call, collection=None, passages=None, answer_mode=None)
    return replace(chosen, messages=messages, body=_body(call, prompt))


def _body(call: ChatCall, prompt: Prompt) -> Mapping[str, Any]:
    if call.surface == "openai":
        return {**call.body, "messages": [dict(one) for one in prompt]}
    if call.surface == "anthropic":
        turns = [dict(one) for one in prompt if one["role"] != "system"]
        system = "\n".join(one["content"] for one in prompt if one["role"] == "system")
        return {**call.body, "messages": turns, **({"system": system} if system else {})}
    # Bodies of other surfaces are always translated.
    return call.body


def _role(one: Mapping[str, str]) -> Any:
    return one["role"]
