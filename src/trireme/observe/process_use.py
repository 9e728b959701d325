"""What a process and its children use of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """memory_bytes: resident, shared pages counted in each process. cpu_seconds: since each began."""

    memory_bytes: int
    cpu_seconds: float


def read_use(pid: int, proc: Path = PROC) -> ProcessUse | None:
    """Of a process and all that it has started and that still run; None where /proc does not say. Never raises."""
    page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    memory = ticks = 0
    found = False
    for one in _family(pid, proc):
        # A process that ends meanwhile uses nothing.
        with suppress(OSError, ValueError, IndexError):
            pages = int((proc / str(one) / "statm").read_text().split()[1])
            # The name before it may hold spaces and brackets.
            fields = (proc / str(one) / "stat").read_text().rpartition(")")[2].split()
            memory, ticks, found = memory + pages * page, ticks + int(fields[11]) + int(fields[12]), True
    return ProcessUse(memory, ticks / tick) if found else None


def _family(pid: int, proc: Path) -> Iterator[int]:
    waiting, seen = [pid], set[int]()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        yield one
        with suppress(OSError, ValueError):
            for children in (proc / str(one) / "task").glob("*/children"):
                waiting += map(int, children.read_text().split())
