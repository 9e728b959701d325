"""Calls written as Python, [f(a=1), g(b="x")]: names and literals are read, nothing is run."""

from __future__ import annotations

import json
import re
from typing import Any

from trireme.generate.tool_calls import ToolCallParser
from trireme.generate.tool_calls_text import MAX_DEPTH, BrokenCallError, Incoming, Wait

_ESCAPED = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "0": "\0", "\n": ""}
_WORDS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_CLOSINGS = {"[": "]", "(": ")"}


def read_python_calls(parser: ToolCallParser) -> Wait[None]:
    """A list of calls with keyword arguments; each goes out when it is whole."""
    incoming = parser.incoming
    yield from incoming.expect("[")
    while True:
        yield from incoming.skip_space()
        name = yield from incoming.name()
        if name not in parser.schemas:
            raise BrokenCallError
        yield from incoming.expect("(")
        arguments = yield from _read_arguments(incoming)
        parser.say_whole(name, _as_json(arguments))
        yield from incoming.skip_space()
        if (yield from incoming.ahead("]")):
            return
        yield from incoming.expect(",")


def _read_arguments(incoming: Incoming) -> Wait[dict[str, Any]]:
    arguments: dict[str, Any] = {}
    while True:
        yield from incoming.skip_space()
        if (yield from incoming.ahead(")")):
            return arguments
        if arguments:
            yield from incoming.expect(",")
            yield from incoming.skip_space()
        name = yield from incoming.name()
        yield from incoming.skip_space()
        yield from incoming.expect("=")
        yield from incoming.skip_space()
        arguments[name] = yield from _read_literal(incoming, 1)


def _read_literal(incoming: Incoming, depth: int) -> Wait[Any]:
    character = yield from incoming.peek()
    if depth > MAX_DEPTH or not character:
        raise BrokenCallError
    if character in "'\"":
        return (yield from _read_string(incoming, character))
    if character in _CLOSINGS:
        return (yield from _read_list(incoming, _CLOSINGS[character], depth))
    if character == "{":
        return (yield from _read_dict(incoming, depth))
    word = ""
    while (character := (yield from incoming.peek())) and (character.isalnum() or character in "+-._"):
        word += incoming.take(1)
    if word in _WORDS:
        return _WORDS[word]
    if not _NUMBER.fullmatch(word):
        raise BrokenCallError
    try:
        return int(word) if word.lstrip("+-").isdigit() else float(word)
    except ValueError:
        raise BrokenCallError from None


def _read_string(incoming: Incoming, quote: str) -> Wait[str]:
    quotes = quote * 3 if (yield from incoming.ahead(quote * 3)) else quote
    if len(quotes) == 1:
        yield from incoming.expect(quote)
    parts: list[str] = []
    while not (yield from incoming.ahead(quotes)):
        character = yield from incoming.peek()
        if not character:
            raise BrokenCallError
        parts.append(incoming.take(1))
        if character == "\\":
            if not (yield from incoming.peek()):
                raise BrokenCallError
            parts.append(incoming.take(1))
    return _ESCAPED.sub(_unescape, "".join(parts))


def _unescape(found: re.Match[str]) -> str:
    said = found[1]
    if len(said) > 1:
        number = int(said[1:], 16)
        return chr(number) if number < 0x110000 else found[0]
    if said in "'\"\\":
        return said
    return _SIMPLE.get(said, found[0])


def _read_list(incoming: Incoming, closing: str, depth: int) -> Wait[list[Any]]:
    incoming.take(1)
    found: list[Any] = []
    while True:
        yield from incoming.skip_space()
        if (yield from incoming.ahead(closing)):
            return found
        if found:
            yield from incoming.expect(",")
            yield from incoming.skip_space()
            # A tuple of one, or a list with a comma behind its last.
            if (yield from incoming.ahead(closing)):
                return found
        found.append((yield from _read_literal(incoming, depth + 1)))


def _read_dict(incoming: Incoming, depth: int) -> Wait[dict[str, Any]]:
    incoming.take(1)
    found: dict[str, Any] = {}
    while True:
        yield from incoming.skip_space()
        if (yield from incoming.ahead("}")):
            return found
        if found:
            yield from incoming.expect(",")
            yield from incoming.skip_space()
        quote = yield from incoming.peek()
        if not quote or quote not in "'\"":
            raise BrokenCallError
        key = yield from _read_string(incoming, quote)
        yield from incoming.skip_space()
        yield from incoming.expect(":")
        yield from incoming.skip_space()
        found[key] = yield from _read_literal(incoming, depth + 1)


def _as_json(arguments: dict[str, Any]) -> str:
    try:
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError:
        raise BrokenCallError from None
    return text
