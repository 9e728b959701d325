"""What stands beside every figure, and how results and pages are written: JSON, and Markdown from templates."""

from __future__ import annotations

import json
import os
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from trireme.errors import InvalidInputError
from trireme.machine import read_machine, read_versions

PROJECT = Path(__file__).resolve().parents[2]
RESULTS = PROJECT / "benchmarks" / "results"
DOCS = PROJECT / "docs"
END = "<!-- end -->"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Where, when and how a run was made. `load` is the load average over one minute before it began."""

    cpu: str
    cores: int
    flags: tuple[str, ...]
    memory_gib: float
    load: float
    system: str
    versions: dict[str, str]
    date: str
    seed: int
    command: str


def read_circumstances(module: str, arguments: Sequence[str], seed: int) -> Circumstances:
    """Looks at this machine and environment. `module`: dotted, as `python -m` takes it. Does not block."""
    machine = read_machine()
    return Circumstances(
        **asdict(machine),
        load=round(os.getloadavg()[0], 1),
        versions=read_versions(),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        seed=seed,
        command=shorten_command(module, arguments),
    )


def shorten_command(module: str, arguments: Sequence[str]) -> str:
    """The command line with absolute paths cut to their last part: a report names no machine's folders."""
    shown = [f".../{Path(word).name}" if Path(word).is_absolute() else word for word in arguments]
    return " ".join(["python", "-m", module, *shown])


def render(template: str, **values: Any) -> str:
    """A template of benchmarks/ with `values`; a name that is not among them is an error."""
    text = _environment().get_template(template).render(**values)
    # What conditions and loops leave behind: blanks at the ends of lines, more than one empty line.
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" +\n", "\n", text)).strip() + "\n"


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(  # noqa: S701 - Markdown
        loader=FileSystemLoader(PROJECT / "benchmarks"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {"fmt": format_cell, "pairs": format_pairs}
    return found


def format_cell(value: Any, form: str = "", nothing: str = "") -> str:
    """By a format of Python's; `nothing` for None."""
    return nothing if value is None else format(value, form)


def format_pairs(values: Mapping[str, Any], form: str = "") -> str:
    """ "name value, name value"."""
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


def write_json(path: Path, record: Any) -> None:
    """Writes a dataclass, or what JSON has, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    plain = asdict(record) if is_dataclass(record) and not isinstance(record, type) else record
    temporary.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """What is kept in a file of results; nothing where it is not there."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def read_record(path: Path, kind: type[T]) -> T:
    """A dataclass that `write_json` wrote. Raises InvalidInputError naming a file that holds none."""
    try:
        found: T = _build(kind, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{path} is no {kind.__name__} ({error!r}); delete it and measure again"
        raise InvalidInputError(what) from None
    return found


def _build(kind: Any, value: Any) -> Any:
    """`value` of JSON as what an annotation says: dataclasses, tuples and dicts of them, or None."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind):
        fields = typing.get_type_hints(kind)
        return kind(**{name: _build(fields[name], one) for name, one in value.items()})  # type: ignore[operator]
    if origin is types.UnionType:
        return None if value is None else _build(inner[0], value)
    if origin is tuple:
        return tuple(_build(inner[0], one) for one in value)
    return {name: _build(inner[1], one) for name, one in value.items()} if origin is dict else value


def write_section(page: Path, name: str, section: str) -> None:
    """Puts `section` between the marks of `name`. Raises InvalidInputError when they are not there."""
    begin = f"<!-- begin: {name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise InvalidInputError(f"{page} has no lines {begin} and {END}; put them in")
    page.write_text(f"{before}{begin}\n\n{section.strip()}\n\n{END}{after}", encoding="utf-8")


def show_progress_note(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)
