"""What stands beside every figure: the machine, the versions, the command. And tables in Markdown."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "benchmarks" / "results"
DOCS = PROJECT / "docs"
# Instruction sets that decide how fast int8 and fp32 matrices multiply.
FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")
DISTRIBUTIONS = ("trireme", "nvidia-pytriton", "tritonclient", "onnxruntime", "tokenizers", "numpy")


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
    cpu, flags = parse_cpuinfo(_read(Path("/proc/cpuinfo")))
    return Circumstances(
        cpu=cpu or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        flags=flags,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        load=round(os.getloadavg()[0], 1),
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        versions=read_versions(),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        seed=seed,
        command=shorten_command(script, arguments),
    )


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Model name and the instruction sets of FLAGS that the first core has."""
    first: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        first.setdefault(key.strip(), value.strip())
    have = set((first.get("flags") or first.get("Features", "")).split())
    return first.get("model name", ""), tuple(flag for flag in FLAGS if flag in have)


def read_versions() -> dict[str, str]:
    """Installed versions of the distributions that the figures depend on."""
    versions = {}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


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


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
