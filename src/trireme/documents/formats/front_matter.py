"""Front matter of Markdown files: YAML, TOML or JSON above the text, as static site generators read it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from functools import cache
from typing import Any, ClassVar

from trireme.documents.formats.text import clean

# Longer ones are text.
FRONT_CHARACTERS = 1 << 16
YAML = re.compile(r"---[ \t]*(?:yaml)?[ \t]*\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
TOML = re.compile(r"(\+\+\+|---[ \t]*toml)[ \t]*\n(.*?\n)?(\+\+\+|---)[ \t]*(?:\n|\Z)", re.DOTALL)
JSON_BLOCK = re.compile(r"(?:---[ \t]*json|;;;)[ \t]*\n(.*?\n)?(?:---|;;;)[ \t]*(?:\n|\Z)", re.DOTALL)
# What a block that is no YAML by the letter (`title: Tides: a guide`) has in all of its lines.
YAML_LIKE = re.compile(r"(?:\s*|[ \t].*|#.*|- .*|[\w.\"'-][^:\n]*:(?:\s.*)?)")
YAML_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.*?)[ \t]*$", re.MULTILINE | re.IGNORECASE)


# YAML 1.2's types where a reader and YAML agree: yes, 12:30 and 007 are words.
YAML_TYPES = {
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    "float": (r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)\.[0-9]*)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
}


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """The title, and all else as JSON."""

    title: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


def split_front_matter(text: str) -> tuple[FrontMatter, str]:
    """The front matter at the very start of `text`, and the text below it; all of it where there is none.

    A block that is no mapping, such as a paragraph between two rules, is text.
    """
    head = text[:FRONT_CHARACTERS]
    for read in (_read_toml, _read_json, _read_yaml):
        found = read(head)
        if found is not None:
            fields, end = found
            return _front_matter(fields), text[end:]
    return FrontMatter(), text


def _front_matter(fields: Mapping[str, Any]) -> FrontMatter:
    plain = {clean(str(key)): _plain(value) for key, value in fields.items()}
    name = next((key for key in plain if key.lower() == "title"), "")
    title = plain.pop(name, "")
    return FrontMatter("" if title is None or isinstance(title, dict | list) else str(title), plain)


def _plain(value: Any) -> Any:
    """As JSON has it; what JSON has not, as text."""
    if isinstance(value, Mapping):
        return {clean(str(key)): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    return value.isoformat() if isinstance(value, date | time) else clean(str(value))


def _read_yaml(head: str) -> tuple[Mapping[str, Any], int] | None:
    import yaml

    found = YAML.match(head)
    if not found:
        return None
    source = found[1] or ""
    try:
        fields = _parse_yaml(source)
    except (yaml.YAMLError, ValueError, RecursionError):
        if not all(YAML_LIKE.fullmatch(line) for line in source.split("\n")):
            return None
        title = YAML_TITLE.search(source)
        fields = {"title": title[1].strip("\"'")} if title else {}
    return None if fields is None else (fields, found.end())


def _parse_yaml(source: str) -> Mapping[str, Any] | None:
    """The mapping, None where it is something else. A title is the text as it stands there.

    Raises YAMLError, ValueError or RecursionError for what is no YAML.
    """
    import yaml

    loader = _yaml_loader()(source)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            return None
        fields: dict[str, Any] = loader.construct_document(node)
        for key, value in node.value:
            is_text = isinstance(value, yaml.ScalarNode) and not value.tag.endswith(":null")
            if str(key.value).lower() == "title" and is_text:
                fields[key.value] = value.value
        return fields
    finally:
        loader.dispose()


@cache
def _yaml_loader() -> Any:
    """PyYAML's safe loader without aliases, which can stand for gigabytes."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases are not read")
            return super().compose_node(parent, index)

    for name, (pattern, first) in YAML_TYPES.items():
        signs = [*first, ""] if name == "null" else list(first)
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(f"(?:{pattern})$"), signs)
    return Loader


def _read_toml(head: str) -> tuple[Mapping[str, Any], int] | None:
    found = TOML.match(head)
    if not found or (found[1] == "+++") != (found[3] == "+++"):
        return None
    try:
        return tomllib.loads(found[2] or ""), found.end()
    except (ValueError, RecursionError):
        return None


def _read_json(head: str) -> tuple[Mapping[str, Any], int] | None:
    """An object before the text, as Hugo has it, or one between marks."""
    found = JSON_BLOCK.match(head)
    try:
        if found:
            fields, end = json.loads(found[1] or "{}"), found.end()
        elif head.startswith("{"):
            fields, end = json.JSONDecoder().raw_decode(head)
            rest = head[end:].lstrip(" \t")
            if rest[:1] not in {"", "\n"}:
                return None
        else:
            return None
    except (ValueError, RecursionError):
        return None
    return (fields, end) if isinstance(fields, dict) else None
