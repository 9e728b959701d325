"""How a key of recipes is declared: which kinds have it, what it is used for there, and what it may be."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import field
from typing import Any

from trireme.artifacts.kinds import Kind

# Whether the recipes of a kind have a key, or what it is used for there.
Trait = Callable[[Kind], bool]


def every(_kind: Kind) -> bool:
    """The trait of all kinds."""
    return True


def recipe_key(
    default: Any,
    kinds: Trait = every,
    *,
    builds: bool | Trait = False,
    parameter: bool | Trait = False,
    help: str = "",
    least: float | None = None,
    most: float | None = None,
    choices: Collection[str] = (),
) -> Any:
    """A key of the recipes of `kinds`.

    builds: changes the built files. parameter: the backend reads it in config.pbtxt. Both may be so of some of the
    kinds alone. help: of the build script's argument, which every key that builds has.
    """

    def used(use: bool | Trait) -> Trait:
        return use if callable(use) else kinds if use else lambda _kind: False

    uses = {"builds": used(builds), "parameter": used(parameter), "argument": used(builds or help != "")}
    limits = {"least": least, "most": most, "choices": choices}
    return field(default=default, metadata={"kinds": kinds, **uses, "help": help, **limits})
