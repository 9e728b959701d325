"""One `trireme serve` for chaos: its processes, its small disks, and what they hold."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import psutil

from trireme.local.postgres import DATABASE_USER
from trireme.triton.stubs import STUB

SHM_BYTES = 96 << 20
DISK_BYTES = 768 << 20
# A mount namespace of its own, so that filling a disk or /dev/shm concerns nobody else.
OWN_DISKS = (
    'mount -t tmpfs -o size="$1" tmpfs /dev/shm && mount -t tmpfs -o size="$2" tmpfs "$3"'
    ' && shift 3 && exec "$@"'
)


def can_mount() -> bool:
    """Whether this user may make mounts of its own."""
    probe = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    try:
        return subprocess.run(probe, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class ChaosStack:
    """The processes of one `trireme serve`. Those are looked up anew at each call, since they die."""

    def __init__(self, settings, environ, log: Path):
        self.settings = settings
        self.has_own_disks = can_mount()
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "trireme.cli", "serve"]
        if self.has_own_disks:
            sizes = (str(SHM_BYTES), str(DISK_BYTES), str(settings.data_dir))
            command = [
                *("unshare", "--mount", "--propagation", "private", "sh", "-c", OWN_DISKS, "sh", *sizes),
                *command,
            ]
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )

    @property
    def data_dir(self) -> Path:
        """The data directory as this process sees it."""
        return self._seen(self.settings.data_dir)

    @property
    def shm_dir(self) -> Path:
        """Its /dev/shm as this process sees it."""
        return self._seen(Path("/dev/shm"))

    @property
    def database_url(self) -> str | None:
        """The URL of its PostgreSQL, or None while it is down."""
        # running_url would resolve the path, and so leave the mount namespace.
        pid_file = self.data_dir / "postgres" / "cluster" / "postmaster.pid"
        try:
            lines = pid_file.read_text().splitlines()
            is_up = "ready" in lines[-1] and (Path(lines[4]) / ".s.PGSQL.5432").exists()
        except (OSError, IndexError):
            return None
        return f"postgresql://{DATABASE_USER}@/postgres?host={quote(lines[4], safe='')}" if is_up else None

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self) -> int:
        """Ctrl-C; returns its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)

    def family(self) -> list[psutil.Process]:
        """Everything that it started, PostgreSQL too, which has a session of its own."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def find(self, target: str, choice=None) -> psutil.Process | None:
        """One process: tritonserver, worker, engine, postgres (its first), backend (one of its others), or stub."""
        found = [process for process in self.family() if _is(process, target)]
        if not found:
            return None
        return choice(found) if choice else found[0]

    def sizes(self) -> dict[str, float]:
        """What the family holds: processes, threads, descriptors, resident and shared MB, zombies."""
        total = dict.fromkeys(("processes", "threads", "descriptors", "rss_mb", "zombies"), 0.0)
        for process in self.family():
            try:
                with process.oneshot():
                    total["zombies"] += process.status() == psutil.STATUS_ZOMBIE
                    total["threads"] += process.num_threads()
                    total["descriptors"] += process.num_fds()
                    total["rss_mb"] += process.memory_info().rss / 1e6
                    # PostgreSQL has one for each connection.
                    total["processes"] += 1
            except psutil.Error:
                continue
        files = list(self.shm_dir.glob("triton_*"))
        total["shm_files"] = len(files)
        total["shm_mb"] = sum(path.stat().st_blocks * 512 for path in files) / 1e6
        return total

    def _seen(self, path: Path) -> Path:
        if not self.has_own_disks:
            return path
        return Path(f"/proc/{self.process.pid}/root{path.resolve()}")


def _is(process: psutil.Process, target: str) -> bool:
    try:
        line, status = process.cmdline(), process.status()
    except psutil.Error:
        return False
    if not line or status == psutil.STATUS_ZOMBIE:
        return False
    name = Path(line[0]).name
    return {
        "tritonserver": name == "tritonserver",
        "stub": name == STUB,
        "engine": "trireme.generate.openvino_worker" in line,
        "worker": "worker" in line and "trireme.cli" in line,
        "postgres": name == "postgres" and len(line) > 1,
        "backend": line[0].startswith("postgres: "),
    }[target]


def signal_to(process: psutil.Process | None, number: int) -> bool:
    """Whether there was such a process to send it to."""
    if process is None:
        return False
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def fill(folder: Path, stays_free: int) -> Path:
    """A file that leaves so many bytes of the file system of `folder` free."""
    path = folder / "chaos.fill"
    stat = os.statvfs(folder)
    size = stat.f_bavail * stat.f_frsize - stays_free
    with path.open("wb") as file:
        if size > 0:
            os.posix_fallocate(file.fileno(), 0, size)
    return path


def pause(seconds: float) -> None:
    """Lets `seconds` pass: a fault lasts."""
    time.sleep(seconds)
