"""Text that comes in pieces, read as if all of it were there. A reader yields where it needs more."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")
Wait = Generator[None, None, T]

# As messages are: deeper JSON is no one's, and costs a stack.
MAX_DEPTH = 32
# Of a function's name and of a parameter's.
MAX_NAME = 256
_SPACE = " \t\n\r"
_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})')
_SCALAR = re.compile(r"[-+.0-9A-Za-z]+")
_VALID_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_CONTROLS = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


class BrokenCallError(Exception):
    """What was read is no call after all. Never leaves the parser."""


class Incoming:
    """The text of an answer as far as it has come, and how far it is read.

    What is read stays while a call may have to be given back as text. What is decided never depends on how the text
    was cut into pieces.
    """

    def __init__(self) -> None:
        self._text = ""
        self._at = 0
        self._start: int | None = None
        self._is_ended = False
        # Where `keep` puts what it reads.
        self._sink: Callable[[str], None] | None = None

    def push(self, text: str) -> None:
        """More text."""
        kept = self._at if self._start is None else self._start
        self._text = self._text[kept:] + text
        self._at -= kept
        self._start = None if self._start is None else 0

    def end(self) -> None:
        """No more comes."""
        self._is_ended = True

    def hold(self) -> None:
        """What is read from here on may be given back."""
        self._start = self._at

    def hold_from(self, count: int) -> None:
        """The last `count` characters that were read may be given back, and what is read from here on."""
        self._start = self._at - count

    def release(self) -> None:
        """What was read is not given back."""
        self._start = None

    def give_back(self) -> str:
        """What was read since `hold`; "" without it."""
        text = "" if self._start is None else self._text[self._start : self._at]
        self._start = None
        return text

    def take(self, count: int) -> str:
        """The next characters, which are there."""
        text = self._text[self._at : self._at + count]
        self._at += count
        return text

    def find(self, marks: re.Pattern[str], beginnings: frozenset[str]) -> tuple[str, str]:
        """Text before the first mark that is there, and the mark, which is read too; "" where there is none.

        beginnings: of the marks; text that ends with one is left unread, since the mark may be coming.
        """
        found = marks.search(self._text, self._at)
        if found is not None:
            return self.take(found.start() - self._at), self.take(len(found[0]))
        held = 0
        if not self._is_ended:
            longest = min(max(map(len, beginnings), default=0), len(self._text) - self._at)
            held = next((n for n in range(longest, 0, -1) if self._text[-n:] in beginnings), 0)
        return self.take(len(self._text) - self._at - held), ""

    @property
    def is_over(self) -> bool:
        """Whether all is read and nothing more comes."""
        return self._is_ended and self._at >= len(self._text)

    def peek(self) -> Wait[str]:
        """The next character, "" at the end."""
        while self._at >= len(self._text):
            if self._is_ended:
                return ""
            yield
        return self._text[self._at]

    def ahead(self, mark: str) -> Wait[bool]:
        """Whether `mark` is next; it is read then."""
        while True:
            next_text = self._text[self._at : self._at + len(mark)]
            if next_text == mark:
                self._at += len(mark)
                return True
            if not mark.startswith(next_text) or self._is_ended:
                return False
            yield

    def expect(self, mark: str) -> Wait[None]:
        """Read `mark`. Raises BrokenCallError where something else is next."""
        if not (yield from self.ahead(mark)):
            raise BrokenCallError

    def until(self, mark: str, most: int = MAX_NAME) -> Wait[str]:
        """The text before `mark`, both read. Raises BrokenCallError where it does not come within `most`."""
        while True:
            end = self._text.find(mark, self._at, self._at + most + len(mark))
            if end >= 0:
                text = self.take(end - self._at)
                self._at += len(mark)
                return text
            if self._is_ended or len(self._text) - self._at >= most + len(mark):
                raise BrokenCallError
            yield

    def until_streamed(self, mark: str, say: Callable[[str], None]) -> Wait[None]:
        """As `until`, of any length; `say` gets the text as it comes, at the end of the answer all of it."""
        while True:
            end = self._text.find(mark, self._at)
            if end >= 0:
                say(self.take(end - self._at))
                self._at += len(mark)
                return
            left = len(self._text) - self._at
            if self._is_ended:
                say(self.take(left))
                raise BrokenCallError
            held = next((n for n in range(min(len(mark) - 1, left), 0, -1) if mark[:n] == self._text[-n:]), 0)
            say(self.take(left - held))
            yield

    def skip_space(self) -> Wait[None]:
        """Read white space, which goes where `keep` says."""
        while True:
            character = yield from self.peek()
            if not character or character not in _SPACE:
                return
            self._pass(1)

    def name(self) -> Wait[str]:
        """Letters, digits, "_", "-" and ".", at least one. Raises BrokenCallError."""
        name = ""
        while (
            (yield from self.peek()) and (run := _NAME.match(self._text, self._at)) and len(name) <= MAX_NAME
        ):
            name += self.take(len(run[0]))
        if not 1 <= len(name) <= MAX_NAME:
            raise BrokenCallError
        return name

    def keep(self, read: Wait[None], sink: Callable[[str], None]) -> Wait[None]:
        """Run `read`; what it reads goes to `sink`, in valid JSON."""
        before, self._sink = self._sink, sink
        try:
            yield from read
        finally:
            self._sink = before

    def text_of(self, read: Wait[None]) -> Wait[str]:
        """Run `read` and return what it read."""
        parts: list[str] = []
        yield from self.keep(read, parts.append)
        return "".join(parts)

    def value(self, depth: int = 0) -> Wait[None]:
        """Read one JSON value; control characters in strings are escaped. Raises BrokenCallError."""
        character = yield from self.peek()
        if depth > MAX_DEPTH or not character:
            raise BrokenCallError
        if character == '"':
            yield from self.string()
        elif character == "{":
            yield from self._members("}", depth, has_keys=True)
        elif character == "[":
            yield from self._members("]", depth, has_keys=False)
        else:
            yield from self._scalar()

    def string(self) -> Wait[None]:
        """Read a JSON string. Raises BrokenCallError."""
        if (yield from self.peek()) != '"':
            raise BrokenCallError
        self._pass(1)
        while (character := (yield from self.peek())) != '"':
            if not character:
                raise BrokenCallError
            if run := _PLAIN.match(self._text, self._at):
                self._pass(len(run[0]))
            elif character == "\\":
                yield from self._escape()
            else:
                self._pass(1, _CONTROLS.get(character, f"\\u{ord(character):04x}"))
        self._pass(1)

    def _escape(self) -> Wait[None]:
        while not (found := _ESCAPE.match(self._text, self._at)):
            rest = self._text[self._at :]
            if self._is_ended or not re.fullmatch(r"\\(?:u[0-9A-Fa-f]{0,3})?", rest):
                raise BrokenCallError
            yield
        self._pass(len(found[0]))

    def _members(self, closing: str, depth: int, *, has_keys: bool) -> Wait[None]:
        self._pass(1)
        yield from self.skip_space()
        if (yield from self.peek()) == closing:
            self._pass(1)
            return
        while True:
            if has_keys:
                yield from self.string()
                yield from self.skip_space()
                yield from self._mark(":")
                yield from self.skip_space()
            yield from self.value(depth + 1)
            yield from self.skip_space()
            if (yield from self.peek()) == closing:
                self._pass(1)
                return
            yield from self._mark(",")
            yield from self.skip_space()

    def _mark(self, character: str) -> Wait[None]:
        if (yield from self.peek()) != character:
            raise BrokenCallError
        self._pass(1)

    def _scalar(self) -> Wait[None]:
        said = ""
        while (yield from self.peek()) and (run := _SCALAR.match(self._text, self._at)):
            said += run[0]
            self._pass(len(run[0]))
        if not _VALID_SCALAR.fullmatch(said):
            raise BrokenCallError

    def _pass(self, count: int, text: str | None = None) -> None:
        """Read `count` characters; `text` goes out in their place."""
        said = self.take(count)
        if self._sink is not None:
            self._sink(said if text is None else text)
