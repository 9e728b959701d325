"""What a stack starts beside tritonserver, and starts again; tests/e2e has the whole of it."""

import os
import signal
import socket
import time
from contextlib import closing
from pathlib import Path

from trireme.settings import Settings
from trireme.stack import Stack


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(url, command):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(url.removeprefix("unix://"))
        client.sendall(command)
        return client.recv(100)


class Stopped:
    """Ends a stack that was never entered."""

    def __init__(self, stack):
        self.stack = stack

    def close(self):
        self.stack.stop()


def test_the_embedded_valkey_is_started_again_at_its_urls_and_stopped_with_the_stack(tmp_path):
    stack = Stack(Settings(data_dir=tmp_path), has_gateway=True)
    with closing(Stopped(stack)):
        stack.start_cache()
        urls = (stack.redis_url, stack.cache_url)
        assert urls[0] != urls[1]
        assert ask(urls[0], b"SET spent 7\r\n") == b"+OK\r\n"
        os.kill(int((tmp_path / "valkey" / "budget" / "pid").read_text()), signal.SIGKILL)
        wait_until(lambda: not stack.valkey.is_running())
        notices = []
        stack.look_after(notices.append)
        assert notices == ["The embedded Valkey ended; starting it again."]
        assert stack.valkey.is_running()
        stack.look_after(notices.append)
        assert len(notices) == 1
        assert (stack.redis_url, stack.cache_url) == urls
        assert ask(urls[0], b"GET spent\r\n") == b"$1\r\n7\r\n"
    assert not stack.valkey.is_running()


def test_a_server_that_cannot_be_started_now_is_tried_again_and_keeps_nobody_else_waiting(tmp_path):
    stack = Stack(Settings(data_dir=tmp_path), has_gateway=True)
    with closing(Stopped(stack)):
        stack.start_cache()
        manifest = tmp_path / "valkey" / "budget" / "appendonlydir" / "appendonly.aof.manifest"
        whole = manifest.read_bytes()
        os.kill(int((tmp_path / "valkey" / "budget" / "pid").read_text()), signal.SIGKILL)
        wait_until(lambda: not stack.valkey.is_running())
        manifest.write_bytes(b"nonsense\n")
        notices = []
        stack.look_after(notices.append)
        assert "Valkey cannot be started" in notices[-1]
        manifest.write_bytes(whole)
        stack.look_after(notices.append)
        assert stack.valkey.is_running()


def test_a_store_of_ones_own_is_used_and_none_is_started():
    settings = Settings(data_dir=Path("/nonexistent"), redis_url="redis://there")
    stack = Stack(settings, has_gateway=True)
    stack.start_cache()
    assert stack.valkey is None
    assert (stack.redis_url, stack.cache_url) == ("redis://there", "redis://there")
    other = Stack(Settings(redis_url="redis://there", cache_url="redis://cache"), has_gateway=True)
    assert other.cache_url == "redis://cache"
