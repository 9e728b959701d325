"""Processes of a server: which there are, and what they take."""

from pathlib import Path

import psutil

MIB = 2**20


class Watch:
    """Knows the processes of one tritonserver, found by its pid."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._first = self.processes()

    def processes(self) -> dict[int, str]:
        """Pid -> name of the server, its stubs and engines."""
        try:
            server = psutil.Process(self.pid)
            family = [server, *server.children(recursive=True)]
        except psutil.NoSuchProcess:
            return {}
        found = {}
        for one in family:
            try:
                if one.status() != psutil.STATUS_ZOMBIE:
                    found[one.pid] = _name(one)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def ended(self) -> list[str]:
        """Names of processes that were there at first, or at the last call, and are not any more."""
        now = self.processes()
        gone = [f"{name} ({pid})" for pid, name in self._first.items() if pid not in now]
        self._first = now
        return gone

    def memory(self) -> dict[str, float]:
        """MiB that each process holds by itself, by its name, and of shared memory files."""
        held = {}
        for pid, name in self.processes().items():
            try:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            except OSError:
                continue
            sizes = dict(line.split(":", 1) for line in lines)
            held[name] = held.get(name, 0.0) + int(sizes["RssAnon"].split()[0]) / 1024
        held["shared memory"] = sum(self._shared_files()) / MIB
        return held

    def _shared_files(self) -> list[int]:
        sizes = {}
        for pid in self.processes():
            try:
                maps = Path(f"/proc/{pid}/maps").read_text()
            except OSError:
                continue
            for line in maps.splitlines():
                path = line.partition("/dev/shm/")[2]
                file = Path("/dev/shm") / path
                if path and file.is_file():
                    sizes[path] = file.stat().st_blocks * 512
        return list(sizes.values())


def _name(process: psutil.Process) -> str:
    line = process.cmdline()
    if process.name().startswith("triton_python"):
        # .../model_repository/NAME/1/model.py or the backend's folder; the instance's name is an argument.
        return "stub " + next(
            (part for part in reversed(line) if "_0" in part and "/" not in part), " ".join(line[1:])
        )
    return "engine" if any("openvino" in part for part in line) else process.name()
