import http.server
import socket
import sys
import threading
import types

import pytest

from trireme.errors import SettingError, UnsupportedError
from trireme.triton import server
from trireme.triton.server import ServerConfig, TritonServer, find_server, server_command, server_environment


def config(tmp_path, **changes):
    values = {
        "host": "127.0.0.1",
        "http_port": 18000,
        "grpc_port": 18001,
        "metrics_port": 18002,
        "model_repository": tmp_path / "models",
        "backend_directory": tmp_path / "backends",
        "log_file": tmp_path / "log",
    }
    return ServerConfig(**(values | changes))


def test_every_endpoint_binds_to_the_host_of_the_settings(tmp_path):
    command = server_command(config(tmp_path), find_server())
    for endpoint in ("http", "grpc", "metrics"):
        assert f"--{endpoint}-address=127.0.0.1" in command


def test_the_response_cache_is_off_unless_it_has_a_size(tmp_path):
    assert not any(word.startswith("--cache") for word in server_command(config(tmp_path), find_server()))
    command = server_command(config(tmp_path, response_cache_bytes=1 << 20), find_server())
    assert "--cache-config=local,size=1048576" in command


def test_nobody_can_change_the_server_or_map_its_memory_over_the_network(tmp_path):
    first, second = (server_command(config(tmp_path), find_server()) for _ in range(2))
    locks = [word for word in first if "restricted" in word]
    assert [word.split("=", 1)[0] for word in locks] == [
        "--http-restricted-api",
        "--grpc-restricted-protocol",
    ]
    for lock in locks:
        assert lock.split("=", 1)[1].startswith("shared-memory,trace,logging:trireme-locked=")
        assert lock not in second


def test_the_stubs_find_this_interpreter_first():
    from pathlib import Path

    prepared = server_environment(find_server(), {"PATH": "/bin", "HOME": "/tmp"})
    assert prepared["PATH"].startswith(f"{Path(sys.executable).parent}:")
    assert prepared["HOME"] == "/tmp"
    assert "nvidia_pytriton.libs" in prepared["LD_LIBRARY_PATH"]


def test_a_missing_wheel_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UnsupportedError, match=r"trireme\[local\]"):
        find_server()


def test_a_missing_libpython_is_named_with_the_package_that_has_it(monkeypatch):
    def no_library(name):
        raise OSError(name)

    monkeypatch.setattr(server.sysconfig, "get_config_var", {"LIBDIR": "/none"}.get)
    monkeypatch.setattr(server, "ctypes", types.SimpleNamespace(CDLL=no_library))
    with pytest.raises(UnsupportedError, match="apt-get install libpython3"):
        server_environment(find_server(), {})


def test_a_port_in_use_is_named_by_its_setting(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match="TRIREME_HTTP_PORT"):
            TritonServer(config(tmp_path, http_port=port), {})


class Healthy(http.server.BaseHTTPRequestHandler):
    """Says that the server is ready."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_server_whose_metrics_are_not_served_yet_is_not_ready(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "start_process", lambda *_: None)
    monkeypatch.setattr(server, "place_python_backend", lambda *_: None)
    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as health, socket.socket() as metrics:
        metrics.bind(("127.0.0.1", 0))
        monkeypatch.setattr(server, "check_port_is_free", lambda *_: None)
        ports = {"http_port": health.server_port, "metrics_port": metrics.getsockname()[1]}
        started = TritonServer(config(tmp_path, **ports), {})
        thread = threading.Thread(target=health.serve_forever)
        thread.start()
        try:
            assert not started.is_ready()
            metrics.listen()
            assert started.is_ready()
        finally:
            health.shutdown()
            thread.join()
