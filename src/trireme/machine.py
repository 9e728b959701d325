"""What stands beside every figure: the processor, its cores and memory, the versions installed."""

from __future__ import annotations

import os
import platform
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path

# Instruction sets that decide how fast int8 and fp32 matrices multiply.
FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")
# Where a container sees its own limits.
CONTROL_GROUP = Path("/sys/fs/cgroup")
DISTRIBUTIONS = (
    "trireme",
    "nvidia-pytriton",
    "tritonclient",
    "onnxruntime",
    "openvino",
    "tokenizers",
    "numpy",
)


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine. `cores` are those that this process may use; `flags` the instruction sets of FLAGS it has."""

    cpu: str
    cores: int
    flags: tuple[str, ...]
    memory_gib: float
    system: str


def read_machine() -> Machine:
    """Looks at this machine. Reads /proc; does not block."""
    cpu, flags = parse_cpuinfo(_read(Path("/proc/cpuinfo")))
    return Machine(
        cpu=cpu or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        flags=flags,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    )


@dataclass(frozen=True, slots=True)
class CoreShare:
    """Cores of one process among several. ids: as the kernel numbers them. count: that each has at least."""

    ids: tuple[int, ...]
    count: int


def share_cores(ids: Sequence[int], parts: int) -> list[CoreShare]:
    """`ids` for so many processes: each core to one of them; cores that are too few are shared."""
    count = max(1, len(ids) // parts)
    if len(ids) < parts:
        return [CoreShare((ids[part % len(ids)],), count) for part in range(parts)]
    ends = [len(ids) * part // parts for part in range(parts + 1)]
    return [CoreShare(tuple(ids[start:end]), count) for start, end in pairwise(ends)]


def read_free_memory() -> int:
    """Bytes that a new process may still take: of the machine, or of this control group where that has less."""
    free = re.search(r"^MemAvailable:\s+(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    found = int(free[1]) * 1024 if free else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    most, used = (_read(CONTROL_GROUP / name).strip() for name in ("memory.max", "memory.current"))
    return min(found, max(0, int(most) - int(used))) if most.isdecimal() and used.isdecimal() else found


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


def pick_ports(host: str, count: int) -> list[int]:
    """TCP ports that nobody listens on now. Another process may still take one before it is used."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((host, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
