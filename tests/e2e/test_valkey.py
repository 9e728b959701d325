"""Valkey under a whole stack: killed, it is back with what it was told, and the gateway alone knows where it is."""

import os
import signal
import socket
from pathlib import Path

import pytest
from stacks import link_models, settings_on_free_ports, wait_until

from trireme.stack import Stack


def ask(url, command):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(url.removeprefix("unix://"))
        client.sendall(command)
        return client.recv(100)


def variables_of(pid):
    return dict(
        row.split("=", 1) for row in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in row
    )


@pytest.mark.timeout(300)
def test_killed_servers_are_back_under_a_stack_and_the_gateway_alone_has_their_urls(tmp_path):
    settings = settings_on_free_ports(
        tmp_path, model_repository=link_models(tmp_path / "models", ["embedding"])
    )
    with Stack(settings, has_gateway=True) as stack:
        stack.start_gateway()
        gateway = variables_of(stack.gateway.pid)
        assert gateway["TRIREME_REDIS_URL"] == stack.redis_url
        assert gateway["TRIREME_CACHE_URL"] == stack.cache_url
        assert not {"TRIREME_REDIS_URL", "TRIREME_CACHE_URL"} & variables_of(stack.server.pid).keys()
        ask(stack.redis_url, b"SET spent 7\r\n")
        pids = [int((tmp_path / "valkey" / name / "pid").read_text()) for name in ("budget", "cache")]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not stack.valkey.is_running())
        stack.look_after(lambda _: None)
        assert stack.valkey.is_running()
        assert ask(stack.redis_url, b"GET spent\r\n") == b"$1\r\n7\r\n"
        assert ask(stack.cache_url, b"PING\r\n") == b"+PONG\r\n"
    assert not stack.valkey.is_running()
