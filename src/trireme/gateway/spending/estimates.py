"""Upper bounds of what a call may use, before it is made: tokens of its prompt, and of its answer.

Without the model's own tokenizer a text is as many tokens as it has UTF-8 bytes, in whichever Unicode form it has
most: a byte-level or byte-fallback vocabulary has every byte, and a token is a byte at least, also behind the
normalisation that some put before. Not bound: what a provider's own tools read while they run (a web search).
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from trireme.providers.chat import (
    ChatCall,
    Foreign,
    Image,
    Message,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
)
from trireme.providers.own_limits import OwnLimits
from trireme.providers.token_texts import TokenTexts

# What templates write once (a system prompt of their own, a date), for each message, part and tool, for all tools.
FIXED_TOKENS = 256
MESSAGE_TOKENS = 16
PART_TOKENS = 4
TOOL_TOKENS = 64
TOOLS_TOKENS = 768
# Of a tool that the provider brings along: its description is not in the call.
FOREIGN_TOOL_TOKENS = 2_048
# The dearest images: of Anthropic's newest models; elsewhere 8 tiles of gpt-4o-mini, one where detail is low.
IMAGE_TOKENS = {"anthropic": 4_784}
OTHER_IMAGE_TOKENS = 48_169
OTHER_LOW_IMAGE_TOKENS = 2_833
# A part of another kind, beside its JSON: a page may be more than its bytes; one sent by reference has none.
FOREIGN_TOKENS = 4_096
REFERENCE_TOKENS = 200_000
# Of our own model whose files are not at hand.
UNKNOWN_CONTEXT = 131_072
# Text that is encoded on the event loop: 3 ms.
LOOP_BYTES = 16 << 10
# Characters from which on numpy counts faster than Python does.
LONG_TEXT = 4_096
COUNTED_AT_ONCE = 1 << 16
# Where bodies of the surfaces hold their parts.
_PART_FIELDS = ("messages", "input", "system")
# Of a message of OpenAI's format: what is counted by its parts. Templates of some servers read others as well.
_COUNTED = {"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "reasoning_content"}
_REFERENCES = ("url", "file_id", "file_url", "image_url", "video_url", "audio_url", "container_id")


def input_bound(call: ChatCall, kind: str = "openai") -> int:
    """Tokens of the call's prompt at most, by its bytes. kind: of the provider, whose images count as its own do.

    Pure; 3 to 7 ms for a megabyte that is not ASCII, next to nothing for one that is.
    """
    total = FIXED_TOKENS + _extras(call, kind)
    # Together: one by one a hundred thousand short ones take ten times as long.
    return total + text_bound("".join(_texts(call)))


def text_bound(text: str) -> int:
    """Tokens of one text at most, whatever the tokenizer: see the module."""
    if text.isascii():
        return len(text)
    sums = [0, 0, 0]
    for character, count in _characters(text):
        for form, size in enumerate(_sizes(character)):
            sums[form] += count * size
    return max(sums)


def _characters(text: str) -> Iterable[tuple[str, int]]:
    """Each character of a text once, and how often it stands there."""
    if len(text) < LONG_TEXT:
        return Counter(text).items()
    import numpy as np

    counts = np.zeros(sys.maxunicode + 1, np.int64)
    # In pieces that fit into the processor's cache.
    for start in range(0, len(text), COUNTED_AT_ONCE):
        piece = text[start : start + COUNTED_AT_ONCE].encode("utf-32-le", "surrogatepass")
        found = np.bincount(np.frombuffer(piece, "<u4"))
        counts[: len(found)] += found
    return [(chr(code), int(counts[code])) for code in np.flatnonzero(counts)]


@lru_cache(maxsize=1 << 14)
def _sizes(character: str) -> tuple[int, int, int]:
    """Bytes of a character as it is and in the forms NFD and NFKD; no composed form of a text is longer.

    One by one: Python sorts the marks of a whole text in quadratic time, and holds up all threads meanwhile.
    """
    nfd, nfkd = unicodedata.normalize("NFD", character), unicodedata.normalize("NFKD", character)
    plain, canonical, compatible = (
        len(form.encode("utf-8", "surrogatepass")) for form in (character, nfd, nfkd)
    )
    return plain, canonical, compatible


def texts_bound(texts: Iterable[str], overhead: int, most: int | None = None) -> int:
    """Tokens that an encoder reads of texts at most. overhead: of each (special tokens, the bytes of a prompt).

    most: of one text, the model's limit, where longer ones are cut.
    """
    bounds = (text_bound(text) + overhead for text in texts)
    return sum(bounds if most is None else (min(bound, most) for bound in bounds))


def pairs_bound(query: str, texts: Iterable[str], overhead: int, most: int | None = None) -> int:
    """As `texts_bound`, of a model that reads the query with each of the texts."""
    return texts_bound(texts, text_bound(query) + overhead, most)


def output_bound(call: ChatCall, known_limit: int | None, most_output: int) -> tuple[int, bool]:
    """Tokens of all choices together at most, reasoning with them, and whether max_tokens must be sent along.

    known_limit: what the model can make at most, of one choice. most_output: of one choice, where neither the call
    nor the model says; only then it must be sent, else nothing holds the model to it.
    """
    choices = max(call.choices, _best_of(call))
    if call.max_tokens is not None:
        return min(call.max_tokens, known_limit or call.max_tokens) * choices, False
    if known_limit is not None:
        return known_limit * choices, False
    return most_output * choices, True


def _best_of(call: ChatCall) -> int:
    """Of the older completions: so many are made and paid for, of which the best `n` are answered."""
    made = call.body.get("best_of")
    return made if isinstance(made, int) else 1


def asks_hour_cache(call: ChatCall) -> bool:
    """Whether the call may write into a cache that is kept for an hour: Anthropic's ttl, which costs more."""
    return call.surface == "anthropic" and _holds(call.body, "ttl", "1h")


class OwnEstimates:
    """Bounds of calls of our own Triton's models, by their tokenizers and manifests. For one event loop."""

    def __init__(self, texts: TokenTexts, limits: OwnLimits) -> None:
        self._texts = texts
        self._limits = limits

    def input_bound(self, call: ChatCall, model: str) -> int:
        """Tokens of the prompt at most; never above the model's context, where longer ones are refused.

        By its tokenizer where that is loaded and the texts are short (LOOP_BYTES), else by bytes: `count_exact` is
        nearer then. Of a rag model the whole context: its prompt holds passages that it finds.
        """
        if self._limits.finds_its_prompt(model):
            return self._limits.context_length(model) or UNKNOWN_CONTEXT
        bound = input_bound(call)
        if not self.is_long(call):
            texts = list(_texts(call))
            counted = self._texts.count_if_loaded(model, texts)
            if counted is not None:
                bound = min(bound, counted + _around(call, texts))
        return self._at_most(bound, model)

    def is_long(self, call: ChatCall) -> bool:
        """Whether counting its tokens would hold up an event loop."""
        left = LOOP_BYTES
        for text in _texts(call):
            # A character has 4 bytes at most.
            left -= len(text) if text.isascii() else 4 * len(text)
            if left < 0:
                return True
        return False

    def count_exact(self, call: ChatCall, model: str) -> int:
        """As `input_bound`, by the tokenizer in any case. Blocks: for a thread.

        Raises UnsupportedError for a model whose tokenizer is not at hand.
        """
        if self._limits.finds_its_prompt(model):
            return self._limits.context_length(model) or UNKNOWN_CONTEXT
        texts = list(_texts(call))
        exact = self._texts.count(model, texts) + _around(call, texts)
        return self._at_most(min(input_bound(call), exact), model)

    def output_limit(self, model: str) -> int | None:
        """Most tokens of one answer, or None where the model's files are not at hand."""
        return self._limits.context_length(model)

    def _at_most(self, bound: int, model: str) -> int:
        context = self._limits.context_length(model)
        return bound if context is None else min(bound, context)


def _around(call: ChatCall, texts: Sequence[str]) -> int:
    """Tokens of our own prompt beside the texts. Where one meets the template's, two may be cut otherwise."""
    return 2 * len(texts) + FIXED_TOKENS + _extras(call, "triton")


def _texts(call: ChatCall) -> Iterable[str]:
    """All text of the prompt that the client wrote, but for the JSON of tools."""
    if call.prompt is not None:
        yield call.prompt
    for message in call.messages:
        if message.name:
            yield message.name
        for part in message.parts:
            match part:
                case Text(text=text):
                    yield text
                case Thinking(text=text, signature=signature):
                    yield text
                    yield signature
                case ToolUse(id=id_, name=name, arguments=arguments):
                    yield id_
                    yield name
                    # Templates write it as JSON, or once more as a JSON string.
                    yield json.dumps(arguments)
                case ToolResult(id=id_, text=text):
                    yield id_
                    yield text


def _extras(call: ChatCall, kind: str) -> int:
    """Tokens of all that is no text: marks of messages, tools, images, foreign parts and fields."""
    total = sum(_message_extras(message, kind) for message in call.messages)
    if call.tools:
        total += TOOLS_TOKENS + sum(_tool_bound(tool) for tool in call.tools)
    if call.response_format is not None:
        total += _json_bound(call.response_format)
    fields = {name.partition(".")[0] for name in call.unknown}
    total += sum(_json_bound(call.body[name]) for name in fields if name in call.body)
    total += _unread_fields(call)
    foreign_tools = sum(name.startswith("tools.") for name in call.unknown)
    total += foreign_tools * FOREIGN_TOOL_TOKENS + (TOOLS_TOKENS if foreign_tools else 0)
    if kinds := {
        part.kind for message in call.messages for part in message.parts if isinstance(part, Foreign)
    }:
        total += sum(_foreign_bound(call.body.get(name), kinds) for name in _PART_FIELDS)
    return total


def _unread_fields(call: ChatCall) -> int:
    """Of fields of messages that are sent on and stand in no part, such as `reasoning`: their JSON."""
    given = call.body.get("messages") if call.surface == "openai" else None
    turns = [turn for turn in given if isinstance(turn, Mapping)] if isinstance(given, list) else []
    return sum(_json_bound(turn[name]) for turn in turns for name in turn if name not in _COUNTED)


def _message_extras(message: Message, kind: str) -> int:
    total = MESSAGE_TOKENS + PART_TOKENS * len(message.parts)
    for part in message.parts:
        images = part.images if isinstance(part, ToolResult) else (part,) if isinstance(part, Image) else ()
        total += sum(_image_bound(image, kind) for image in images)
        if isinstance(part, Foreign):
            total += FOREIGN_TOKENS
    return total


def _image_bound(image: Image, kind: str) -> int:
    """By a rule, not by its size: an image by URL has none that is known, and providers scale large ones down."""
    other = OTHER_LOW_IMAGE_TOKENS if image.detail == "low" else OTHER_IMAGE_TOKENS
    return IMAGE_TOKENS.get(kind, other)


def _tool_bound(tool: Tool) -> int:
    names = text_bound(tool.name) + _json_bound(tool.description)
    return TOOL_TOKENS + names + _json_bound(dict(tool.schema))


def _json_bound(value: Any) -> int:
    """Tokens of a value as JSON at most, also where a template writes it in ASCII, safe for HTML."""
    text = json.dumps(value, default=str)
    return len(text) + 5 * sum(text.count(mark) for mark in "<>&'")


def _foreign_bound(value: Any, kinds: Collection[str | None]) -> int:
    """Of all parts of such types below `value`: their JSON, and what they only refer to."""
    total, rest = 0, [value]
    while rest:
        one = rest.pop()
        if isinstance(one, list):
            rest.extend(one)
        elif isinstance(one, Mapping):
            if one.get("type") in kinds:
                total += _json_bound(one) + (REFERENCE_TOKENS if _refers(one) else 0)
            else:
                rest.extend(one.values())
    return total


def _refers(part: Mapping[str, Any]) -> bool:
    rest: list[Any] = [part]
    while rest:
        one = rest.pop()
        if isinstance(one, list):
            rest.extend(one)
        elif isinstance(one, Mapping):
            for name, value in one.items():
                if name in _REFERENCES and isinstance(value, str) and not value.startswith("data:"):
                    return True
                rest.append(value)
    return False


def _holds(value: Any, name: str, wanted: str) -> bool:
    """Whether anything within JSON has a field of that name and value."""
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, list):
            rest.extend(one)
        elif isinstance(one, Mapping):
            if one.get(name) == wanted:
                return True
            rest.extend(one.values())
    return False
