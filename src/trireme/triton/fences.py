"""What keeps one request from ending or opening tritonserver 2.51, where only later versions have the mend; and the
cores that it keeps to."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

# Of requests to locked protocols; nobody is told its value.
LOCKED_HEADER = "trireme-locked"
LOCKED = ("trace", "logging")
SHARED_MEMORY = "shared-memory"
# Triton reads JSON recursively, 76 bytes of stack for each level: 8 MB end at 110,000 levels, this at 14 million.
STACK_BYTES = 1 << 30
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
STRICT = "2"


def lock_protocols(*, opens_shared_memory: bool = False) -> list[str]:
    """Options under which no client changes logs or traces, or maps memory of other processes."""
    locked = LOCKED if opens_shared_memory else (SHARED_MEMORY, *LOCKED)
    lock = f"{','.join(locked)}:{LOCKED_HEADER}={secrets.token_hex(16)}"
    return [f"--http-restricted-api={lock}", f"--grpc-restricted-protocol={lock}"]


def deepen_stacks(command: Sequence[str]) -> list[str]:
    """`command`, started so that its threads have stacks of STACK_BYTES. Only what is used takes memory.

    Unchanged without prlimit, which util-linux brings, and where the kernel counts what is only promised.
    """
    prlimit = shutil.which("prlimit")
    if prlimit is None or (OVERCOMMIT.is_file() and OVERCOMMIT.read_text().strip() == STRICT):
        return list(command)
    return [prlimit, f"--stack={STACK_BYTES}:", *command]


def keep_to_cores(command: Sequence[str], cores: Sequence[int]) -> list[str]:
    """`command`, started so that it and its stubs run on `cores` alone; engines count their threads by them.

    Unchanged for none, and without taskset, which util-linux brings.
    """
    taskset = shutil.which("taskset")
    if taskset is None or not cores:
        return list(command)
    return [taskset, "-c", ",".join(map(str, cores)), *command]
