"""The text of a request's prompt, checked before it is tokenized."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trireme.errors import InvalidInputError, PromptTooLongError
from trireme.generate.chat import ChatTemplate
from trireme.generate.messages import Message, strings_in
from trireme.generate.tool_calls import ALPHABET

if TYPE_CHECKING:
    from trireme.generate.service import GenerateRequest, ServiceOptions


def read_prompt(
    request: GenerateRequest, template: ChatTemplate | None, options: ServiceOptions, id_characters: int = 0
) -> tuple[str, bool]:
    """The text, and whether the tokenizer adds its special tokens: a template writes its own.

    id_characters: that the template wants in the id of a call; 0: it takes any.
    Raises InvalidInputError, PromptTooLongError where it has more bytes than max_text_bytes.
    """
    messages, most = request.messages, options.max_text_bytes
    if messages is None and request.tools:
        raise InvalidInputError("tools go with messages; send messages instead of text_input")
    if messages is None:
        text = request.text or ""
        _check_size(most, "text_input", text)
        if not text:
            raise InvalidInputError("text_input is empty; send at least one character")
        if template is None or not options.chat_text_input:
            return text, True
        messages = (Message("user", text),)
    _check_size(most, "messages", *strings_in([message.as_json() for message in messages]))
    _check_size(most, "tools", *strings_in(request.tools))
    if template is None:
        raise InvalidInputError("this model has no chat template; send text_input instead of messages")
    if id_characters:
        messages = tuple(_with_ids(message, id_characters) for message in messages)
    return template.render(messages, request.tools), False


def room_of(tokens: int, most: int) -> int:
    """How many tokens are left for the answer to a prompt of so many.

    Raises InvalidInputError for a prompt of none, PromptTooLongError for one that leaves no room.
    """
    if not tokens:
        # A tokenizer may strip what there is; no engine begins without a token.
        raise InvalidInputError("the prompt has no token that the model knows; send words or signs")
    if tokens >= most:
        raise PromptTooLongError(
            f"the prompt has {tokens} tokens, but prompt and answer together may have {most}; shorten it"
        )
    return most - tokens


def _with_ids(message: Message, characters: int) -> Message:
    """With ids of `characters` letters and digits: those of other models' calls are longer."""
    more: dict[str, Any] = dict(message.more)
    if "tool_call_id" in more:
        more["tool_call_id"] = _fit(more["tool_call_id"], characters)
    if "tool_calls" in more:
        more["tool_calls"] = [
            {**call, "id": _fit(call["id"], characters)} if isinstance(call.get("id"), str) else call
            for call in more["tool_calls"]
        ]
    return replace(message, more=more)


def _fit(given: str, characters: int) -> str:
    if len(given) == characters and given.isascii() and given.isalnum():
        return given
    digest = hashlib.sha256(given.encode()).digest()
    return "".join(ALPHABET[byte % len(ALPHABET)] for byte in digest[:characters])


def _check_size(most: int, name: str, *texts: str) -> None:
    size = sum(len(text.encode()) for text in texts)
    if size > most:
        raise PromptTooLongError(f"{name} has {size} bytes, the limit is {most}; shorten it")
