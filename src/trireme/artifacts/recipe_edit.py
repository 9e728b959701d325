"""Changes numbers in the text of a recipe.toml: every other character, comments and order, stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from trireme.artifacts.recipe import RECIPE_FILE, Recipe, parse_recipe
from trireme.errors import SettingError

TABLE = "serving"


def edit_recipe(text: str, model: str, changes: Mapping[str, int]) -> str:
    """`text` with the keys of `changes` set: in their own lines, or new ones at the end of [serving]. Pure.

    The result is read back and must be the old recipe with these keys changed. Raises SettingError naming
    the key where no edit of one line does that (an inline table, say).
    """
    for key, value in changes.items():
        changed: dict[str, Any] = {key: value}
        wanted = replace(parse_recipe(text, model), **changed)
        for edited in (text, *_edits(text, key, value)):
            if _reads_as(edited, wanted):
                text = edited
                break
        else:
            raise SettingError(f"cannot set {key} in {model}/{RECIPE_FILE}; write {key} = {value} by hand")
    return text


def _reads_as(text: str, wanted: Recipe) -> bool:
    try:
        return parse_recipe(text, wanted.model) == wanted
    except SettingError:
        return False


def _edits(text: str, key: str, value: int) -> Iterator[str]:
    """Texts in which one line that may be the key's is changed, then texts with a line more."""
    line = rf"^([ \t]*(?:{TABLE}[ \t]*\.[ \t]*)?[\"']?{key}[\"']?[ \t]*=[ \t]*)([+-]?[0-9][0-9_]*)"
    for found in re.finditer(line, text, re.MULTILINE):
        yield f"{text[: found.start(2)]}{value}{text[found.end(2) :]}"
    end = "\r\n" if "\r\n" in text else "\n"
    for header in re.finditer(rf"^[ \t]*\[[ \t]*{TABLE}[ \t]*\][^\n]*(?:\n|\Z)", text, re.MULTILINE):
        place = _find_table_end(text, header.end())
        before = text[:place] if text[:place].endswith("\n") else text[:place] + end
        yield f"{before}{key} = {value}{end}{text[place:]}"
    before = text if not text or text.endswith("\n") else text + end
    yield f"{before}{end if before else ''}[{TABLE}]{end}{key} = {value}{end}"


def _find_table_end(text: str, start: int) -> int:
    """Behind the last line of the table that begins at `start` which is neither blank nor a comment."""
    following = re.compile(r"^[ \t]*\[", re.MULTILINE).search(text, start)
    place = start
    for line in re.finditer(
        r"[^\n]*(?:\n|\Z)", text[: following.start() if following else len(text)][start:]
    ):
        if line.group().strip() and not line.group().lstrip().startswith("#"):
            place = start + line.end()
    return place
