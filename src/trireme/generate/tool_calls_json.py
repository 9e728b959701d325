"""Calls whose arguments are JSON: an object with a name, a list of such, or a name and then the arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from trireme.generate.tool_calls import ToolCallParser, check_arguments
from trireme.generate.tool_calls_text import BrokenCallError, Wait

ARGUMENTS = ("arguments", "parameters")


def read_calls(*closings: str) -> Callable[[ToolCallParser], Wait[None]]:
    """A reader of one object, or of a list of them, and of the marks that may follow."""

    def read(parser: ToolCallParser) -> Wait[None]:
        yield from parser.incoming.skip_space()
        if (yield from parser.incoming.ahead("[")):
            yield from _read_list(parser)
        else:
            yield from read_object(parser)
        yield from read_closings(parser, closings)

    return read


def read_calls_apart(separator: str) -> Callable[[ToolCallParser], Wait[None]]:
    """A reader of objects one after the other, with or without `separator`."""

    def read(parser: ToolCallParser) -> Wait[None]:
        incoming = parser.incoming
        while True:
            yield from incoming.skip_space()
            yield from read_object(parser)
            yield from incoming.skip_space()
            yield from incoming.ahead(separator)
            yield from incoming.skip_space()
            if (yield from incoming.peek()) != "{":
                return

    return read


def read_closings(parser: ToolCallParser, closings: tuple[str, ...]) -> Wait[None]:
    """The marks that end a call, each of which may be missing."""
    for mark in closings:
        yield from parser.incoming.skip_space()
        yield from parser.incoming.ahead(mark)


def read_arguments(parser: ToolCallParser, name: str) -> Wait[None]:
    """The arguments of a call of `name`, an object. Raises BrokenCallError."""
    incoming = parser.incoming
    yield from incoming.skip_space()
    if (yield from incoming.peek()) != "{":
        raise BrokenCallError
    parser.begin(name)
    yield from incoming.keep(incoming.value(), parser.put)
    parser.complete()


def read_object(parser: ToolCallParser) -> Wait[None]:
    """An object with the name of a function and its arguments, which go out as they come behind the name."""
    incoming = parser.incoming
    yield from incoming.expect("{")
    said: dict[str, str] = {}
    while True:
        yield from incoming.skip_space()
        key = _loads((yield from incoming.text_of(incoming.string())))
        yield from _read_colon(parser)
        name = _loads(said["name"]) if "name" in said else None
        is_object = (yield from incoming.peek()) == "{"
        if key in ARGUMENTS and is_object and isinstance(name, str) and name in parser.schemas:
            yield from read_arguments(parser, name)
            yield from _read_rest(parser)
            return
        said[key] = yield from incoming.text_of(incoming.value())
        yield from incoming.skip_space()
        if (yield from incoming.ahead("}")):
            break
        yield from incoming.expect(",")
    parser.say_whole(*_find_call(said))


def _read_list(parser: ToolCallParser) -> Wait[None]:
    incoming = parser.incoming
    while True:
        yield from incoming.skip_space()
        yield from read_object(parser)
        yield from incoming.skip_space()
        if (yield from incoming.ahead("]")):
            return
        yield from incoming.expect(",")


def _read_colon(parser: ToolCallParser) -> Wait[None]:
    yield from parser.incoming.skip_space()
    yield from parser.incoming.expect(":")
    yield from parser.incoming.skip_space()


def _read_rest(parser: ToolCallParser) -> Wait[None]:
    """What an object says behind its arguments. The brace that ends it may be missing: the call is whole."""
    incoming = parser.incoming
    yield from incoming.skip_space()
    while (yield from incoming.ahead(",")):
        yield from incoming.skip_space()
        yield from incoming.string()
        yield from _read_colon(parser)
        yield from incoming.value()
        yield from incoming.skip_space()
    yield from incoming.ahead("}")
    # What breaks from here on breaks without it.
    incoming.hold()


def _find_call(said: dict[str, str]) -> tuple[str, str]:
    """Name and arguments of a whole object, whose function may be an object of its own."""
    if "name" not in said and "function" in said:
        inner = _loads(said["function"])
        if isinstance(inner, dict):
            said = {key: json.dumps(value) for key, value in inner.items()}
    name = _loads(said.get("name") or said.get("function", "null"))
    arguments = next((said[key] for key in ARGUMENTS if key in said), "{}")
    value = _loads(arguments)
    if value is None:
        arguments = "{}"
    elif isinstance(value, str):
        # Clients want JSON text, and so some models write a string.
        arguments = value or "{}"
    if not isinstance(name, str):
        raise BrokenCallError
    return name, check_arguments(arguments)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BrokenCallError from None
