"""What a run cost on the server's side: Triton's own counters, and processor time from /proc."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SAMPLE = re.compile(r'^(\w+)\{[^}]*model="([^"]+)"[^}]*\} (\S+)$', re.MULTILINE)
COUNTERS = {
    "nv_inference_request_success": "requests",
    "nv_inference_queue_duration_us": "queue_us",
    "trireme_encoder_tokens_total": "tokens",
    "trireme_encoder_pad_tokens_total": "pad_tokens",
    "trireme_encoder_micro_batches_total": "micro_batches",
    "trireme_encoder_request_seconds_total": "request_s",
}

Counts = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class StepLoad:
    """One model's share of a run. `queue_ms`: mean wait of a request in Triton's queue, which ends when a backend
    with a queue of its own takes it. `pad_share` is of all tokens run.
    """

    model: str
    requests: int
    queue_ms: float
    tokens: int
    tokens_per_micro_batch: float
    pad_share: float


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """Seconds of processor time so far: of one session of processes, and of the whole machine."""

    session_s: float
    machine_s: float


def read_counts(page: str) -> dict[str, dict[str, float]]:
    """Model -> counter -> value, of a Prometheus page; versions and instances of a model are added up."""
    counts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for name, model, value in _SAMPLE.findall(page):
        if name in COUNTERS:
            counts[model][COUNTERS[name]] += float(value)
    return {model: dict(values) for model, values in counts.items()}


def compare_counts(before: Counts, after: Counts) -> tuple[StepLoad, ...]:
    """The models that answered requests in between, by name."""
    loads = []
    for model in sorted(after):
        earlier = before.get(model, {})
        grown = {key: value - earlier.get(key, 0.0) for key, value in after[model].items()}
        requests = grown.get("requests", 0.0)
        if requests > 0:
            tokens, padding = grown.get("tokens", 0.0), grown.get("pad_tokens", 0.0)
            loads.append(
                StepLoad(
                    model=model,
                    requests=int(requests),
                    queue_ms=grown.get("queue_us", 0.0) / requests / 1000,
                    tokens=int(tokens),
                    tokens_per_micro_batch=tokens / max(grown.get("micro_batches", 0.0), 1.0),
                    pad_share=padding / max(tokens + padding, 1.0),
                )
            )
    return tuple(loads)


def read_processor_time(session: int, proc: Path = Path("/proc")) -> ProcessorTime:
    """Processor time of every live process of `session` (a server and its stubs), and of the machine."""
    tick = os.sysconf("SC_CLK_TCK")
    ticks = 0
    for stat in proc.glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold spaces: fields count from behind it.
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            ticks += int(fields[11]) + int(fields[12])
    user, nice, system, _idle, _iowait, irq, softirq = map(
        int, (proc / "stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:8]
    )
    return ProcessorTime(ticks / tick, (user + nice + system + irq + softirq) / tick)


def read_family_time(family: int, proc: Path = Path("/proc")) -> float:
    """Processor seconds so far of process `family` and all below it, those that ended included."""
    return _family_ticks(family, proc) / os.sysconf("SC_CLK_TCK")


def read_others_time(family: int, proc: Path = Path("/proc")) -> float:
    """Seconds so far that the machine was busy for others than process `family` and all below it.

    What a hypervisor took away counts too. Only differences mean something: they tell whether a run was alone.
    """
    ours = _family_ticks(family, proc)
    first = (proc / "stat").read_text(encoding="utf-8").split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, first[1:9])
    return (user + nice + system + irq + softirq + steal - ours) / os.sysconf("SC_CLK_TCK")


def _family_ticks(family: int, proc: Path) -> int:
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for stat in proc.glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
        # Its own time and that of its children which ended.
        ticks[int(stat.parent.name)] = sum(map(int, fields[11:15]))
    return sum(ticks[pid] for pid in ticks if _is_below(pid, family, parents))


def _is_below(pid: int, family: int, parents: Mapping[int, int]) -> bool:
    while pid and pid != family:
        pid = parents.get(pid, 0)
    return pid == family
