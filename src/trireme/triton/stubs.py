"""The processes of a tritonserver that Triton does not watch: one stub for each instance of a Python model.

Triton does not start a stub that ended again (triton-inference-server/server#8604), and calls its model ready. One
that stands still for a second is given up by Triton too; when it goes on, it takes tritonserver down.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STUB = "triton_python_backend_stub"
STOPPED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Stub:
    """One stub, and the model that it runs."""

    pid: int
    model: str


class StubTable:
    """The stubs of one running server. Does not block."""

    def __init__(self, server_pid: int) -> None:
        """Reads the process tree once: call it when every model is loaded."""
        import psutil

        self._psutil: Any = psutil
        self._processes: dict[Stub, Any] = {}
        self._stopped_at: dict[Stub, float] = {}
        self._server: Any = None
        try:
            self._server = psutil.Process(server_pid)
            children = self._server.children()
        except psutil.NoSuchProcess:
            return
        for process in children:
            try:
                arguments = process.cmdline()
            except psutil.Error:
                continue
            if arguments and arguments[0].endswith(STUB):
                self._processes[Stub(process.pid, _model_of(arguments))] = process

    @property
    def stubs(self) -> tuple[Stub, ...]:
        """All that ran at the beginning."""
        return tuple(self._processes)

    def ended(self) -> list[str]:
        """Models with a stub that is gone, or stopped since STOPPED_SECONDS. Sorted, each once."""
        return sorted(
            {stub.model for stub, process in self._processes.items() if self._is_lost(stub, process)}
        )

    def resident_bytes(self) -> int:
        """Resident memory of tritonserver and its stubs; 0 where it is gone."""
        total = 0
        for process in (self._server, *self._processes.values()):
            try:
                total += process.memory_info().rss if process is not None else 0
            except self._psutil.Error:
                continue
        return total

    def own_bytes(self) -> int:
        """As `resident_bytes`, without what a second server would share with it, such as files of weights."""
        total = 0
        for process in (self._server, *self._processes.values()):
            try:
                memory = process.memory_info() if process is not None else None
            except self._psutil.Error:
                continue
            total += memory.rss - memory.shared if memory is not None else 0
        return total

    def _is_lost(self, stub: Stub, process: Any) -> bool:
        try:
            status = process.status() if process.is_running() else self._psutil.STATUS_DEAD
        except self._psutil.NoSuchProcess:
            return True
        if status == self._psutil.STATUS_STOPPED:
            return time.monotonic() - self._stopped_at.setdefault(stub, time.monotonic()) > STOPPED_SECONDS
        self._stopped_at.pop(stub, None)
        # Triton does not reap it: a stub that ended stays as a zombie.
        return status in (self._psutil.STATUS_DEAD, self._psutil.STATUS_ZOMBIE)


def _model_of(arguments: list[str]) -> str:
    """The model's folder, from the first argument: <repository>/<model>/<version>/model.py."""
    parts = Path(arguments[1]).parts if len(arguments) > 1 else ()
    return parts[-3] if len(parts) >= 3 else "of unknown name"
