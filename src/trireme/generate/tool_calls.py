"""Calls of tools in a model's answer, taken out of its text as it comes. No code of the answer is run.

A call that is not whole, or of a function that was not offered, is text: nothing of an answer is lost.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trireme.generate.tool_calls_text import BrokenCallError, Incoming, Wait

ID_PREFIX = "call_"
_ID_CHARACTERS = 24
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of the call `index`, counted from 0. The first has id and name, the others text of its arguments."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""

    def as_json(self) -> dict[str, Any]:
        """As OpenAI writes it."""
        head = {"id": self.id, "type": "function"} if self.id else {}
        function = {"name": self.name} if self.name else {}
        return {"index": self.index, **head, "function": {**function, "arguments": self.arguments}}


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a family of models writes calls.

    openings: what reads behind each mark that begins a call; a mark with None says nothing and is dropped.
    at_start: what reads an answer that begins with one of these characters. id_characters: of a call's id, where
    the template wants so many; 0: as OpenAI's. special: marks within a call that may be control tokens.
    """

    name: str
    openings: Mapping[str, Reader | None] = field(default_factory=dict)
    at_start: Mapping[str, Reader] = field(default_factory=dict)
    id_characters: int = 0
    special: tuple[str, ...] = ()

    @property
    def marks(self) -> tuple[str, ...]:
        """All texts that a tokenizer may have as one token."""
        return (*self.openings, *self.special)


class ToolCallParser:
    """One answer. However its text is cut, what comes out, joined, is the same."""

    def __init__(
        self,
        form: ToolFormat,
        schemas: Mapping[str, Mapping[str, Any]],
        *,
        is_streamed: bool,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        """schemas: of the parameters of each function that is offered.

        is_streamed: arguments go out as they come, where their function is known before them; one that then breaks
        off stays a call, as it is. Else a call is given out when it is whole.
        """
        self.incoming = Incoming()
        self.schemas = schemas
        # Calls whose arguments are whole.
        self.whole_calls = 0
        self._form = form
        self._is_streamed = is_streamed
        self._new_id = new_id or (lambda: _make_id(form.id_characters))
        self._marks = re.compile("|".join(map(re.escape, form.openings)) or r"(?!)")
        self._beginnings = frozenset(mark[:size] for mark in form.openings for size in range(1, len(mark)))
        self._texts: list[str] = []
        self._deltas: list[ToolCallDelta] = []
        self._held: list[str] = []
        self._count = 0
        self._space = ""
        self._trims = False
        self._name = ""
        self._reading = self._read()
        self._is_done = False

    def push(self, text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """New text of the answer; what of it is text, and what belongs to calls."""
        self.incoming.push(text)
        return self._go_on()

    def finish(self) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """What was held back, since no more comes."""
        self.incoming.end()
        text, deltas = self._go_on()
        return text + ("" if self._trims else self._space), deltas

    def begin(self, name: str) -> None:
        """A call of `name`. Raises BrokenCallError where it is not offered."""
        if name not in self.schemas:
            raise BrokenCallError
        self._name, self._held = name, []
        if self._is_streamed:
            self._start()
            self.incoming.release()

    def put(self, arguments: str) -> None:
        """More of its arguments."""
        self._held.append(arguments)
        if self._is_streamed:
            self._flush()

    def complete(self) -> None:
        """Its arguments are whole."""
        if not self._is_streamed:
            self._start()
            self._flush()
        self.whole_calls += 1
        # What comes after it can break without it.
        self.incoming.hold()

    def say_whole(self, name: str, arguments: str) -> None:
        """A call that is there all at once. Raises BrokenCallError where it is not offered."""
        self.begin(name)
        self.put(arguments)
        self.complete()

    def schema_of(self, parameter: str) -> Mapping[str, Any]:
        """Of a parameter of the call that has begun; {} where nothing is said."""
        properties = self.schemas[self._name].get("properties")
        schema = properties.get(parameter) if isinstance(properties, dict) else None
        return schema if isinstance(schema, dict) else {}

    def _start(self) -> None:
        # White space between text and a call says nothing.
        self._space, self._trims = "", True
        self._deltas.append(ToolCallDelta(self._count, self._new_id(), self._name))
        self._count += 1

    def _flush(self) -> None:
        text = "".join(self._held)
        self._held = []
        if text:
            self._deltas.append(ToolCallDelta(self._count - 1, arguments=text))

    def _go_on(self) -> tuple[str, tuple[ToolCallDelta, ...]]:
        if not self._is_done:
            try:
                next(self._reading)
            except StopIteration:
                self._is_done = True
        text, deltas = "".join(self._texts), tuple(join_deltas(self._deltas))
        self._texts, self._deltas = [], []
        return text, deltas

    def _read(self) -> Wait[None]:
        incoming = self.incoming
        if self._form.at_start:
            incoming.hold()
            yield from incoming.skip_space()
            reader = self._form.at_start.get((yield from incoming.peek()))
            if reader is None:
                self._say(incoming.give_back())
            else:
                yield from self._try(reader)
        while True:
            text, mark = incoming.find(self._marks, self._beginnings)
            self._say(text)
            if mark:
                incoming.hold_from(len(mark))
                reader = self._form.openings[mark]
                if reader is None:
                    self._space, self._trims = "", True
                else:
                    yield from self._try(reader)
                continue
            if incoming.is_over:
                return
            yield

    def _try(self, reader: Reader) -> Wait[None]:
        """Run a reader; what breaks is text from the last whole call on, and reading goes on behind it."""
        try:
            yield from reader(self)
            self.incoming.release()
        except BrokenCallError:
            self._say(self.incoming.give_back())

    def _say(self, text: str) -> None:
        """Text of the answer; white space at its end waits, and goes where a call follows."""
        if self._trims:
            text = text.lstrip()
        if not text:
            return
        self._trims = False
        text = self._space + text
        shown = text.rstrip()
        self._space = text[len(shown) :]
        self._texts.append(shown)


Reader = Callable[[ToolCallParser], Wait[None]]


def schemas_of(tools: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The schema of each function's parameters, of OpenAI's tools; {} where it has none."""
    functions = [tool["function"] for tool in tools]
    schemas = {one["name"]: one.get("parameters") for one in functions}
    return {name: schema if isinstance(schema, dict) else {} for name, schema in schemas.items()}


def check_arguments(text: str) -> str:
    """`text` where it is a JSON object. Raises BrokenCallError for what is none, or cannot be sent."""
    try:
        text.encode()
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise BrokenCallError from None
    if not isinstance(value, dict):
        raise BrokenCallError
    return text


def join_deltas(deltas: Iterable[ToolCallDelta]) -> Iterable[ToolCallDelta]:
    """One for each call."""
    joined: dict[int, ToolCallDelta] = {}
    for one in deltas:
        before = joined.get(one.index)
        joined[one.index] = (
            one
            if before is None
            else ToolCallDelta(one.index, before.id, before.name, before.arguments + one.arguments)
        )
    return joined.values()


def _make_id(characters: int) -> str:
    size = characters or _ID_CHARACTERS
    drawn = "".join(secrets.choice(ALPHABET) for _ in range(size))
    return drawn if characters else ID_PREFIX + drawn
