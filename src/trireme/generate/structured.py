"""Forms that an answer is held to: OpenAI's response_format and vLLM's structured_outputs, read and bounded.

Engines compile a form against every token of the vocabulary, which costs time by its size, and leave out in silence
what their compiler does not know. Both are refused here, before an engine sees them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from trireme.errors import InvalidInputError
from trireme.generate.engine import StructuredOutput

MAX_FORM_BYTES = 65_536
MAX_REGEX_CHARACTERS = 4096
MAX_DEPTH = 64
MAX_CHOICES = 1000
MAX_CHOICE_CHARACTERS = 1000
# Places in a form that are compiled one by one: what its repeats and lengths allow at most.
MAX_PLACES = 4096
JSON_OBJECT = '{"type":"object"}'
# Keywords of JSON Schema that the compilers do not hold an answer to.
UNHELD = (
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "multipleOf",
    "not",
    "patternProperties",
    "propertyNames",
    "then",
    "uniqueItems",
)
# Where a schema holds names of its own, not keywords.
_NAMED = ("properties", "$defs", "definitions")
# Where it holds values that an answer may have.
_VALUES = ("const", "default", "enum", "examples")
_REPEAT = re.compile(r"\{(\d*)(,?)(\d*)\}")


def read_response_format(key: str, value: Any) -> StructuredOutput | None:
    """OpenAI's: {"type": "text"}, "json_object" or "json_schema". None for text. Raises InvalidInputError."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return StructuredOutput("json", JSON_OBJECT)
    if kind != "json_schema":
        raise InvalidInputError(
            f"{key} must be an object of type text, json_object or json_schema, got {_shown(value)}"
        )
    inner = value.get("json_schema")
    if not isinstance(inner, dict) or "schema" not in inner:
        raise InvalidInputError(f'{key} of type json_schema needs {{"json_schema": {{"schema": {{...}}}}}}')
    return read_schema(f"{key}.json_schema.schema", inner["schema"])


def read_structured_outputs(key: str, value: Any) -> StructuredOutput | None:
    """vLLM's: an object with one of json, json_object, regex, choice, grammar; {} is None.

    Raises InvalidInputError.
    """
    if not isinstance(value, dict):
        raise InvalidInputError(
            f"{key} must be an object with one of {', '.join(_KINDS)}, got {_shown(value)}"
        )
    given = {name: one for name, one in value.items() if one is not None}
    if unknown := sorted(given.keys() - _KINDS.keys()):
        raise InvalidInputError(f"{key} has an unknown key {unknown[0][:40]!r}; known: {', '.join(_KINDS)}")
    if len(given) > 1:
        raise InvalidInputError(f"{key} holds {' and '.join(sorted(given))}; send one of them")
    return next((_KINDS[name](f"{key}.{name}", one) for name, one in given.items()), None)


def read_schema(key: str, value: Any) -> StructuredOutput:
    """A JSON schema, or its text. Raises InvalidInputError."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise InvalidInputError(f"{key} is not valid JSON") from None
    if not isinstance(value, dict):
        raise InvalidInputError(f"{key} must be a JSON schema, an object, got {_shown(value)}")
    try:
        text = _dumped(value)
    except RecursionError:
        # Read with a few levels of the stack more than there are now.
        raise _too_deep(key) from None
    _check_size(key, text)
    # One of our own, to change.
    value = json.loads(text)
    places = 0
    for schema in _schemas(key, value, 0):
        if unheld := sorted(schema.keys() & set(UNHELD)):
            raise InvalidInputError(
                f"{key} has {unheld[0]!r}, which an answer cannot be held to; leave it out"
            )
        target = schema.get("$ref")
        if target is not None and not (
            isinstance(target, str) and (target == "#" or target.startswith("#/"))
        ):
            raise InvalidInputError(
                f"{key} refers to {_shown(target)}; only places of its own, from # on, are read"
            )
        _bound_string(key, schema)
        if isinstance(pattern := schema.get("pattern"), str):
            places += _count_places(f"{key}: pattern", pattern)
    _check_places(key, places, "maxLength, minLength and the repeats of its patterns")
    return StructuredOutput("json", _dumped(value))


def _dumped(schema: Any) -> str:
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def _too_deep(key: str) -> InvalidInputError:
    return InvalidInputError(f"{key} is more than {MAX_DEPTH} levels deep; make it flatter")


def _schemas(key: str, value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Every object of a schema that holds keywords."""
    if depth > MAX_DEPTH:
        raise _too_deep(key)
    if isinstance(value, list):
        for one in value:
            yield from _schemas(key, one, depth + 1)
    if not isinstance(value, dict):
        return
    yield value
    for name, inner in value.items():
        if name in _NAMED and isinstance(inner, dict):
            for one in inner.values():
                yield from _schemas(key, one, depth + 1)
        elif name not in _VALUES:
            yield from _schemas(key, inner, depth + 1)


def _bound_string(key: str, schema: dict[str, Any]) -> None:
    """States the length of a string as a pattern: by maxLength compilers let control characters in."""
    kind = schema.get("type")
    lengths = [schema.get(name) for name in ("minLength", "maxLength")]
    if lengths == [None, None] or "string" not in (kind if isinstance(kind, list) else [kind]):
        return
    if both := sorted(schema.keys() & {"pattern", "format"}):
        raise InvalidInputError(
            f"{key} has {both[0]!r} beside a length: an answer is held to the first alone; say it in a pattern"
        )
    if any(one is not None and (type(one) is not int or one < 0) for one in lengths):
        raise InvalidInputError(
            f"{key}: minLength and maxLength must be a whole number from 0, got {lengths}"
        )
    least, most = lengths
    for name in ("minLength", "maxLength"):
        schema.pop(name, None)
    schema["pattern"] = f'^[^"\\\\\\x00-\\x1f]{{{least or 0},{"" if most is None else most}}}$'


def _json_object(key: str, value: Any) -> StructuredOutput | None:
    if not isinstance(value, bool):
        raise InvalidInputError(f"{key} must be true or false, got {_shown(value)}")
    return StructuredOutput("json", JSON_OBJECT) if value else None


def _regex(key: str, value: Any) -> StructuredOutput:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_REGEX_CHARACTERS:
        raise InvalidInputError(f"{key} must be a string of 1 to {MAX_REGEX_CHARACTERS} characters")
    _check_text(key, value)
    _check_places(key, _count_places(key, value), "its repeats")
    return StructuredOutput("regex", value)


def _choice(key: str, value: Any) -> StructuredOutput:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_CHOICES:
        raise InvalidInputError(f"{key} must be a list of 1 to {MAX_CHOICES} strings")
    for one in value:
        if not isinstance(one, str) or not 1 <= len(one) <= MAX_CHOICE_CHARACTERS:
            raise InvalidInputError(
                f"each {key} must be a string of 1 to {MAX_CHOICE_CHARACTERS} characters, got {_shown(one)}"
            )
        _check_text(key, one)
    grammar = "root ::= " + " | ".join(f'"{_escaped(one)}"' for one in dict.fromkeys(value))
    _check_size(key, grammar)
    return StructuredOutput("grammar", grammar)


def _grammar(key: str, value: Any) -> StructuredOutput:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInputError(f"{key} must be a grammar in EBNF, got {_shown(value)}")
    _check_text(key, value)
    _check_size(key, value)
    if not re.search(r"^\s*root\s*::=", value, re.MULTILINE):
        raise InvalidInputError(f'{key} has no rule named root; begin with one, like root ::= "yes" | "no"')
    # Not nested: a grammar's repeats are of rules, which are compiled once.
    _check_places(key, sum(_most(found) for found in _REPEAT.finditer(value)), "its repeats")
    return StructuredOutput("grammar", value)


_KINDS: dict[str, Callable[[str, Any], StructuredOutput | None]] = {
    "json": read_schema,
    "json_object": _json_object,
    "regex": _regex,
    "choice": _choice,
    "grammar": _grammar,
}


def _count_places(key: str, pattern: str) -> int:
    """Characters that a regular expression can match at most, "any number" being one."""
    # Of each group that is open, what it holds so far; last is what a repeat would multiply.
    held, last = [0], 0
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "(":
            if len(held) > MAX_DEPTH:
                raise InvalidInputError(f"{key} is more than {MAX_DEPTH} groups deep; make it flatter")
            held.append(0)
            last = 0
        elif character == ")" and len(held) > 1:
            last = held.pop()
            held[-1] += last
        elif character == "{" and (found := _REPEAT.match(pattern, position)):
            held[-1] += last * (max(1, _most(found)) - 1)
            last *= max(1, _most(found))
            position = found.end() - 1
        elif character == "[":
            position = _end_of_class(pattern, position)
            held[-1] += (last := 1)
        elif character not in "|*+?^$":
            position += character == "\\"
            held[-1] += (last := 1)
        position += 1
    return sum(held)


def _end_of_class(pattern: str, begin: int) -> int:
    # A bracket that comes first stands for itself.
    position = begin + 1 + pattern.startswith("^", begin + 1)
    position += pattern.startswith("]", position)
    while position < len(pattern) and pattern[position] != "]":
        position += 1 + (pattern[position] == "\\")
    return position


def _most(found: re.Match[str]) -> int:
    """The larger number of a repeat, as far as it matters."""
    return max((int(digits[:9]) for digits in (found[1], found[3]) if digits), default=1)


def _check_places(key: str, places: int, where: str) -> None:
    if places > MAX_PLACES:
        raise InvalidInputError(
            f"{key} allows for {places} characters one by one, at most {MAX_PLACES} are taken; lower {where}"
        )


def _check_size(key: str, text: str) -> None:
    if (size := len(text.encode("utf-8", "replace"))) > MAX_FORM_BYTES:
        raise InvalidInputError(
            f"{key} has {size} bytes, at most {MAX_FORM_BYTES} are taken; make it smaller"
        )


def _check_text(key: str, text: str) -> None:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInputError(
            f"{key} holds a character that no answer can have (U+0000 or a half of a pair)"
        )


def _escaped(text: str) -> str:
    r"""As a string of an EBNF grammar: " and \ and what is not printable by number."""
    return "".join(
        f"\\{one}" if one in '"\\' else one if one.isprintable() else f"\\U{ord(one):08x}" for one in text
    )


def _shown(value: Any) -> str:
    return repr(value)[:40]
