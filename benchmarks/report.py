"""What stands beside every figure: the machine, the versions, the command. And tables in Markdown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trireme.machine import read_machine, read_versions

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "benchmarks" / "results"
DOCS = PROJECT / "docs"


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


def read_circumstances(script: str, arguments: Sequence[str], seed: int) -> Circumstances:
    """Look at this machine and environment. Reads /proc; does not block."""
    machine = read_machine()
    return Circumstances(
        cpu=machine.cpu,
        cores=machine.cores,
        flags=machine.flags,
        memory_gib=machine.memory_gib,
        load=round(os.getloadavg()[0], 1),
        system=machine.system,
        versions=read_versions(),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        seed=seed,
        command=shorten_command(script, arguments),
    )


def shorten_command(script: str, arguments: Sequence[str]) -> str:
    """The command line with absolute paths cut to their last part: a report names no machine's folders."""
    shown = [f".../{Path(word).name}" if Path(word).is_absolute() else word for word in arguments]
    return " ".join(["python", f"benchmarks/{Path(script).name}", *shown])


def format_circumstances(seen: Circumstances) -> str:
    """A Markdown list."""
    flags = ", ".join(seen.flags) or "none of those that matter"
    versions = ", ".join(f"{name} {version}" for name, version in seen.versions.items())
    return "\n".join(
        [
            f"- Machine: {seen.cpu}, {seen.cores} cores, {flags}; {seen.memory_gib:g} GiB; {seen.system}",
            f"- Load average when it began: {seen.load:g}",
            f"- Versions: {versions}",
            f"- {seen.date}, seed {seen.seed}: `{seen.command}`",
        ]
    )


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def write_json(path: Path, record: Any) -> None:
    """Write a dataclass as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def show_progress_note(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)
