"""The keys of a recipe as arguments of the script that builds its model."""

from __future__ import annotations

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from typing import Any, get_origin, get_type_hints

from trireme.artifacts.kinds import KINDS, Builder
from trireme.artifacts.recipe import Recipe, argument_fields
from trireme.artifacts.recipe_values import plain_type


def add_recipe_arguments(parser: ArgumentParser, builder: Builder) -> None:
    """An argument for each key that `builder` may be told; `source` is positional. One not given is None."""
    hints = get_type_hints(Recipe)
    kinds = [kind.name for kind in KINDS.values() if kind.builder == builder]
    for spec in argument_fields(builder):
        flag = f"--{spec.name.replace('_', '-')}"
        options: dict[str, Any] = {"help": spec.metadata["help"], "default": None}
        chosen = kinds if spec.name == "kind" else list(spec.metadata["choices"])
        if spec.name == "precision":
            chosen = [one for one in KINDS[kinds[0]].precisions if one]
        value_type = plain_type(hints[spec.name])
        if spec.name == "source":
            parser.add_argument(spec.name, nargs="?", **options)
        elif value_type is bool:
            parser.add_argument(flag, action=BooleanOptionalAction, **options)
        elif get_origin(value_type) is tuple:
            parser.add_argument(flag, nargs="+", metavar=spec.name.upper(), **options)
        elif len(chosen) != 1:
            parser.add_argument(flag, type=value_type, choices=chosen or None, **options)


def given_values(given: Namespace, builder: Builder) -> dict[str, Any]:
    """The keys that the command line sets, with their values."""
    values = {spec.name: getattr(given, spec.name, None) for spec in argument_fields(builder)}
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in values.items()
        if value is not None
    }
