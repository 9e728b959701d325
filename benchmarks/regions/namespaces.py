"""Network namespaces without names: each lives as long as a file of this process, or a process within it, does.

Nothing is written anywhere, so that nothing stays behind, however this process ends. Linux alone.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trireme.errors import UnsupportedError

TUN_DEVICE = Path("/dev/net/tun")
_OWN = "/proc/thread-self/ns/net"
# linux/sched.h, linux/if_tun.h, linux/sockios.h, linux/if.h
_CLONE_NEWNET = 0x4000_0000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x4004_54CA, 0x0001, 0x1000
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_IFF_UP_AND_RUNNING = 0x41
_AS_ROOT_OF_OWN = ("unshare", "--user", "--map-root-user", "--net", "--")
# In the environment of a process that was started so.
_STARTED_AGAIN = "REGIONS_STARTED_AGAIN"
# Kills a process when the one that started it is gone.
_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")


class Namespace:
    """A network of its own, with a loopback. `with namespace.entered():` puts the running thread into it; close it.

    Sockets that a thread opens there, and processes and threads that it starts, stay in it.
    """

    def __init__(self) -> None:
        """Raises UnsupportedError where this process may not make one."""
        self._links = 0
        before = _open_own()
        try:
            _unshare(_CLONE_NEWNET)
            try:
                self._file = _open_own()
                _configure("lo")
            finally:
                _enter(before)
        finally:
            os.close(before)

    def close(self) -> None:
        """It goes with the last process and socket within it. Safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The running thread is in it."""
        before = _open_own()
        try:
            _enter(self._file)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)

    def move_into(self) -> None:
        """The running thread, and those that it starts from now on, stay in it."""
        _enter(self._file)

    def start(self, command: Sequence[str], **more: Any) -> subprocess.Popen[Any]:
        """A process within it, which is killed when the thread that started it is gone. `more` as of Popen."""
        with self.entered():
            return start_within(None, command, **more)

    def connect(self, host: str, port: int, timeout_s: float = 10.0) -> socket.socket:
        """A TCP connection from within it. Raises OSError."""
        with self.entered():
            return socket.create_connection((host, port), timeout_s)

    def open_tun(self, address: str) -> int:
        """A new TUN device of that IPv4 address, in a network of four, and its file: packets, without blocking.

        The device is there until the file is closed. Raises UnsupportedError where there is no TUN.
        """
        name = f"link{self._links}"
        self._links += 1
        with self.entered():
            try:
                file = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                raise UnsupportedError(f"{TUN_DEVICE}: {error.strerror}") from None
            try:
                fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
                _configure(name, address)
            except OSError as error:
                os.close(file)
                raise UnsupportedError(f"{name} cannot be set up: {error.strerror}") from None
        return file


def start_within(namespace: Namespace | None, command: Sequence[str], **more: Any) -> subprocess.Popen[Any]:
    """As Namespace.start; without a namespace, in that of the running thread."""
    if namespace is not None:
        return namespace.start(command, **more)
    process = subprocess.Popen([*_WITH_PARENT, *command], **more)
    # Until setpriv has made way for the command, nothing kills the process with its parent.
    with suppress(OSError):
        while Path(f"/proc/{process.pid}/comm").read_text() == f"{_WITH_PARENT[0]}\n":
            time.sleep(0.001)
    return process


def find_hindrance() -> str:
    """Why this process cannot make namespaces and links; "" where it can."""
    try:
        one = Namespace()
    except UnsupportedError as error:
        return str(error)
    try:
        os.close(one.open_tun("198.18.0.1"))
        one.start(["true"]).wait()
    except (UnsupportedError, OSError) as error:
        return str(error)
    finally:
        one.close()
    return ""


def enter_own(module: str, words: Sequence[str]) -> Namespace:
    """A namespace for this process, in which its threads are from now on.

    Where it may make none it is started again, as root of a user namespace: `python -m MODULE WORDS`. Call it
    before threads open sockets. Raises UnsupportedError saying what is missing.
    """
    hindrance = find_hindrance()
    if hindrance and _STARTED_AGAIN not in os.environ and _can_be_root_of_own():
        again = [*_AS_ROOT_OF_OWN, sys.executable, "-m", module, *words]
        os.execvpe(again[0], again, {**os.environ, _STARTED_AGAIN: "1"})  # noqa: S606 - no words of strangers
    if hindrance:
        raise UnsupportedError(
            f"{hindrance}; namespaces and links need root or user namespaces (sysctl user.max_user_namespaces), "
            f"{TUN_DEVICE} that this user may open, and setpriv"
        )
    own = Namespace()
    own.move_into()
    return own


def _can_be_root_of_own() -> bool:
    try:
        tried = subprocess.run([*_AS_ROOT_OF_OWN, "true"], stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return False
    return tried.returncode == 0


def _open_own() -> int:
    """The namespace of the running thread. Raises UnsupportedError."""
    try:
        return os.open(_OWN, os.O_RDONLY)
    except OSError as error:
        raise UnsupportedError(f"{_OWN}: {error.strerror}; network namespaces are Linux's") from None


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _unshare(flags: int) -> None:
    if _libc().unshare(flags):
        raise UnsupportedError(f"no namespace can be made: {os.strerror(ctypes.get_errno())}")


def _enter(file: int) -> None:
    if _libc().setns(file, _CLONE_NEWNET):
        raise UnsupportedError(f"no namespace can be entered: {os.strerror(ctypes.get_errno())}")


def _configure(name: str, address: str = "") -> None:
    """Sets a device of this thread's namespace up. Raises OSError."""
    device = name.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        if address:
            for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, "255.255.255.252")):
                packed = struct.pack("16sHH4s16x", device, socket.AF_INET, 0, socket.inet_aton(value))
                fcntl.ioctl(control, request, packed)
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", device, _IFF_UP_AND_RUNNING))
