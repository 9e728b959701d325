"""What the fake engine writes where an answer is held to a form: the least that the form takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from trireme.errors import InvalidInputError
from trireme.generate.engine import StructuredOutput

_MAX_DEPTH = 16
_CHOICES = re.compile(r'root ::= ("(?:[^"\\]|\\["\\])*")(?: \| .*)?')


def least_text(form: StructuredOutput) -> str:
    """The first choice, or a small instance of a simple schema. Raises InvalidInputError for other forms."""
    if form.kind == "json":
        schema = json.loads(form.text)
        return json.dumps(_instance(schema, schema, 0), ensure_ascii=False)
    found = _CHOICES.fullmatch(form.text)
    if form.kind == "grammar" and found:
        return str(json.loads(found[1]))
    raise InvalidInputError(f"the fake engine is held to no {form.kind}; send json or choice")


def _instance(schema: Any, root: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise InvalidInputError("the fake engine is held to no schema that repeats itself")
    if "$ref" in schema:
        target = root
        for name in schema["$ref"].split("/")[1:]:
            target = target[name]
        return _instance(target, root, depth + 1)
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if values:
        return values[0]
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return _instance(several[0], root, depth + 1)
    return _of_type(schema, lambda inner: _instance(inner, root, depth + 1))


def _of_type(schema: Any, instance: Callable[[Any], Any]) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "null")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            return {name: instance(one) for name, one in schema.get("properties", {}).items()}
        case "array":
            return [instance(schema.get("items", {})) for _ in range(schema.get("minItems", 1))]
        case "string":
            return "a" * max(1, schema.get("minLength", 1))
        case "integer" | "number":
            return schema.get("minimum", 1)
        case other:
            return True if other == "boolean" else None
