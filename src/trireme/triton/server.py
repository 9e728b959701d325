"""Starts the tritonserver that the nvidia-pytriton wheel carries, and ends it."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shlex
import signal
import socket
import sys
import sysconfig
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trireme.errors import SettingError, UnavailableError, UnsupportedError
from trireme.triton.fences import deepen_stacks, keep_to_cores, lock_protocols
from trireme.triton.mended import read_mended
from trireme.triton.process import end_process, has_ended, start_process
from trireme.triton.shared_memory import remove_leftovers

STOP_SECONDS = 15.0
SERVER_NAME = "tritonserver"


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What one server needs. Ports are TCP ports on `host`."""

    host: str
    http_port: int
    grpc_port: int
    metrics_port: int
    model_repository: Path
    backend_directory: Path
    log_file: Path
    response_cache_bytes: int = 0
    opens_shared_memory: bool = False
    # Of configs/NAME.pbtxt in a model's folder, which is read instead of its config.pbtxt; "": none.
    config_name: str = ""
    # That it and its stubs keep to; (): all that this process may use.
    cores: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """Where the wheel keeps the server: its binary, shared libraries, caches and Python backend."""

    binary: Path
    libraries: Path
    caches: Path
    python_backend: tuple[Path, ...]


def find_server() -> ServerFiles:
    """The server in this interpreter's environment. Raises UnsupportedError saying what to install."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise UnsupportedError(
            "no tritonserver in this environment; install it with: pip install 'trireme[local]',"
            " or use NVIDIA's container (deploy/)"
        )
    package = Path(spec.submodule_search_locations[0])
    root = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise UnsupportedError(f"the server has no stub for Python {version}; use Python 3.11 to 3.13")
    backend = root / "backends" / "python"
    return ServerFiles(
        binary=root / "bin" / "tritonserver",
        libraries=package.parent / "nvidia_pytriton.libs",
        caches=root / "caches",
        python_backend=(stub, backend / "libtriton_python.so", backend / "triton_python_backend_utils.py"),
    )


def place_python_backend(files: ServerFiles, backend_directory: Path) -> None:
    """Puts the server's own Python backend beside ours, where tritonserver looks for it, and a copy of the server.

    Idempotent. What is copied is mended: see trireme.triton.mended.
    """
    stub, *copied = files.python_backend
    folder = backend_directory / "python"
    folder.mkdir(exist_ok=True)
    # Several servers of one supervisor may start at once.
    fresh = folder / f".fresh.{os.getpid()}.{threading.get_ident()}"
    # A copied stub does not find its libraries, and a linked library is refused as outside of its folder.
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(stub)
    fresh.replace(folder / stub.name)
    for source in (*copied, files.binary):
        target, content = folder / source.name, read_mended(source)
        if not target.exists() or target.read_bytes() != content:
            fresh.write_bytes(content)
            fresh.replace(target)
    for executable in (files.binary, folder / files.binary.name, stub):
        if not os.access(executable, os.X_OK):
            executable.chmod(0o755)


def server_environment(files: ServerFiles, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` plus what tritonserver and its Python stubs need. Raises UnsupportedError without libpython."""
    libraries = [str(files.libraries), *environ.get("LD_LIBRARY_PATH", "").split(":")]
    if folder := _find_libpython():
        libraries.insert(0, folder)
    # The stub takes its prefix, and so its packages, from the first python3 on the path.
    path = f"{Path(sys.executable).parent}:{files.binary.parent}:{environ.get('PATH', os.defpath)}"
    library_path = ":".join(filter(None, libraries))
    # Large requests leave holes in glibc's arenas, of which it makes eight a core: two hold half as much.
    return {"MALLOC_ARENA_MAX": "2", **environ, "PATH": path, "LD_LIBRARY_PATH": library_path}


def _find_libpython() -> str | None:
    """The folder of this interpreter's shared library, or None where the loader finds it by itself."""
    name = sysconfig.get_config_var("INSTSONAME") or ""
    if ".so" not in name:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        name = f"libpython{version}.so.1.0"
    folder = Path(sysconfig.get_config_var("LIBDIR") or "/nonexistent")
    if (folder / name).is_file():
        return str(folder)
    try:
        ctypes.CDLL(name)
    except OSError:
        package = name.split(".so")[0]
        raise UnsupportedError(
            f"the shared library {name} is missing; install it with: apt-get install {package}"
        ) from None
    return None


def server_command(config: ServerConfig, files: ServerFiles) -> list[str]:
    """The command line, as a user would type it."""
    command = [
        str(config.backend_directory / "python" / files.binary.name),
        f"--model-repository={config.model_repository}",
        f"--backend-directory={config.backend_directory}",
        f"--http-address={config.host}",
        f"--http-port={config.http_port}",
        f"--grpc-address={config.host}",
        f"--grpc-port={config.grpc_port}",
        f"--metrics-address={config.host}",
        f"--metrics-port={config.metrics_port}",
        # Our configurations are complete; completing them would start every model's interpreter twice.
        "--disable-auto-complete-config",
        "--exit-timeout-secs=5",
        # gRPC ends a connection that is pinged more than twice while it is quiet, and all its streams: a balancer
        # pings to find out whether the other side is still there.
        "--grpc-http2-max-ping-strikes=0",
    ]
    if config.response_cache_bytes:
        command += [
            f"--cache-directory={files.caches}",
            f"--cache-config=local,size={config.response_cache_bytes}",
        ]
    if config.config_name:
        command.append(f"--model-config-name={config.config_name}")
    command += lock_protocols(opens_shared_memory=config.opens_shared_memory)
    return keep_to_cores(deepen_stacks(command), config.cores)


class TritonServer:
    """One running tritonserver. Use as a context manager, or call `stop`."""

    def __init__(self, config: ServerConfig, environ: Mapping[str, str]) -> None:
        """Starts the process and returns at once. Raises SettingError for a port in use, UnsupportedError."""
        files = find_server()
        for name in ("http_port", "grpc_port", "metrics_port"):
            check_port_is_free(config.host, getattr(config, name), name)
        place_python_backend(files, config.backend_directory)
        remove_leftovers()
        config.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.config = config
        config.log_file.write_bytes(b"")
        # Backends ask other models, and for Triton's own queues, at the server's own ports.
        own = {
            "TRIREME_HOST": config.host,
            "TRIREME_GRPC_PORT": str(config.grpc_port),
            "TRIREME_METRICS_PORT": str(config.metrics_port),
        }
        command = server_command(config, files)
        self._process = start_process(command, server_environment(files, {**environ, **own}), config.log_file)

    def __enter__(self) -> TritonServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of tritonserver."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the process lives. Does not block."""
        return self._process.poll() is None

    def was_killed(self) -> bool:
        """Whether it ended by a signal and not by itself."""
        return (self._process.poll() or 0) < 0

    def is_ready(self) -> bool:
        """Whether every model is loaded and every port is served. Blocks at most two seconds."""
        host = self.config.host
        url = f"http://{host}:{self.config.http_port}/v2/health/ready"
        try:
            # The server opens the port of its metrics last, when it has said that it is ready.
            with (
                urllib.request.urlopen(url, timeout=1),
                socket.create_connection((host, self.config.metrics_port), timeout=1),
            ):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def has_started(self) -> bool:
        """As `is_ready`. Raises UnavailableError with the server's own reasons where it ended."""
        if not self.is_running():
            raise UnavailableError(f"tritonserver stopped while starting: {self._reasons()}")
        return self.is_ready()

    def wait_until_ready(self, timeout: float = 120.0) -> None:
        """Blocks until it is ready. Raises UnavailableError with the server's own reasons."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.has_started():
                return
            time.sleep(0.1)
        raise UnavailableError(f"tritonserver was not ready within {timeout:.0f} s: {self._reasons()}")

    def stop(self) -> None:
        """Ends the server and its stubs; blocks until they are gone. Safe to call twice."""
        end_process(self._process, STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Ends the server and its stubs at once, and removes what they leave. Safe to call twice."""
        # Stubs share the server's session; one that outlived it must not keep the database busy.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        remove_leftovers()

    def _reasons(self) -> str:
        lines = self.config.log_file.read_text(errors="replace").splitlines()
        marks = ("TritonModelException:", "failed to load", "error: ", "Invalid argument", "while loading")
        reasons = [line.strip() for line in lines if any(mark in line for mark in marks)]
        return "; ".join(reasons[-3:] or lines[-3:]) + f" (log: {self.config.log_file})"


def end_leftover(note: Path, name: str = SERVER_NAME) -> None:
    """Ends the process whose id `note` holds, if its program is `name`: its supervisor was killed before it.

    Blocks until it is gone. Does nothing where the process is another one by now, or gone.
    """
    try:
        pid = int(note.read_text())
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return
    if Path(os.fsdecode(arguments[0])).name != name:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        # It leads its own session, which its stubs share.
        os.killpg(pid, signal.SIGKILL)
    deadline = time.monotonic() + STOP_SECONDS
    while not has_ended(pid) and time.monotonic() < deadline:
        time.sleep(0.05)


def shell_exports(environ: Mapping[str, str]) -> str:
    """Lines for `eval` in a shell, after which `tritonserver` is a command."""
    prepared = server_environment(find_server(), environ)
    return "\n".join(
        f"export {key}={shlex.quote(prepared[key])}"
        for key in ("PATH", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX")
    )


def check_port_is_free(host: str, port: int, name: str) -> None:
    """Raises SettingError, which names the setting `name`, where nobody can listen on host:port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingError(
                f"cannot listen on {host}:{port} ({error.strerror});"
                f" set TRIREME_{name.upper()} to a free port"
            ) from None
